#include "options.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_TOPIC_ROOT "chat/v1"
#define DEFAULT_COMMANDS_PER_SECOND 1000
#define DEFAULT_WAITING_COMMANDS 10000
#define LARGEST_RATE 1000000
/* Twice as many commands must fit into max_queued_messages and, 4 KiB each, into max_queued_bytes. */
#define MOST_WAITING_COMMANDS 30000
#define KEY_FILE_LIMIT 16384
/* RFC 7518, section 3.2: as many bytes as the hash has. */
#define SECRET_MINIMUM 32

struct texts {
    const char *algorithm;
    const char *secret;
    const char *secret_file;
    const char *public_key_file;
    const char *audience;
    const char *issuer;
    const char *require_cid;
    const char *topic_root;
    const char *commands_per_second;
    const char *waiting_commands;
};

struct problem {
    char *text;
    size_t size;
};

/* Notes what is wrong, for the operator. Always false. */
__attribute__((format(printf, 2, 3))) static bool wrong(struct problem problem, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(problem.text, problem.size, format, arguments);
    va_end(arguments);
    return false;
}

static bool collect(const struct mosquitto_opt *given, int count, struct texts *texts, struct problem problem)
{
    const struct {
        const char *name;
        const char **value;
    } known[] = {
        {"jwt_algorithm", &texts->algorithm},
        {"jwt_secret", &texts->secret},
        {"jwt_secret_file", &texts->secret_file},
        {"jwt_public_key_file", &texts->public_key_file},
        {"jwt_audience", &texts->audience},
        {"jwt_issuer", &texts->issuer},
        {"jwt_require_cid", &texts->require_cid},
        {"topic_root", &texts->topic_root},
        {"commands_per_second", &texts->commands_per_second},
        {"waiting_commands", &texts->waiting_commands},
    };
    const size_t known_count = sizeof(known) / sizeof(known[0]);

    for (int i = 0; i < count; i++) {
        size_t k = 0;

        while (k < known_count && strcmp(known[k].name, given[i].key) != 0) {
            k++;
        }
        if (k == known_count) {
            return wrong(problem, "unknown option plugin_opt_%s", given[i].key);
        }
        if (*known[k].value) {
            return wrong(problem, "plugin_opt_%s is given twice", given[i].key);
        }
        *known[k].value = given[i].value;
    }
    return true;
}

static bool copy(const char *text, char **copied, struct problem problem)
{
    *copied = text ? strdup(text) : NULL;
    return *copied || !text || wrong(problem, "out of memory");
}

/* The whole file, terminated, without the line end of its last line. */
static bool read_key(const char *path, struct token_rules *rules, struct problem problem)
{
    FILE *file = fopen(path, "rb");

    if (!file) {
        return wrong(problem, "cannot open %s: %s", path, strerror(errno));
    }
    char *content = calloc(1, KEY_FILE_LIMIT + 1);
    size_t length = content ? fread(content, 1, KEY_FILE_LIMIT + 1, file) : 0;
    bool failed = ferror(file) != 0;

    fclose(file);
    if (!content || failed || length == 0 || length > KEY_FILE_LIMIT || memchr(content, '\0', length)) {
        free(content);
        return wrong(problem, "cannot use %s: it must be a text of 1 to %d bytes", path, KEY_FILE_LIMIT);
    }
    if (length > 1 && content[length - 1] == '\n') {
        content[--length] = '\0';
    }
    if (length > 1 && content[length - 1] == '\r') {
        content[--length] = '\0';
    }
    rules->key = (unsigned char *)content;
    rules->key_length = (int)length;
    return true;
}

static bool read_secret(const struct texts *texts, struct token_rules *rules, struct problem problem)
{
    if (texts->public_key_file) {
        return wrong(problem, "plugin_opt_jwt_public_key_file is not for HS256");
    }
    if (!texts->secret == !texts->secret_file) {
        return wrong(problem, "HS256 needs either plugin_opt_jwt_secret or plugin_opt_jwt_secret_file");
    }
    if (texts->secret_file) {
        if (!read_key(texts->secret_file, rules, problem)) {
            return false;
        }
    } else {
        char *secret;

        if (!copy(texts->secret, &secret, problem)) {
            return false;
        }
        rules->key = (unsigned char *)secret;
        rules->key_length = (int)strlen(secret);
    }
    if (rules->key_length < SECRET_MINIMUM) {
        return wrong(problem, "the secret has %d bytes, but HS256 needs %d", rules->key_length, SECRET_MINIMUM);
    }
    return true;
}

static bool read_public_key(const struct texts *texts, struct token_rules *rules, struct problem problem)
{
    if (texts->secret || texts->secret_file) {
        return wrong(problem, "a secret is only for HS256, not for %s", texts->algorithm);
    }
    if (!texts->public_key_file) {
        return wrong(problem, "%s needs plugin_opt_jwt_public_key_file", texts->algorithm);
    }
    if (!read_key(texts->public_key_file, rules, problem)) {
        return false;
    }
    if (!strstr((char *)rules->key, "-----BEGIN PUBLIC KEY-----")) {
        return wrong(problem, "%s holds no public key in PEM", texts->public_key_file);
    }
    return true;
}

static bool read_algorithm(const struct texts *texts, struct token_rules *rules, struct problem problem)
{
    if (!texts->algorithm) {
        return wrong(problem, "plugin_opt_jwt_algorithm is missing; it is HS256, RS256 or ES256");
    }
    if (strcmp(texts->algorithm, "HS256") == 0) {
        rules->algorithm = JWT_ALG_HS256;
        return read_secret(texts, rules, problem);
    }
    if (strcmp(texts->algorithm, "RS256") == 0) {
        rules->algorithm = JWT_ALG_RS256;
        return read_public_key(texts, rules, problem);
    }
    if (strcmp(texts->algorithm, "ES256") == 0) {
        rules->algorithm = JWT_ALG_ES256;
        return read_public_key(texts, rules, problem);
    }
    return wrong(problem, "plugin_opt_jwt_algorithm is HS256, RS256 or ES256, not %s", texts->algorithm);
}

static bool read_scope(const struct texts *texts, struct token_rules *rules, struct problem problem)
{
    if (texts->audience && strpbrk(texts->audience, "\"\\")) {
        return wrong(problem, "plugin_opt_jwt_audience has a quote or a backslash");
    }
    rules->requires_cid = texts->require_cid && strcmp(texts->require_cid, "true") == 0;
    if (texts->require_cid && !rules->requires_cid && strcmp(texts->require_cid, "false") != 0) {
        return wrong(problem, "plugin_opt_jwt_require_cid is true or false, not %s", texts->require_cid);
    }
    return copy(texts->audience, &rules->audience, problem) && copy(texts->issuer, &rules->issuer, problem);
}

static bool read_topic_root(const struct texts *texts, char **topic_root, struct problem problem)
{
    const char *root = texts->topic_root ? texts->topic_root : DEFAULT_TOPIC_ROOT;
    size_t length = strlen(root);

    if (length == 0 || root[0] == '$' || root[0] == '/' || root[length - 1] == '/' || strpbrk(root, "+#")) {
        return wrong(problem, "plugin_opt_topic_root is no topic such as " DEFAULT_TOPIC_ROOT ": %s", root);
    }
    return copy(root, topic_root, problem);
}

static bool read_number(const char *name, const char *text, uint32_t otherwise, uint32_t largest, uint32_t *number,
                        struct problem problem)
{
    char *end;

    if (!text) {
        *number = otherwise;
        return true;
    }
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);

    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value > largest) {
        return wrong(problem, "plugin_opt_%s is a number from 0 to %u, not %s", name, largest, text);
    }
    *number = (uint32_t)value;
    return true;
}

bool options_read(const struct mosquitto_opt *given, int count, struct options *options, char *problem, size_t size)
{
    struct texts texts = {0};
    struct problem report = {.text = problem, .size = size};

    *options = (struct options){0};
    return collect(given, count, &texts, report) && read_algorithm(&texts, &options->token_rules, report)
           && read_scope(&texts, &options->token_rules, report)
           && read_topic_root(&texts, &options->topic_root, report)
           && read_number("commands_per_second", texts.commands_per_second, DEFAULT_COMMANDS_PER_SECOND,
                          LARGEST_RATE, &options->commands_per_second, report)
           && read_number("waiting_commands", texts.waiting_commands, DEFAULT_WAITING_COMMANDS,
                          MOST_WAITING_COMMANDS, &options->waiting_commands, report);
}

void options_free(struct options *options)
{
    free(options->token_rules.key);
    free(options->token_rules.audience);
    free(options->token_rules.issuer);
    free(options->topic_root);
}
