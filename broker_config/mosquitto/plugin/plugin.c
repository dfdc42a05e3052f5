/*
 * Mosquitto plugin: a JWT as the password decides who a client is, what it may do and until when.
 *
 * After CONNECT the client's username is `role:sub`. The broker keeps it with the session, also on disk, so access
 * checks need no state of ours and stay right for clients that are away: queueing for them is checked too.
 */
#include "backlog.h"
#include "broker.h"
#include "expiries.h"
#include "options.h"
#include "rates.h"
#include "refusals.h"
#include "token.h"
#include "topics.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NAME "jwt_access"
#define PUBLIC __attribute__((visibility("default")))

/* Who is refused more often than that is cut off, and let in again after that time. */
#define REFUSALS_PER_SECOND 500
#define REFUSALS_BURST_S 2
#define HELD_US INT64_C(10000000)
/* Refusals of which a user is told by an event; of the others the PUBACK tells. */
#define TOLD_PER_SECOND 2
#define TOLD_BURST_S 2
#define COMMANDS_BURST_S 2
#define LINES_PER_SECOND 10
#define LINES_BURST_S 50

/* Name of the user property that carries a stamp to the service. */
#define STAMP_NAME "backlog"

struct plugin {
    mosquitto_plugin_id_t *identifier;
    struct options options;
    struct expiries *expiries;
    struct rates *commands; /* NULL: not limited */
    struct rates *refusals;
    struct rates *told;
    struct rates *lines; /* of the log, of one kind */
    /* By whether they are at QoS 0, where they pass by what waits at QoS 1. NULL: not limited. */
    struct backlog *backlogs[2];
};

static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static const char *client_id_of(const struct mosquitto *client)
{
    const char *client_id = mosquitto_client_id(client);

    return client_id ? client_id : "";
}

static const char *address_of(const struct mosquitto *client)
{
    const char *address = mosquitto_client_address(client);

    return address ? address : "an unknown address";
}

/* The username must be absent, empty or the token's sub. At a reload of its configuration the broker asks again for
 * the clients that are connected, and these have the username that we gave them. */
static bool username_fits(const struct plugin *plugin, const struct mosquitto_evt_basic_auth *event,
                          const char *subject, const char *our_username)
{
    if (!event->username || event->username[0] == '\0' || strcmp(event->username, subject) == 0) {
        return true;
    }
    return strcmp(event->username, our_username) == 0
           && expiries_has(plugin->expiries, client_id_of(event->client), event->client);
}

/* NULL, or why the client is refused; `rc` is what the broker is told then. */
static const char *admit(struct plugin *plugin, struct mosquitto_evt_basic_auth *event, int *rc)
{
    struct token_claims claims;
    char username[USERNAME_SIZE];
    const char *client_id = client_id_of(event->client);

    *rc = MOSQ_ERR_AUTH;
    if (!event->password || event->password[0] == '\0') {
        return "no token as the password";
    }
    const char *refusal = token_refusal(&plugin->options.token_rules, event->password, client_id, time(NULL), &claims);

    if (refusal) {
        return refusal;
    }
    if (claims.role == ROLE_USER && plugin->commands && rates_is_held(plugin->commands, claims.subject, now_us())) {
        *rc = REFUSED_FOR_A_WHILE;
        return "its user was cut off for publishing too much";
    }
    caller_to_username(&(struct caller){.role = claims.role, .subject = claims.subject}, username, sizeof(username));
    if (!username_fits(plugin, event, claims.subject, username)) {
        return "the username is not the token's sub";
    }
    if (mosquitto_set_username(event->client, username) != MOSQ_ERR_SUCCESS) {
        return "the broker cannot set the username";
    }
    if (!expiries_put(plugin->expiries, client_id, event->client, claims.expires_at)) {
        return "out of memory";
    }
    for (int i = 0; i < 2 && claims.role == ROLE_SERVICE && plugin->backlogs[i]; i++) {
        backlog_service_connects(plugin->backlogs[i]);
    }
    return NULL;
}

static int on_basic_auth(int event_number, void *event_data, void *userdata)
{
    struct mosquitto_evt_basic_auth *event = event_data;
    int rc;
    const char *refusal = admit(userdata, event, &rc);

    (void)event_number;
    if (refusal) {
        mosquitto_log_printf(MOSQ_LOG_NOTICE, NAME ": refused client %.300s from %s: %s", client_id_of(event->client),
                             address_of(event->client), refusal);
        return rc;
    }
    return MOSQ_ERR_SUCCESS;
}

/* Of each kind of line some a second: no client may fill the log. */
__attribute__((format(printf, 3, 4))) static void log_some(struct plugin *plugin, const char *kind, const char *format,
                                                          ...)
{
    char line[1024];
    va_list arguments;

    if (rates_pass(plugin->lines, kind, now_us())) {
        va_start(arguments, format);
        vsnprintf(line, sizeof(line), format, arguments);
        va_end(arguments);
        mosquitto_log_printf(MOSQ_LOG_NOTICE, NAME ": %s", line);
    }
}

/* Counts a refused publication of a user. When it is one too many, the user is held and the connection ends: to go on
 * reading what does not end would take the broker's time from all. */
static bool cut_off(struct plugin *plugin, const char *user, const struct mosquitto *client, int64_t now)
{
    if (!plugin->commands
        || (!rates_is_held(plugin->commands, user, now) && rates_pass(plugin->refusals, user, now))) {
        return false;
    }
    rates_hold(plugin->commands, user, now + HELD_US);
    log_some(plugin, "cut off", "disconnecting client %.300s: it goes on publishing what is refused",
             client_id_of(client));
    return true;
}

static bool may(const struct plugin *plugin, const struct mosquitto_evt_acl_check *event)
{
    const char *root = plugin->options.topic_root;
    struct caller caller;

    if (!event->topic || !caller_from_username(mosquitto_client_username(event->client), &caller)) {
        return false;
    }
    switch (event->access) {
    case MOSQ_ACL_READ:
        return topic_is_allowed(root, &caller, ACTION_RECEIVE, event->topic);
    case MOSQ_ACL_WRITE:
        return !event->retain && topic_is_allowed(root, &caller, ACTION_PUBLISH, event->topic);
    case MOSQ_ACL_SUBSCRIBE:
        return topic_is_allowed(root, &caller, ACTION_SUBSCRIBE, event->topic);
    case MOSQ_ACL_UNSUBSCRIBE:
        return true; /* only ever its own subscriptions */
    default:
        return false;
    }
}

static int on_acl_check(int event_number, void *event_data, void *userdata)
{
    const struct mosquitto_evt_acl_check *event = event_data;
    struct plugin *plugin = userdata;
    struct caller caller;

    (void)event_number;
    if (may(plugin, event)) {
        return MOSQ_ERR_SUCCESS;
    }
    if (event->access == MOSQ_ACL_READ) {
        return MOSQ_ERR_ACL_DENIED;
    }
    log_some(plugin, "refused", "refused client %.300s to %s %.300s%s", client_id_of(event->client),
             event->access == MOSQ_ACL_SUBSCRIBE ? "subscribe to" : "publish to", event->topic ? event->topic : "",
             event->retain ? ", retained" : "");
    if (event->access == MOSQ_ACL_WRITE && caller_from_username(mosquitto_client_username(event->client), &caller)
        && caller.role == ROLE_USER && cut_off(plugin, caller.subject, event->client, now_us())) {
        return ENDS_THE_CONNECTION;
    }
    return MOSQ_ERR_ACL_DENIED;
}

static void tell(struct plugin *plugin, const char *user, const struct mosquitto_evt_message *event, const char *code,
                 int64_t wait_ms, int64_t now)
{
    if (rates_pass(plugin->told, user, now)) {
        /* Not all at the same time. */
        wait_ms += wait_ms * (random() % 512) / 1024 + 1;
        refusals_publish(plugin->options.topic_root, user, event, code, (uint32_t)wait_ms);
    }
}

/* Refused here, a flood does not reach the queue of commands, which all users share and from which the broker drops
 * what is too much without a word. */
static int refuse_flood(struct plugin *plugin, const char *user, const struct mosquitto_evt_message *event, int64_t now)
{
    if (cut_off(plugin, user, event->client, now)) {
        return ENDS_THE_CONNECTION;
    }
    log_some(plugin, "flood", "client %.300s publishes more than its user may", client_id_of(event->client));
    tell(plugin, user, event, "RATE_LIMITED", rates_wait_us(plugin->commands, user, now) / 1000, now);
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

/* A command of a user that it may publish: passed on, marked now and then, or refused because there is too much. */
static int on_command(struct plugin *plugin, const char *user, struct mosquitto_evt_message *event)
{
    const int64_t now = now_us();
    char stamp[STAMP_SIZE];

    if (plugin->commands && !rates_pass(plugin->commands, user, now)) {
        return refuse_flood(plugin, user, event, now);
    }
    if (event->properties && carries_stamp(event->properties)) {
        log_some(plugin, "stamp", "client %.300s uses a user property that is the broker's", client_id_of(event->client));
        return MOSQ_ERR_ACL_DENIED;
    }
    struct backlog *backlog = plugin->backlogs[event->qos == 0];

    if (!backlog) {
        return MOSQ_ERR_SUCCESS;
    }
    switch (backlog_take(backlog, is_message(event->topic), event->payloadlen, now, stamp)) {
    case BACKLOG_REFUSED:
        log_some(plugin, "busy", "client %.300s and others are refused: too much waits for the service",
                 client_id_of(event->client));
        tell(plugin, user, event, "BUSY", backlog_wait_ms(backlog), now);
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

static int on_message(int event_number, void *event_data, void *userdata)
{
    struct mosquitto_evt_message *event = event_data;
    struct plugin *plugin = userdata;
    struct caller caller;

    (void)event_number;
    if (!caller_from_username(mosquitto_client_username(event->client), &caller)) {
        return MOSQ_ERR_ACL_DENIED;
    }
    if (caller.role == ROLE_USER) {
        return on_command(plugin, caller.subject, event);
    }
    if (caller.role == ROLE_SERVICE && topic_is_backlog(plugin->options.topic_root, event->topic)) {
        /* It is a stamp of one of them, or of an earlier run. */
        for (int i = 0; i < 2 && plugin->backlogs[i]; i++) {
            backlog_report(plugin->backlogs[i], event->payload, event->payloadlen, now_us());
        }
    }
    return MOSQ_ERR_SUCCESS;
}

static int on_disconnect(int event_number, void *event_data, void *userdata)
{
    const struct mosquitto_evt_disconnect *event = event_data;
    struct plugin *plugin = userdata;

    (void)event_number;
    expiries_remove(plugin->expiries, client_id_of(event->client), event->client);
    return MOSQ_ERR_SUCCESS;
}

#ifdef BROKER_TELLS_OF_OFFLINE_CLIENTS
/* 2.1 tells so of a client that leaves a session behind, and of the others only by DISCONNECT. */
static int on_client_offline(int event_number, void *event_data, void *userdata)
{
    const struct mosquitto_evt_client_offline *event = event_data;
    struct plugin *plugin = userdata;

    (void)event_number;
    expiries_remove(plugin->expiries, client_id_of(event->client), event->client);
    return MOSQ_ERR_SUCCESS;
}
#endif

static int on_tick(int event_number, void *event_data, void *userdata)
{
    struct mosquitto_evt_tick *event = event_data;
    struct plugin *plugin = userdata;
    const time_t last_expired = time(NULL) - TOKEN_LEEWAY;
    char *client_id;

    (void)event_number;
    event->next_s = 1; /* 2.1 calls again after that time, 2.0 at least ten times a second */

    while ((client_id = expiries_take_due(plugin->expiries, last_expired)) != NULL) {
        mosquitto_log_printf(MOSQ_LOG_NOTICE, NAME ": disconnecting client %.300s: its token has expired", client_id);
        /* With its will, as a client that is cut off. */
        mosquitto_kick_client_by_clientid(client_id, true);
        free(client_id);
    }
    return MOSQ_ERR_SUCCESS;
}

static const struct {
    int event;
    MOSQ_FUNC_generic_callback callback;
} CALLBACKS[] = {
    {MOSQ_EVT_BASIC_AUTH, on_basic_auth},
    {MOSQ_EVT_ACL_CHECK, on_acl_check},
    {MOSQ_EVT_MESSAGE, on_message},
    {MOSQ_EVT_DISCONNECT, on_disconnect},
#ifdef BROKER_TELLS_OF_OFFLINE_CLIENTS
    {MOSQ_EVT_CLIENT_OFFLINE, on_client_offline},
#endif
    {MOSQ_EVT_TICK, on_tick},
};

#define CALLBACK_COUNT (sizeof(CALLBACKS) / sizeof(CALLBACKS[0]))

static int register_callbacks(struct plugin *plugin)
{
    for (size_t i = 0; i < CALLBACK_COUNT; i++) {
        int rc = mosquitto_callback_register(plugin->identifier, CALLBACKS[i].event, CALLBACKS[i].callback, NULL,
                                             plugin);

        if (rc != MOSQ_ERR_SUCCESS) {
            mosquitto_log_printf(MOSQ_LOG_ERR, NAME ": this broker does not support plugin event %d",
                                 CALLBACKS[i].event);
            return rc;
        }
    }
    return MOSQ_ERR_SUCCESS;
}

static bool plugin_make_parts(struct plugin *plugin)
{
    const struct options *options = &plugin->options;

    plugin->expiries = expiries_new();
    plugin->refusals = rates_new(REFUSALS_PER_SECOND, REFUSALS_BURST_S);
    plugin->told = rates_new(TOLD_PER_SECOND, TOLD_BURST_S);
    plugin->lines = rates_new(LINES_PER_SECOND, LINES_BURST_S);
    if (options->commands_per_second > 0) {
        plugin->commands = rates_new(options->commands_per_second, COMMANDS_BURST_S);
    }
    for (int i = 0; i < 2 && options->waiting_commands > 0; i++) {
        plugin->backlogs[i] = backlog_new(options->waiting_commands);
    }
    return plugin->expiries && plugin->refusals && plugin->told && plugin->lines
           && (plugin->commands || !options->commands_per_second)
           && ((plugin->backlogs[0] && plugin->backlogs[1]) || !options->waiting_commands);
}

static void plugin_free(struct plugin *plugin)
{
    for (size_t i = 0; i < CALLBACK_COUNT && plugin->identifier; i++) {
        mosquitto_callback_unregister(plugin->identifier, CALLBACKS[i].event, CALLBACKS[i].callback, NULL);
    }
    options_free(&plugin->options);
    expiries_free(plugin->expiries);
    rates_free(plugin->commands);
    rates_free(plugin->refusals);
    rates_free(plugin->told);
    rates_free(plugin->lines);
    backlog_free(plugin->backlogs[0]);
    backlog_free(plugin->backlogs[1]);
    free(plugin);
}

PUBLIC int mosquitto_plugin_version(int supported_version_count, const int *supported_versions)
{
    for (int i = 0; i < supported_version_count; i++) {
        if (supported_versions[i] == MOSQ_PLUGIN_VERSION) {
            return MOSQ_PLUGIN_VERSION;
        }
    }
    return -1;
}

PUBLIC int mosquitto_plugin_init(mosquitto_plugin_id_t *identifier, void **userdata, struct mosquitto_opt *options,
                                 int option_count)
{
    char problem[512];
    struct plugin *plugin = calloc(1, sizeof(*plugin));

    if (!plugin) {
        return MOSQ_ERR_NOMEM;
    }
    if (!options_read(options, option_count, &plugin->options, problem, sizeof(problem))) {
        mosquitto_log_printf(MOSQ_LOG_ERR, NAME ": %s.", problem);
        plugin_free(plugin);
        return MOSQ_ERR_INVAL;
    }
    plugin->identifier = identifier;
    int rc = plugin_make_parts(plugin) ? register_callbacks(plugin) : MOSQ_ERR_NOMEM;

    if (rc != MOSQ_ERR_SUCCESS) {
        plugin_free(plugin);
        return rc;
    }
    *userdata = plugin;
    return MOSQ_ERR_SUCCESS;
}

PUBLIC int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int option_count)
{
    (void)options;
    (void)option_count;
    if (userdata) {
        plugin_free(userdata);
    }
    return MOSQ_ERR_SUCCESS;
}
