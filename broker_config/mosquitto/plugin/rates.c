/* A count-min sketch of leaky buckets: each place holds the time at which its bucket will be empty. */
#include "rates.h"

#include <stdlib.h>
#include <sys/random.h>

#define ROWS 2
#define PLACES 65536
#define BURST_US 2000000

struct rates {
    int64_t interval_us;
    uint64_t seeds[ROWS];
    int64_t empty_at_us[ROWS][PLACES];
};

struct rates *rates_new(uint32_t per_second)
{
    struct rates *rates = calloc(1, sizeof(*rates));

    if (!rates) {
        return NULL;
    }
    rates->interval_us = 1000000 / per_second;
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

bool rates_pass(struct rates *rates, const char *user, int64_t now_us)
{
    int64_t *places[ROWS];
    bool has_room = false;

    for (int row = 0; row < ROWS; row++) {
        int64_t *place = &rates->empty_at_us[row][hashed(rates->seeds[row], user) % PLACES];

        if (*place < now_us) {
            *place = now_us;
        }
        if (*place + rates->interval_us <= now_us + BURST_US) {
            has_room = true;
        }
        places[row] = place;
    }
    if (!has_room) {
        return false;
    }
    for (int row = 0; row < ROWS; row++) {
        if (*places[row] < now_us + BURST_US) {
            *places[row] += rates->interval_us;
        }
    }
    return true;
}
