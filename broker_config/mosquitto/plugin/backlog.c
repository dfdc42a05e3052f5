#include "backlog.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define STAMP_EVERY 128
#define FIRST_PER_SECOND 1000.0
#define SMOOTHING 0.2
#define SHORTEST_WAIT_MS 100
#define LONGEST_WAIT_MS 10000

struct backlog {
    uint64_t limit;
    /* Of this run of the broker: stamps of an earlier one may still be in a queue that it kept. */
    char prefix[STAMP_SIZE / 2];
    uint64_t counted;
    uint64_t reported;
    bool is_reported; /* by a service that is connected, or was until it went away */
    int64_t reported_at_us;
    double per_second;
};

struct backlog *backlog_new(uint32_t limit)
{
    struct backlog *backlog = calloc(1, sizeof(*backlog));
    uint64_t run;

    if (!backlog) {
        return NULL;
    }
    if (getrandom(&run, sizeof(run), 0) != (ssize_t)sizeof(run)) {
        free(backlog);
        return NULL;
    }
    snprintf(backlog->prefix, sizeof(backlog->prefix), "%016" PRIx64 "-", run);
    backlog->limit = limit;
    backlog->per_second = FIRST_PER_SECOND;
    return backlog;
}

void backlog_free(struct backlog *backlog)
{
    free(backlog);
}

static uint64_t waiting(const struct backlog *backlog)
{
    return backlog->is_reported ? backlog->counted - backlog->reported : 0;
}

bool backlog_has_room(const struct backlog *backlog, bool is_message)
{
    return waiting(backlog) < (is_message ? 1 : 2) * backlog->limit;
}

bool backlog_count(struct backlog *backlog, char stamp[STAMP_SIZE])
{
    if (++backlog->counted % STAMP_EVERY != 0) {
        return false;
    }
    snprintf(stamp, STAMP_SIZE, "%s%" PRIu64, backlog->prefix, backlog->counted);
    return true;
}

/* The number in a stamp of this run; 0, which is in none, when it is something else. */
static uint64_t count_in(const struct backlog *backlog, const char *stamp, size_t length)
{
    const size_t prefix_length = strlen(backlog->prefix);
    char digits[STAMP_SIZE] = "";
    char *end;

    if (length <= prefix_length || length >= STAMP_SIZE || memcmp(stamp, backlog->prefix, prefix_length) != 0) {
        return 0;
    }
    memcpy(digits, stamp + prefix_length, length - prefix_length);
    uint64_t count = strtoull(digits, &end, 10);

    return digits[0] >= '1' && digits[0] <= '9' && *end == '\0' && count <= backlog->counted ? count : 0;
}

bool backlog_report(struct backlog *backlog, const char *stamp, size_t length, int64_t now_us)
{
    const uint64_t count = count_in(backlog, stamp, length);

    if (count == 0) {
        return false;
    }
    if (count > backlog->reported) {
        if (backlog->is_reported && now_us > backlog->reported_at_us) {
            double per_second = (double)(count - backlog->reported) * 1e6 / (double)(now_us - backlog->reported_at_us);

            backlog->per_second += SMOOTHING * (per_second - backlog->per_second);
        }
        backlog->reported = count;
        backlog->reported_at_us = now_us;
    }
    backlog->is_reported = true;
    return true;
}

void backlog_service_connects(struct backlog *backlog)
{
    backlog->is_reported = false;
}

uint32_t backlog_wait_ms(const struct backlog *backlog)
{
    double wait_ms = (double)waiting(backlog) * 1e3 / backlog->per_second;

    if (wait_ms < SHORTEST_WAIT_MS) {
        return SHORTEST_WAIT_MS;
    }
    return wait_ms < LONGEST_WAIT_MS ? (uint32_t)wait_ms : LONGEST_WAIT_MS;
}
