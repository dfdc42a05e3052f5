/* How often each user may publish: what is over is refused before it fills the queue that all users share. */
#ifndef JWT_ACCESS_RATES_H
#define JWT_ACCESS_RATES_H

#include <stdbool.h>
#include <stdint.h>

struct rates;

/* `per_second` on average, and twice as many at once after a pause. NULL when memory is short. */
struct rates *rates_new(uint32_t per_second);
void rates_free(struct rates *rates);

/*
 * Counts one publication of the user at a moment that never goes back. False when it is one too many; those do not
 * count. Takes the same time and memory for any number of users. A user whose places are both shared with users that
 * flood is refused with them: they would have to be two of them and to hit the same two of 65,536 places each.
 */
bool rates_pass(struct rates *rates, const char *user, int64_t now_us);

#endif
