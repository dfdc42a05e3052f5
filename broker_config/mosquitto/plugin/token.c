#include "token.h"

#include <stdlib.h>
#include <string.h>

/* Bytes: bounds the work that an unauthenticated peer can cause. */
#define TOKEN_LIMIT 8192
#define CLIENT_ID_LIMIT 256
/* Seconds since 1970, which a double holds exactly. */
#define TIME_LIMIT 1e15

enum presence { ABSENT, PRESENT, MALFORMED };

/* A time in seconds; fractions, which RFC 7519 allows, are cut off. Every other JSON type is malformed. */
static enum presence time_claim(jwt_t *jwt, const char *name, time_t *value)
{
    char *json = jwt_get_grants_json(jwt, name);
    enum presence presence = ABSENT;

    if (json) {
        char *end = NULL;
        double seconds = strtod(json, &end);

        presence = MALFORMED;
        if (end != json && *end == '\0' && seconds > -TIME_LIMIT && seconds < TIME_LIMIT) {
            *value = (time_t)seconds;
            presence = PRESENT;
        }
        free(json);
    }
    return presence;
}

/* A claim of text; the value belongs to the token. Every other JSON type is malformed. */
static enum presence text_claim(jwt_t *jwt, const char *name, const char **value)
{
    *value = jwt_get_grant(jwt, name);
    if (*value) {
        return PRESENT;
    }
    char *json = jwt_get_grants_json(jwt, name);
    enum presence presence = json ? MALFORMED : ABSENT;

    free(json);
    return presence;
}

/*
 * Whether a JSON array, as the library writes it, has the text among its elements. `wanted` has no character that
 * JSON escapes, so an element with an escape is another one.
 */
static bool array_has_text(const char *json, const char *wanted)
{
    size_t wanted_length = strlen(wanted);
    int depth = 0;

    for (const char *at = json; *at != '\0'; at++) {
        if (*at == '[' || *at == '{') {
            depth++;
        } else if (*at == ']' || *at == '}') {
            depth--;
        } else if (*at == '"') {
            const char *text = ++at;

            while (*at != '"' && *at != '\0') {
                at += *at == '\\' && at[1] != '\0' ? 2 : 1;
            }
            if (*at == '\0') {
                return false;
            }
            if (depth == 1 && (size_t)(at - text) == wanted_length && memcmp(text, wanted, wanted_length) == 0) {
                return true;
            }
        }
    }
    return false;
}

static bool audience_matches(jwt_t *jwt, const char *wanted)
{
    const char *audience = jwt_get_grant(jwt, "aud");

    if (audience) {
        return strcmp(audience, wanted) == 0;
    }
    char *json = jwt_get_grants_json(jwt, "aud");
    bool matches = json && json[0] == '[' && array_has_text(json, wanted);

    free(json);
    return matches;
}

static const char *times_refusal(jwt_t *jwt, time_t now, time_t *expires_at)
{
    time_t not_before;

    if (time_claim(jwt, "exp", expires_at) != PRESENT) {
        return "the token has no proper exp";
    }
    if (*expires_at <= now - TOKEN_LEEWAY) {
        return "the token has expired";
    }
    switch (time_claim(jwt, "nbf", &not_before)) {
    case ABSENT:
        return NULL;
    case PRESENT:
        return not_before > now + TOKEN_LEEWAY ? "the token is not valid yet" : NULL;
    case MALFORMED:
        break;
    }
    return "the token has no proper nbf";
}

static const char *scope_refusal(jwt_t *jwt, const struct token_rules *rules)
{
    const char *issuer;

    if (rules->audience && !audience_matches(jwt, rules->audience)) {
        return "the token is for another audience";
    }
    if (rules->issuer && (text_claim(jwt, "iss", &issuer) != PRESENT || strcmp(issuer, rules->issuer) != 0)) {
        return "the token is of another issuer";
    }
    return NULL;
}

static const char *bearer_refusal(jwt_t *jwt, struct token_claims *claims)
{
    const char *subject;
    const char *role;

    if (text_claim(jwt, "sub", &subject) != PRESENT) {
        return "the token has no sub";
    }
    if (!user_id_is_valid(subject, strlen(subject))) {
        return "the token's sub is no valid user id";
    }
    strcpy(claims->subject, subject);

    claims->role = ROLE_USER;
    switch (text_claim(jwt, "role", &role)) {
    case ABSENT:
        return NULL;
    case PRESENT:
        if (role_from_name(role, strlen(role), &claims->role)) {
            return NULL;
        }
        break;
    case MALFORMED:
        break;
    }
    return "the token's role is unknown";
}

static const char *client_id_refusal(jwt_t *jwt, const struct token_rules *rules, const struct token_claims *claims,
                                     const char *client_id)
{
    const char *subject = claims->subject;
    size_t subject_length = strlen(subject);
    const char *bound_id;

    if (strlen(client_id) > CLIENT_ID_LIMIT) {
        return "the client id is too long";
    }
    if (strncmp(client_id, subject, subject_length) != 0 || client_id[subject_length] != ':') {
        return "the client id does not start with the token's sub and a colon";
    }
    if (client_id[subject_length + 1] == '\0') {
        return "the client id has no device part";
    }
    switch (text_claim(jwt, "cid", &bound_id)) {
    case ABSENT:
        return rules->requires_cid && claims->role == ROLE_USER ? "the token has no cid" : NULL;
    case PRESENT:
        if (strcmp(bound_id, client_id) == 0) {
            return NULL;
        }
        break;
    case MALFORMED:
        break;
    }
    return "the token is for another client id";
}

/*
 * Three parts of base64url, none empty. libjwt 1.10 writes past its buffer for an empty part, and takes every byte for
 * a character of base64.
 */
static bool is_compact(const char *token)
{
    static const char CHARACTERS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    for (int part = 1; part <= 3; part++) {
        size_t length = strspn(token, CHARACTERS);

        token += length;
        if (length == 0 || *token != (part < 3 ? '.' : '\0')) {
            return false;
        }
        token++;
    }
    return true;
}

const char *token_refusal(const struct token_rules *rules, const char *token, const char *client_id, time_t now,
                          struct token_claims *claims)
{
    jwt_t *jwt = NULL;

    if (strlen(token) > TOKEN_LIMIT) {
        return "the password is too long for a token";
    }
    if (!is_compact(token)) {
        return "the password is no token";
    }
    if (jwt_decode(&jwt, token, rules->key, rules->key_length) != 0) {
        return "the token does not verify";
    }
    /* The library takes the algorithm from the header. With a public key as the secret of HS256 the signature
     * verifies, so nothing counts before this. */
    const char *refusal = jwt_get_alg(jwt) == rules->algorithm ? NULL : "the token has another algorithm";

    if (!refusal) {
        refusal = times_refusal(jwt, now, &claims->expires_at);
    }
    if (!refusal) {
        refusal = scope_refusal(jwt, rules);
    }
    if (!refusal) {
        refusal = bearer_refusal(jwt, claims);
    }
    if (!refusal) {
        refusal = client_id_refusal(jwt, rules, claims, client_id);
    }
    jwt_free(jwt);
    return refusal;
}
