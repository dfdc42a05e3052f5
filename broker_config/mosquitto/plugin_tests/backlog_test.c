/* Commands that are counted, stamps that come back, and what has room in between. */
#include "../plugin/backlog.h"
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT 1000
#define SECOND INT64_C(1000000)

static struct backlog *fresh(void)
{
    struct backlog *backlog = backlog_new(LIMIT);

    CHECK(backlog != NULL);
    return backlog;
}

/* Takes commands of no particular size at a moment; the last stamp among them is left in `stamp`. */
static int taken(struct backlog *backlog, bool is_message, int commands, int64_t now_us, char stamp[STAMP_SIZE])
{
    char candidate[STAMP_SIZE];
    int count = 0;

    for (int i = 0; i < commands; i++) {
        enum backlog_answer answer = backlog_take(backlog, is_message, 100, now_us, candidate);

        if (answer == BACKLOG_STAMPED) {
            memcpy(stamp, candidate, STAMP_SIZE);
        }
        count += answer != BACKLOG_REFUSED;
    }
    return count;
}

static bool report(struct backlog *backlog, const char *stamp, int64_t now_us)
{
    return backlog_report(backlog, stamp, strlen(stamp), now_us);
}

static void test_there_is_room_until_a_service_says_something(void)
{
    struct backlog *backlog = fresh();
    char stamp[STAMP_SIZE];

    CHECK(taken(backlog, true, 50 * LIMIT, SECOND, stamp) == 50 * LIMIT);
    CHECK(report(backlog, stamp, SECOND));
    CHECK(taken(backlog, true, 2 * LIMIT, SECOND, stamp) <= LIMIT);
    CHECK(taken(backlog, true, 1, SECOND, stamp) == 0);
    /* Another service, perhaps one that says nothing back. */
    backlog_service_connects(backlog);
    CHECK(taken(backlog, true, 50 * LIMIT, SECOND, stamp) == 50 * LIMIT);
    backlog_free(backlog);
}

static void test_messages_are_refused_at_the_limit_and_the_rest_at_twice_that(void)
{
    struct backlog *backlog = fresh();
    char stamp[STAMP_SIZE];
    char later[STAMP_SIZE];

    CHECK(taken(backlog, true, 128, SECOND, stamp) == 128);
    CHECK(report(backlog, stamp, SECOND));
    CHECK(taken(backlog, true, 2 * LIMIT, SECOND, later) == LIMIT);
    CHECK(taken(backlog, false, 2 * LIMIT, SECOND, later) == LIMIT);
    /* An earlier stamp again, as after a redelivery, changes nothing. */
    CHECK(report(backlog, stamp, 2 * SECOND));
    CHECK(taken(backlog, false, 1, 2 * SECOND, later) == 0);
    CHECK(report(backlog, later, 2 * SECOND));
    CHECK(taken(backlog, true, 1, 2 * SECOND, later) == 1);
    backlog_free(backlog);
}

static void test_when_no_stamp_comes_back_one_command_a_second_is_taken_to_carry_another(void)
{
    struct backlog *backlog = fresh();
    char stamp[STAMP_SIZE];

    taken(backlog, true, 128, SECOND, stamp);
    CHECK(report(backlog, stamp, SECOND));
    CHECK(taken(backlog, true, 2 * LIMIT, SECOND, stamp) == LIMIT);
    CHECK(taken(backlog, true, 100, 2 * SECOND - 1, stamp) == 0);
    CHECK(taken(backlog, true, 100, 2 * SECOND, stamp) == 1);
    CHECK(taken(backlog, true, 100, 3 * SECOND - 1, stamp) == 0);
    CHECK(taken(backlog, true, 100, 3 * SECOND, stamp) == 1);
    /* That one comes back: everything before it has been read. */
    CHECK(report(backlog, stamp, 3 * SECOND));
    CHECK(taken(backlog, true, 2 * LIMIT, 3 * SECOND, stamp) == LIMIT);
    backlog_free(backlog);
}

static void test_any_limit_lets_stamps_come_back(void)
{
    char stamp[STAMP_SIZE];

    for (uint32_t limit = 1; limit <= 300; limit++) {
        struct backlog *backlog = backlog_new(limit);

        CHECK(backlog != NULL);
        for (int i = 0; i < 2000; i++) {
            enum backlog_answer answer = backlog_take(backlog, true, 0, SECOND, stamp);

            CHECK(answer != BACKLOG_REFUSED);
            CHECK(answer == BACKLOG_TAKEN || report(backlog, stamp, SECOND));
        }
        backlog_free(backlog);
    }
}

static void test_large_commands_count_as_several(void)
{
    struct backlog *backlog = fresh();
    char stamp[STAMP_SIZE];
    int count = 0;

    taken(backlog, true, 128, SECOND, stamp);
    CHECK(report(backlog, stamp, SECOND));
    while (backlog_take(backlog, true, 9 * BACKLOG_UNIT_BYTES + 100, SECOND, stamp) != BACKLOG_REFUSED) {
        count++;
    }
    CHECK(count == LIMIT / 10);
    backlog_free(backlog);
}

static void test_what_is_no_stamp_of_this_run_is_not_taken(void)
{
    struct backlog *backlog = fresh();
    struct backlog *another = fresh();
    char stamp[STAMP_SIZE];
    char of_another[STAMP_SIZE];
    char changed[2 * STAMP_SIZE];

    taken(backlog, true, 1000, SECOND, stamp);
    taken(another, true, 1000, SECOND, of_another);
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
    char stamps[2][STAMP_SIZE];

    CHECK(backlog_wait_ms(backlog) == 100);
    /* A thousand a second, said back in bursts that tell of any speed. */
    for (int second = 1; second <= 100; second++) {
        taken(backlog, true, 500, second * SECOND, stamps[0]);
        taken(backlog, true, 500, second * SECOND, stamps[1]);
        CHECK(report(backlog, stamps[0], second * SECOND));
        CHECK(report(backlog, stamps[1], second * SECOND + 10));
    }
    taken(backlog, true, 500, 101 * SECOND, stamps[0]);
    CHECK(backlog_wait_ms(backlog) >= 400 && backlog_wait_ms(backlog) <= 700);
    backlog_free(backlog);
}

int main(void)
{
    test_there_is_room_until_a_service_says_something();
    test_messages_are_refused_at_the_limit_and_the_rest_at_twice_that();
    test_when_no_stamp_comes_back_one_command_a_second_is_taken_to_carry_another();
    test_any_limit_lets_stamps_come_back();
    test_large_commands_count_as_several();
    test_what_is_no_stamp_of_this_run_is_not_taken();
    test_the_wait_follows_the_speed_of_the_service();
    return EXIT_SUCCESS;
}
