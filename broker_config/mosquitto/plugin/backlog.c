#include "backlog.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define MOST_BETWEEN_STAMPS 128
#define SILENCE_US INT64_C(1000000)
#define FIRST_PER_SECOND 1000.0
#define SMOOTHING 0.2
/* Stamps that were read together would tell of any speed. */
#define SAMPLE_US INT64_C(100000)
#define SHORTEST_WAIT_MS 100
#define LONGEST_WAIT_MS 10000

struct backlog {
    uint64_t limit;
    uint64_t stamp_every;
    /* Of this run of the broker: stamps of an earlier one may still be in a queue that it kept. */
    char prefix[STAMP_SIZE / 2];
    uint64_t counted;
    uint64_t reported;
    bool is_reported; /* by a service that is connected, or was until it went away */
    int64_t heard_at_us; /* the last report, or the last command that was taken because there was none */
    uint64_t sampled;
    int64_t sampled_at_us;
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
    backlog->stamp_every = limit / 2 < MOST_BETWEEN_STAMPS ? limit / 2 : MOST_BETWEEN_STAMPS;
    if (backlog->stamp_every == 0) {
        backlog->stamp_every = 1;
    }
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

enum backlog_answer backlog_take(struct backlog *backlog, bool is_message, size_t bytes, int64_t now_us,
                                 char stamp[STAMP_SIZE])
{
    const bool has_room = waiting(backlog) < (is_message ? 1 : 2) * backlog->limit;
    const uint64_t before = backlog->counted / backlog->stamp_every;

    if (!has_room && now_us - backlog->heard_at_us < SILENCE_US) {
        return BACKLOG_REFUSED;
    }
    backlog->counted += 1 + bytes / BACKLOG_UNIT_BYTES;
    if (has_room && backlog->counted / backlog->stamp_every == before) {
        return BACKLOG_TAKEN;
    }
    if (!has_room) {
        backlog->heard_at_us = now_us;
    }
    snprintf(stamp, STAMP_SIZE, "%s%" PRIu64, backlog->prefix, backlog->counted);
    return BACKLOG_STAMPED;
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
        backlog->reported = count;
        if (!backlog->is_reported) {
            backlog->sampled = count;
            backlog->sampled_at_us = now_us;
        } else if (now_us - backlog->sampled_at_us >= SAMPLE_US) {
            double per_second = (double)(count - backlog->sampled) * 1e6 / (double)(now_us - backlog->sampled_at_us);

            backlog->per_second += SMOOTHING * (per_second - backlog->per_second);
            backlog->sampled = count;
            backlog->sampled_at_us = now_us;
        }
    }
    backlog->heard_at_us = now_us;
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
