#include "limits.h"

#include "backlog.h"
#include "rates.h"
#include "refusals.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Who is refused more often than that is cut off, and let in again after that time. */
#define REFUSALS_PER_SECOND 500
#define REFUSALS_BURST_S 2
#define HELD_US INT64_C(10000000)
/* Refusals of which a user is told by an event; of the others the PUBACK tells. */
#define TOLD_PER_SECOND 2
#define TOLD_BURST_S 2
#define COMMANDS_BURST_S 2
/* Filters that a user's devices subscribe to or unsubscribe from: each is one at every connect. */
#define FILTERS_PER_SECOND 10
#define FILTERS_BURST_S 100
/* Connects of a user's devices: each may leave a will behind, and wills are not commands to the broker. */
#define CONNECTS_PER_SECOND 20
#define CONNECTS_BURST_S 100
#define LINES_PER_SECOND 10
#define LINES_BURST_S 50

/* Name of the user property that carries a stamp to the service. */
#define STAMP_NAME "backlog"

struct limits {
    const char *topic_root;
    struct rates *commands; /* NULL: not limited */
    struct rates *refusals;
    struct rates *told;
    struct rates *filters;
    struct rates *connects;
    struct rates *lines; /* of the log, of one kind */
    /* By whether they are at QoS 0, where they pass by what waits at QoS 1. NULL: not limited. */
    struct backlog *backlogs[2];
};

struct limits *limits_new(const struct options *options)
{
    struct limits *limits = calloc(1, sizeof(*limits));

    if (!limits) {
        return NULL;
    }
    limits->topic_root = options->topic_root;
    limits->refusals = rates_new(REFUSALS_PER_SECOND, REFUSALS_BURST_S);
    limits->told = rates_new(TOLD_PER_SECOND, TOLD_BURST_S);
    limits->filters = rates_new(FILTERS_PER_SECOND, FILTERS_BURST_S);
    limits->connects = rates_new(CONNECTS_PER_SECOND, CONNECTS_BURST_S);
    limits->lines = rates_new(LINES_PER_SECOND, LINES_BURST_S);
    if (options->commands_per_second > 0) {
        limits->commands = rates_new(options->commands_per_second, COMMANDS_BURST_S);
    }
    for (int i = 0; i < 2 && options->waiting_commands > 0; i++) {
        limits->backlogs[i] = backlog_new(options->waiting_commands);
    }
    if (!limits->refusals || !limits->told || !limits->filters || !limits->connects || !limits->lines
        || (!limits->commands && options->commands_per_second)
        || ((!limits->backlogs[0] || !limits->backlogs[1]) && options->waiting_commands)) {
        limits_free(limits);
        return NULL;
    }
    return limits;
}

void limits_free(struct limits *limits)
{
    if (!limits) {
        return;
    }
    rates_free(limits->commands);
    rates_free(limits->refusals);
    rates_free(limits->told);
    rates_free(limits->filters);
    rates_free(limits->connects);
    rates_free(limits->lines);
    backlog_free(limits->backlogs[0]);
    backlog_free(limits->backlogs[1]);
    free(limits);
}

static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void limits_log(struct limits *limits, const char *kind, const char *format, ...)
{
    char line[1024];
    va_list arguments;

    if (rates_pass(limits->lines, kind, now_us())) {
        va_start(arguments, format);
        vsnprintf(line, sizeof(line), format, arguments);
        va_end(arguments);
        mosquitto_log_printf(MOSQ_LOG_NOTICE, PLUGIN_NAME ": %s", line);
    }
}

bool limits_is_held(const struct limits *limits, const char *user)
{
    return limits->commands && rates_is_held(limits->commands, user, now_us());
}

bool limits_on_connect(struct limits *limits, const char *user)
{
    return rates_pass(limits->connects, user, now_us());
}

bool limits_cut_off(struct limits *limits, const char *user, const struct mosquitto *client)
{
    const int64_t now = now_us();

    if (!limits->commands
        || (!rates_is_held(limits->commands, user, now) && rates_pass(limits->refusals, user, now))) {
        return false;
    }
    rates_hold(limits->commands, user, now + HELD_US);
    limits_log(limits, "cut off", "disconnecting client %.300s: it goes on publishing what is refused",
               client_id_of(client));
    return true;
}

bool limits_on_filter(struct limits *limits, const char *user, const struct mosquitto *client)
{
    if (rates_pass(limits->filters, user, now_us())) {
        return true;
    }
    limits_log(limits, "filters", "disconnecting client %.300s: its user subscribes without an end", client_id_of(client));
    return false;
}

static void tell(struct limits *limits, const char *user, const struct mosquitto_evt_message *event, const char *code,
                 int64_t wait_ms, int64_t now)
{
    if (rates_pass(limits->told, user, now)) {
        /* Not all at the same time. */
        wait_ms += wait_ms * (random() % 512) / 1024 + 1;
        refusals_publish(limits->topic_root, user, event, code, (uint32_t)wait_ms);
    }
}

/* Refused here, a flood does not reach the queue of commands, which all users share and from which the broker drops
 * what is too much without a word. */
static int refuse_flood(struct limits *limits, const char *user, const struct mosquitto_evt_message *event, int64_t now)
{
    if (limits_cut_off(limits, user, event->client)) {
        return ENDS_THE_CONNECTION;
    }
    limits_log(limits, "flood", "client %.300s publishes more than its user may", client_id_of(event->client));
    tell(limits, user, event, "RATE_LIMITED", rates_wait_us(limits->commands, user, now) / 1000, now);
    return REFUSED_AS_TOO_MUCH;
}

static bool is_message(const char *topic)
{
    return strcmp(strrchr(topic, '/') + 1, "sendMessage") == 0;
}

static bool carries_stamp(const mosquitto_property *properties)
{
    char *name;
    char *value;
    bool is_found = false;
    const mosquitto_property *found = mosquitto_property_read_string_pair(properties, MQTT_PROP_USER_PROPERTY, &name,
                                                                          &value, false);

    while (found && !is_found) {
        /* 2.1 gives NULL for an empty text. */
        is_found = name && strcmp(name, STAMP_NAME) == 0;
        free(name);
        free(value);
        found = is_found ? NULL
                         : mosquitto_property_read_string_pair(found, MQTT_PROP_USER_PROPERTY, &name, &value, true);
    }
    return is_found;
}

int limits_on_command(struct limits *limits, const char *user, struct mosquitto_evt_message *event)
{
    const int64_t now = now_us();
    char stamp[STAMP_SIZE];

    if (limits->commands && !rates_pass(limits->commands, user, now)) {
        return refuse_flood(limits, user, event, now);
    }
    if (event->properties && carries_stamp(event->properties)) {
        limits_log(limits, "stamp", "client %.300s uses a user property that is the broker's",
                   client_id_of(event->client));
        return MOSQ_ERR_ACL_DENIED;
    }
    struct backlog *backlog = limits->backlogs[event->qos == 0];

    if (!backlog) {
        return MOSQ_ERR_SUCCESS;
    }
    switch (backlog_take(backlog, is_message(event->topic), event->payloadlen, now, stamp)) {
    case BACKLOG_REFUSED:
        limits_log(limits, "busy", "client %.300s and others are refused: too much waits for the service",
                   client_id_of(event->client));
        tell(limits, user, event, "BUSY", backlog_wait_ms(backlog), now);
        return REFUSED_AS_TOO_MUCH;
    case BACKLOG_STAMPED:
        /* Without memory for it: a later one carries one, too. */
        mosquitto_property_add_string_pair(&event->properties, MQTT_PROP_USER_PROPERTY, STAMP_NAME, stamp);
        break;
    case BACKLOG_TAKEN:
        break;
    }
    return MOSQ_ERR_SUCCESS;
}

void limits_on_stamp(struct limits *limits, const struct mosquitto_evt_message *event)
{
    const int64_t now = now_us();

    for (int i = 0; i < 2 && limits->backlogs[i]; i++) {
        backlog_report(limits->backlogs[i], event->payload, event->payloadlen, now);
    }
}

void limits_service_connects(struct limits *limits)
{
    for (int i = 0; i < 2 && limits->backlogs[i]; i++) {
        backlog_service_connects(limits->backlogs[i]);
    }
}
