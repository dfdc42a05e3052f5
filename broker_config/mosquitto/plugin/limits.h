/* What is too much: of one user, of all users for the service, and in the log. */
#ifndef JWT_ACCESS_LIMITS_H
#define JWT_ACCESS_LIMITS_H

#include "broker.h"
#include "options.h"

struct limits;

/* The options must outlive it. NULL when memory is short. */
struct limits *limits_new(const struct options *options);
void limits_free(struct limits *limits);

/* Of each kind of line some a second: no client may fill the log. */
__attribute__((format(printf, 3, 4))) void limits_log(struct limits *limits, const char *kind, const char *format, ...);

/*
 * Counts a refused publication of a user. When it is one too many, the user is held and the connection is to be ended:
 * to go on reading what does not end would take the broker's time from all.
 */
bool limits_cut_off(struct limits *limits, const char *user, const struct mosquitto *client);

/*
 * Counts a filter that a user subscribes to or unsubscribes from. False when it is one too many, and the connection is
 * to be ended: the broker takes a whole packet of them in one go, and looks at all that the session has for each.
 */
bool limits_on_filter(struct limits *limits, const char *user, const struct mosquitto *client);

/* Counts a user's connect. False when it is one too many: its will would pass by the limit for commands. */
bool limits_on_connect(struct limits *limits, const char *user);

/* Whether the user was cut off a moment ago, and may neither connect nor publish. */
bool limits_is_held(const struct limits *limits, const char *user);

/*
 * A command that the user may publish: what the MESSAGE event returns for it. It is passed on, with a stamp now and
 * then, or refused because there is too much.
 */
int limits_on_command(struct limits *limits, const char *user, struct mosquitto_evt_message *event);

/* A stamp that the service says back, or one of an earlier run. */
void limits_on_stamp(struct limits *limits, const struct mosquitto_evt_message *event);

/* A service connects, see backlog.h. */
void limits_service_connects(struct limits *limits);

#endif
