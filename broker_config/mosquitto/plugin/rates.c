/* A count-min sketch of leaky buckets: each place holds the time at which its bucket will be empty. */
#include "rates.h"

#include <stdlib.h>
#include <sys/random.h>

#define ROWS 2
#define PLACES 65536
#define SECOND_US INT64_C(1000000)

struct rates {
    int64_t interval_us;
    int64_t burst_us;
    uint64_t seeds[ROWS];
    int64_t empty_at_us[ROWS][PLACES];
};

struct rates *rates_new(uint32_t per_second, uint32_t burst_seconds)
{
    struct rates *rates = calloc(1, sizeof(*rates));

    if (!rates) {
        return NULL;
    }
    rates->interval_us = SECOND_US / per_second;
    rates->burst_us = burst_seconds * SECOND_US;
    /* Nobody can choose an id that shares another's places. */
    if (getrandom(rates->seeds, sizeof(rates->seeds), 0) != (ssize_t)sizeof(rates->seeds)) {
        free(rates);
        return NULL;
    }
    return rates;
}

void rates_free(struct rates *rates)
{
    free(rates);
}

/* FNV-1a from a secret start, with MurmurHash3's last mixing. */
static uint64_t hashed(uint64_t seed, const char *user)
{
    uint64_t hash = seed;

    for (; *user != '\0'; user++) {
        hash = (hash ^ (unsigned char)*user) * 0x100000001b3u;
    }
    hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccdu;
    return hash ^ (hash >> 33);
}

static size_t place_of(const struct rates *rates, int row, const char *user)
{
    return hashed(rates->seeds[row], user) % PLACES;
}

/* When the user's bucket will be empty: where others share a place, what that place holds is too late for one. */
static int64_t empty_at(const struct rates *rates, const char *user)
{
    int64_t earliest = INT64_MAX;

    for (int row = 0; row < ROWS; row++) {
        int64_t at = rates->empty_at_us[row][place_of(rates, row, user)];

        earliest = at < earliest ? at : earliest;
    }
    return earliest;
}

bool rates_pass(struct rates *rates, const char *user, int64_t now_us)
{
    const int64_t full_at = now_us + rates->burst_us;

    if (empty_at(rates, user) + rates->interval_us > full_at) {
        return false;
    }
    for (int row = 0; row < ROWS; row++) {
        int64_t *place = &rates->empty_at_us[row][place_of(rates, row, user)];

        if (*place < now_us) {
            *place = now_us;
        }
        if (*place < full_at) {
            *place += rates->interval_us;
        }
    }
    return true;
}

void rates_hold(struct rates *rates, const char *user, int64_t until_us)
{
    const int64_t at = until_us + rates->burst_us;

    for (int row = 0; row < ROWS; row++) {
        int64_t *place = &rates->empty_at_us[row][place_of(rates, row, user)];

        *place = *place < at ? at : *place;
    }
}

bool rates_is_held(const struct rates *rates, const char *user, int64_t now_us)
{
    return empty_at(rates, user) > now_us + rates->burst_us;
}

int64_t rates_wait_us(const struct rates *rates, const char *user, int64_t now_us)
{
    int64_t wait = empty_at(rates, user) - now_us - rates->burst_us / 2;

    return wait > 0 ? wait : 0;
}
