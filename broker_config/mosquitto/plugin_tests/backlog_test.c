/* Commands that are counted, stamps that come back, and what has room in between. */
#include "../plugin/backlog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT 1000
#define SECOND INT64_C(1000000)

#define CHECK(condition)                                                  \
    do {                                                                  \
        if (!(condition)) {                                               \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);       \
            exit(EXIT_FAILURE);                                           \
        }                                                                 \
    } while (0)

static struct backlog *fresh(void)
{
    struct backlog *backlog = backlog_new(LIMIT);

    CHECK(backlog != NULL);
    return backlog;
}

/* Counts commands; the last stamp among them is left in `stamp`. Returns how many carried one. */
static int count(struct backlog *backlog, int commands, char stamp[STAMP_SIZE])
{
    char candidate[STAMP_SIZE];
    int stamps = 0;

    for (int i = 0; i < commands; i++) {
        if (backlog_count(backlog, candidate)) {
            memcpy(stamp, candidate, STAMP_SIZE);
            stamps++;
        }
    }
    return stamps;
}

static bool report(struct backlog *backlog, const char *stamp, int64_t now_us)
{
    return backlog_report(backlog, stamp, strlen(stamp), now_us);
}

static void test_there_is_room_until_a_service_says_something(void)
{
    struct backlog *backlog = fresh();
    char stamp[STAMP_SIZE];

    CHECK(count(backlog, 50 * LIMIT, stamp) > 100);
    CHECK(backlog_has_room(backlog, true));
    CHECK(report(backlog, stamp, SECOND));
    count(backlog, LIMIT, stamp);
    CHECK(!backlog_has_room(backlog, true));
    /* Another service, perhaps one that says nothing back. */
    backlog_service_connects(backlog);
    CHECK(backlog_has_room(backlog, true));
    backlog_free(backlog);
}

static void test_messages_are_refused_at_the_limit_and_the_rest_at_twice_that(void)
{
    struct backlog *backlog = fresh();
    char stamp[STAMP_SIZE];
    char later[STAMP_SIZE];

    CHECK(count(backlog, 128, stamp) == 1);
    CHECK(report(backlog, stamp, SECOND));
    count(backlog, LIMIT - 1, later);
    CHECK(backlog_has_room(backlog, true));
    count(backlog, 1, later);
    CHECK(!backlog_has_room(backlog, true));
    CHECK(backlog_has_room(backlog, false));
    count(backlog, LIMIT, later);
    CHECK(!backlog_has_room(backlog, false));
    /* An earlier stamp again, as after a redelivery, changes nothing. */
    CHECK(report(backlog, stamp, 2 * SECOND));
    CHECK(!backlog_has_room(backlog, false));
    CHECK(report(backlog, later, 3 * SECOND));
    CHECK(backlog_has_room(backlog, true));
    backlog_free(backlog);
}

static void test_what_is_no_stamp_of_this_run_is_not_taken(void)
{
    struct backlog *backlog = fresh();
    struct backlog *another = fresh();
    char stamp[STAMP_SIZE];
    char of_another[STAMP_SIZE];
    char changed[2 * STAMP_SIZE];

    count(backlog, 1000, stamp);
    count(another, 1000, of_another);
    CHECK(!report(backlog, of_another, SECOND));
    CHECK(!report(backlog, "", SECOND));
    CHECK(!report(backlog, "1000", SECOND));
    for (const char *end = "0\0x\0-\0 \0"; *end != '\0'; end += 2) {
        /* More than was counted, or no number. */
        snprintf(changed, sizeof(changed), "%s%s", stamp, end);
        CHECK(!report(backlog, changed, SECOND));
    }
    snprintf(changed, sizeof(changed), "%.17s-1", stamp);
    CHECK(!report(backlog, changed, SECOND));
    snprintf(changed, sizeof(changed), "%.17s%050d", stamp, 1);
    CHECK(!report(backlog, changed, SECOND));
    CHECK(!backlog_report(backlog, stamp, 17, SECOND));
    CHECK(report(backlog, stamp, SECOND));
    backlog_free(backlog);
    backlog_free(another);
}

static void test_the_wait_follows_the_speed_of_the_service(void)
{
    struct backlog *backlog = fresh();
    char stamp[STAMP_SIZE];

    CHECK(backlog_wait_ms(backlog) == 100);
    for (int second = 1; second <= 100; second++) {
        CHECK(count(backlog, 12800, stamp) == 100);
        CHECK(report(backlog, stamp, second * SECOND));
    }
    count(backlog, 6400, stamp);
    CHECK(backlog_wait_ms(backlog) >= 450 && backlog_wait_ms(backlog) <= 550);
    count(backlog, 12800 * 100, stamp);
    CHECK(backlog_wait_ms(backlog) == 10000);
    backlog_free(backlog);
}

int main(void)
{
    test_there_is_room_until_a_service_says_something();
    test_messages_are_refused_at_the_limit_and_the_rest_at_twice_that();
    test_what_is_no_stamp_of_this_run_is_not_taken();
    test_the_wait_follows_the_speed_of_the_service();
    return EXIT_SUCCESS;
}
