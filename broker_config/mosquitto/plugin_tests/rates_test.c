/* Users within their rate, one that floods, and many beside it. */
#include "../plugin/rates.h"
#include "check.h"

#include <stdio.h>
#include <stdlib.h>

#define PER_SECOND 100
#define SECOND INT64_C(1000000)

static int passed(struct rates *rates, const char *user, int attempts, int64_t from_us, int64_t every_us)
{
    int count = 0;

    for (int i = 0; i < attempts; i++) {
        count += rates_pass(rates, user, from_us + i * every_us);
    }
    return count;
}

static struct rates *fresh(void)
{
    struct rates *rates = rates_new(PER_SECOND, 2);

    CHECK(rates != NULL);
    return rates;
}

static void test_two_seconds_worth_pass_at_once_and_then_the_rate(void)
{
    struct rates *rates = fresh();

    CHECK(passed(rates, "alice", 1000, SECOND, 0) == 2 * PER_SECOND);
    /* Refused ones do not count: a second gives room for a second's worth. */
    CHECK(passed(rates, "alice", 1000, 2 * SECOND, 0) == PER_SECOND);
    /* For ten seconds a thousand times a second, full again at the start. */
    CHECK(passed(rates, "alice", 10000, 4 * SECOND, 1000) == 2 * PER_SECOND + 10 * PER_SECOND - 1);
    /* Idle for long, no more than two seconds' worth. */
    CHECK(passed(rates, "alice", 1000, 100 * SECOND, 0) == 2 * PER_SECOND);
    rates_free(rates);
}

static void test_who_keeps_to_the_rate_is_never_refused(void)
{
    struct rates *rates = fresh();

    CHECK(passed(rates, "alice", 5000, SECOND, SECOND / PER_SECOND) == 5000);
    rates_free(rates);
}

static void test_one_user_floods_and_the_others_pass(void)
{
    struct rates *rates = fresh();
    char name[32];

    CHECK(passed(rates, "flood", 10000, SECOND, 0) == 2 * PER_SECOND);
    for (int user = 0; user < 5000; user++) {
        snprintf(name, sizeof(name), "user-%d", user);
        CHECK(passed(rates, name, 3, SECOND, 0) == 3);
    }
    CHECK(!rates_pass(rates, "flood", SECOND));
    rates_free(rates);
}

static void test_who_is_held_comes_back_with_the_rate_and_nobody_else_is(void)
{
    struct rates *rates = fresh();
    char name[32];

    CHECK(!rates_is_held(rates, "flood", SECOND));
    CHECK(passed(rates, "flood", 10000, SECOND, 0) == 2 * PER_SECOND);
    CHECK(!rates_is_held(rates, "flood", SECOND));
    rates_hold(rates, "flood", 11 * SECOND);
    CHECK(rates_is_held(rates, "flood", 11 * SECOND - 1));
    CHECK(passed(rates, "flood", 10000, SECOND, SECOND / 1000) == 0);
    CHECK(!rates_is_held(rates, "flood", 11 * SECOND));
    CHECK(passed(rates, "flood", 1000, 11 * SECOND, SECOND / 1000) <= PER_SECOND + 1);
    for (int user = 0; user < 5000; user++) {
        snprintf(name, sizeof(name), "user-%d", user);
        CHECK(!rates_is_held(rates, name, SECOND));
    }
    rates_free(rates);
}

static void test_how_long_it_takes_until_there_is_room(void)
{
    struct rates *rates = fresh();

    CHECK(rates_wait_us(rates, "alice", SECOND) == 0);
    CHECK(passed(rates, "alice", 1000, SECOND, 0) == 2 * PER_SECOND);
    CHECK(rates_wait_us(rates, "alice", SECOND) == SECOND);
    CHECK(passed(rates, "alice", 1000, 2 * SECOND, 0) == PER_SECOND);
    rates_hold(rates, "alice", 12 * SECOND);
    CHECK(rates_wait_us(rates, "alice", 2 * SECOND) == 11 * SECOND);
    rates_free(rates);
}

int main(void)
{
    test_who_is_held_comes_back_with_the_rate_and_nobody_else_is();
    test_how_long_it_takes_until_there_is_room();
    test_two_seconds_worth_pass_at_once_and_then_the_rate();
    test_who_keeps_to_the_rate_is_never_refused();
    test_one_user_floods_and_the_others_pass();
    return EXIT_SUCCESS;
}
