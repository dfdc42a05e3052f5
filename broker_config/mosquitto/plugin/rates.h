/* How often each user may do something: one count for all users, in a fixed size. */
#ifndef JWT_ACCESS_RATES_H
#define JWT_ACCESS_RATES_H

#include <stdbool.h>
#include <stdint.h>

struct rates;

/* `per_second` on average, and after a pause as many at once as `burst_seconds` have. NULL when memory is short. */
struct rates *rates_new(uint32_t per_second, uint32_t burst_seconds);
void rates_free(struct rates *rates);

/*
 * Counts one time of the user at a moment that never goes back. False when it is one too many; those do not count.
 * Takes the same time and memory for any number of users. A user whose places are both shared with users that are
 * over the rate is refused with them: they would have to be two of them and to hit the same two of 65,536 places each.
 */
bool rates_pass(struct rates *rates, const char *user, int64_t now_us);

/* Lets nothing of the user pass until that moment, and then no more than the rate. */
void rates_hold(struct rates *rates, const char *user, int64_t until_us);

/* Whether the user is held. */
bool rates_is_held(const struct rates *rates, const char *user, int64_t now_us);

/* Microseconds until half of the burst would pass. */
int64_t rates_wait_us(const struct rates *rates, const char *user, int64_t now_us);

#endif
