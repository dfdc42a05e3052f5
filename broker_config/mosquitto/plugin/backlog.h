/*
 * How many commands wait between the users and the service, so that what is too much is refused where it comes in.
 *
 * The broker takes commands from many users in the time in which it reads one packet of the service, queues what the
 * service cannot take, and past its limit drops without a word. It does not tell a plugin how long a queue is. So every
 * so many commands one carries a stamp, the number of commands so far, and the service says each stamp back.
 */
#ifndef JWT_ACCESS_BACKLOG_H
#define JWT_ACCESS_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* With its end. */
#define STAMP_SIZE 48

struct backlog;

/* `limit` commands may wait. NULL when memory is short. */
struct backlog *backlog_new(uint32_t limit);
void backlog_free(struct backlog *backlog);

/*
 * Whether one more may wait: a message while fewer than the limit do, anything else while fewer than twice as many do.
 * Without a service that says stamps back there is always room.
 */
bool backlog_has_room(const struct backlog *backlog, bool is_message);

/* Counts one command that goes on to the service. True when it is to carry the stamp. */
bool backlog_count(struct backlog *backlog, char stamp[STAMP_SIZE]);

/* What the service says back at a moment that never goes back. False when it is no stamp of this backlog. */
bool backlog_report(struct backlog *backlog, const char *stamp, size_t length, int64_t now_us);

/* A service connects, which may be one that says nothing back: until it does there is room. */
void backlog_service_connects(struct backlog *backlog);

/* Milliseconds until most of what waits will be gone, at the speed of the latest reports. */
uint32_t backlog_wait_ms(const struct backlog *backlog);

#endif
