/* Compares the heap of expiries with a plain array through many random steps. */
#include "../plugin/expiries.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLIENTS 200
#define STEPS 200000

#define CHECK(condition)                                                       \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "line %d, step %d: %s\n", __LINE__, step, #condition); \
            exit(EXIT_FAILURE);                                                \
        }                                                                      \
    } while (0)

struct model {
    time_t ends_at; /* 0: no entry */
    int connection;
};

static struct model model[CLIENTS];
static const char connections[4];

static void name_client(int client, char *name, size_t size)
{
    snprintf(name, size, "user-%d:device", client);
}

static time_t earliest_end(void)
{
    time_t earliest = 0;

    for (int i = 0; i < CLIENTS; i++) {
        if (model[i].ends_at != 0 && (earliest == 0 || model[i].ends_at < earliest)) {
            earliest = model[i].ends_at;
        }
    }
    return earliest;
}

static void take_due(struct expiries *expiries, time_t now, int step)
{
    time_t earliest = earliest_end();
    char *taken = expiries_take_due(expiries, now);
    int client;

    if (earliest == 0 || earliest > now) {
        CHECK(taken == NULL);
        return;
    }
    CHECK(taken != NULL && sscanf(taken, "user-%d:device", &client) == 1);
    CHECK(model[client].ends_at == earliest);
    model[client].ends_at = 0;
    free(taken);
}

int main(void)
{
    struct expiries *expiries = expiries_new();
    char name[32];

    srand(1);
    for (int step = 0; step < STEPS; step++) {
        int client = rand() % CLIENTS;
        int connection = rand() % 4;
        struct model *expected = &model[client];

        name_client(client, name, sizeof(name));
        switch (rand() % 4) {
        case 0:
        case 1:
            *expected = (struct model){.ends_at = 1 + rand() % 1000, .connection = connection};
            CHECK(expiries_put(expiries, name, &connections[connection], expected->ends_at));
            break;
        case 2:
            expiries_remove(expiries, name, &connections[connection]);
            if (expected->connection == connection) {
                expected->ends_at = 0;
            }
            break;
        default:
            take_due(expiries, rand() % 1000, step);
        }
        CHECK(expiries_has(expiries, name, &connections[expected->connection]) == (expected->ends_at != 0));
    }
    expiries_free(expiries);
    return EXIT_SUCCESS;
}
