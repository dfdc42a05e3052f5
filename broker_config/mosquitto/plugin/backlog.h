/*
 * How much waits between the users and the service, so that what is too much is refused where it comes in.
 *
 * The broker takes commands from many users in the time in which it reads one packet of the service, queues what the
 * service cannot take, and past its limit drops without a word. It does not tell a plugin how long a queue is. So now
 * and then a command carries a stamp, the count so far, and the service says each stamp back.
 */
#ifndef JWT_ACCESS_BACKLOG_H
#define JWT_ACCESS_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* With its end. */
#define STAMP_SIZE 48
/* A command counts once, and once more for each of so many bytes that are full. */
#define BACKLOG_UNIT_BYTES 4096

struct backlog;

enum backlog_answer { BACKLOG_REFUSED, BACKLOG_TAKEN, BACKLOG_STAMPED };

/* `limit` commands may wait. NULL when memory is short. */
struct backlog *backlog_new(uint32_t limit);
void backlog_free(struct backlog *backlog);

/*
 * Counts one command at a moment that never goes back, unless too many wait: a message while fewer than the limit do,
 * anything else while fewer than twice as many do. STAMPED: it must carry the stamp. Without a service that says stamps
 * back everything is taken. Stamps may be lost on their way: who hears of none takes one command a second, stamped.
 */
enum backlog_answer backlog_take(struct backlog *backlog, bool is_message, size_t bytes, int64_t now_us,
                                 char stamp[STAMP_SIZE]);

/* What the service says back at a moment that never goes back. False when it is no stamp of this backlog. */
bool backlog_report(struct backlog *backlog, const char *stamp, size_t length, int64_t now_us);

/* A service connects, which may be one that says nothing back: until it does there is room. */
void backlog_service_connects(struct backlog *backlog);

/* Milliseconds until what waits will be gone, at the speed of the latest reports. */
uint32_t backlog_wait_ms(const struct backlog *backlog);

#endif
