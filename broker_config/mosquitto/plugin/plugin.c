/*
 * Mosquitto plugin: a JWT as the password decides who a client is, what it may do and until when.
 *
 * After CONNECT the client's username is `role:sub`. The broker keeps it with the session, also on disk, so access
 * checks need no state of ours and stay right for clients that are away: queueing for them is checked too.
 */
#include "broker.h"
#include "expiries.h"
#include "limits.h"
#include "options.h"
#include "token.h"
#include "topics.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PUBLIC __attribute__((visibility("default")))

struct plugin {
    mosquitto_plugin_id_t *identifier;
    struct options options;
    struct expiries *expiries;
    struct limits *limits;
};

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
    if (claims.role == ROLE_USER && limits_is_held(plugin->limits, claims.subject)) {
        *rc = REFUSED_FOR_A_WHILE;
        return "its user was cut off for publishing too much";
    }
    if (claims.role == ROLE_USER && !limits_on_connect(plugin->limits, claims.subject)) {
        *rc = REFUSED_FOR_A_WHILE;
        return "its user connects without an end";
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
    if (claims.role == ROLE_SERVICE) {
        limits_service_connects(plugin->limits);
    }
    return NULL;
}

static int on_basic_auth(int event_number, void *event_data, void *userdata)
{
    struct mosquitto_evt_basic_auth *event = event_data;
    struct plugin *plugin = userdata;
    int rc;
    const char *refusal = admit(plugin, event, &rc);

    (void)event_number;
    if (!refusal) {
        return MOSQ_ERR_SUCCESS;
    }
    limits_log(plugin->limits, "login", "refused client %.300s from %s: %s", client_id_of(event->client),
               address_of(event->client), refusal);
    if (!expiries_has(plugin->expiries, client_id_of(event->client), event->client)) {
        /* What it calls itself must not become what its will is judged by. */
        mosquitto_set_username(event->client, NULL);
    }
    return rc;
}

static bool may(const struct plugin *plugin, const struct caller *caller, const struct mosquitto_evt_acl_check *event)
{
    const char *root = plugin->options.topic_root;

    if (!event->topic) {
        return false;
    }
    switch (event->access) {
    case MOSQ_ACL_READ:
        return topic_is_allowed(root, caller, ACTION_RECEIVE, event->topic);
    case MOSQ_ACL_WRITE:
        return !event->retain && topic_is_allowed(root, caller, ACTION_PUBLISH, event->topic);
    case MOSQ_ACL_SUBSCRIBE:
        return topic_is_allowed(root, caller, ACTION_SUBSCRIBE, event->topic);
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
    const bool is_known = caller_from_username(mosquitto_client_username(event->client), &caller);
    const bool is_user = is_known && caller.role == ROLE_USER;

    (void)event_number;
    if (is_user && (event->access == MOSQ_ACL_SUBSCRIBE || event->access == MOSQ_ACL_UNSUBSCRIBE)
        && !limits_on_filter(plugin->limits, caller.subject, event->client)) {
        return ENDS_THE_CONNECTION;
    }
    if (is_known && may(plugin, &caller, event)) {
        return MOSQ_ERR_SUCCESS;
    }
    if (event->access == MOSQ_ACL_READ) {
        return MOSQ_ERR_ACL_DENIED;
    }
    limits_log(plugin->limits, "refused", "refused client %.300s to %s %.300s%s", client_id_of(event->client),
               event->access == MOSQ_ACL_SUBSCRIBE ? "subscribe to" : "publish to", event->topic ? event->topic : "",
               event->retain ? ", retained" : "");
    if (is_user && event->access == MOSQ_ACL_WRITE
        && limits_cut_off(plugin->limits, caller.subject, event->client)) {
        return ENDS_THE_CONNECTION;
    }
    return MOSQ_ERR_ACL_DENIED;
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
        return limits_on_command(plugin->limits, caller.subject, event);
    }
    if (caller.role == ROLE_SERVICE && topic_is_backlog(plugin->options.topic_root, event->topic)) {
        limits_on_stamp(plugin->limits, event);
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
        mosquitto_log_printf(MOSQ_LOG_NOTICE, PLUGIN_NAME ": disconnecting client %.300s: its token has expired", client_id);
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
            mosquitto_log_printf(MOSQ_LOG_ERR, PLUGIN_NAME ": this broker does not support plugin event %d",
                                 CALLBACKS[i].event);
            return rc;
        }
    }
    return MOSQ_ERR_SUCCESS;
}

static void plugin_free(struct plugin *plugin)
{
    for (size_t i = 0; i < CALLBACK_COUNT && plugin->identifier; i++) {
        mosquitto_callback_unregister(plugin->identifier, CALLBACKS[i].event, CALLBACKS[i].callback, NULL);
    }
    options_free(&plugin->options);
    expiries_free(plugin->expiries);
    limits_free(plugin->limits);
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
        mosquitto_log_printf(MOSQ_LOG_ERR, PLUGIN_NAME ": %s.", problem);
        plugin_free(plugin);
        return MOSQ_ERR_INVAL;
    }
    plugin->identifier = identifier;
    plugin->expiries = expiries_new();
    plugin->limits = limits_new(&plugin->options);
    int rc = plugin->expiries && plugin->limits ? register_callbacks(plugin) : MOSQ_ERR_NOMEM;

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
