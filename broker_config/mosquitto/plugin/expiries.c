#include "expiries.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 64

struct expiry {
    char *client_id;
    const void *connection;
    time_t ends_at;
    size_t position; /* in the heap */
};

struct expiries {
    struct expiry **heap; /* binary, the earliest end first */
    size_t count;
    size_t capacity;
    void *by_client_id; /* balanced tree of tsearch(3): ids are chosen by clients, so no hash table */
};

static int compare_client_ids(const void *left, const void *right)
{
    return strcmp(((const struct expiry *)left)->client_id, ((const struct expiry *)right)->client_id);
}

static struct expiry *find(const struct expiries *expiries, const char *client_id)
{
    struct expiry wanted = {.client_id = (char *)client_id};
    struct expiry **node = tfind(&wanted, &expiries->by_client_id, compare_client_ids);

    return node ? *node : NULL;
}

static void set(struct expiries *expiries, size_t position, struct expiry *entry)
{
    expiries->heap[position] = entry;
    entry->position = position;
}

/* Moves the entry to where it belongs, from a place whose neighbours are in order but for it. */
static void settle(struct expiries *expiries, struct expiry *entry)
{
    size_t position = entry->position;

    while (position > 0 && expiries->heap[(position - 1) / 2]->ends_at > entry->ends_at) {
        set(expiries, position, expiries->heap[(position - 1) / 2]);
        position = (position - 1) / 2;
    }
    for (size_t child = 2 * position + 1; child < expiries->count; child = 2 * position + 1) {
        if (child + 1 < expiries->count && expiries->heap[child + 1]->ends_at < expiries->heap[child]->ends_at) {
            child++;
        }
        if (expiries->heap[child]->ends_at >= entry->ends_at) {
            break;
        }
        set(expiries, position, expiries->heap[child]);
        position = child;
    }
    set(expiries, position, entry);
}

/* Removes the entry from both structures and returns its client id. */
static char *take(struct expiries *expiries, struct expiry *entry)
{
    struct expiry *last = expiries->heap[--expiries->count];
    char *client_id = entry->client_id;

    tdelete(entry, &expiries->by_client_id, compare_client_ids);
    if (last != entry) {
        set(expiries, entry->position, last);
        settle(expiries, last);
    }
    free(entry);
    return client_id;
}

static bool reserve(struct expiries *expiries)
{
    if (expiries->count < expiries->capacity) {
        return true;
    }
    size_t capacity = expiries->capacity ? 2 * expiries->capacity : FIRST_CAPACITY;
    struct expiry **heap = realloc(expiries->heap, capacity * sizeof(*heap));

    if (!heap) {
        return false;
    }
    expiries->heap = heap;
    expiries->capacity = capacity;
    return true;
}

static struct expiry *add(struct expiries *expiries, const char *client_id)
{
    struct expiry *entry = reserve(expiries) ? calloc(1, sizeof(*entry)) : NULL;

    if (!entry) {
        return NULL;
    }
    entry->client_id = strdup(client_id);
    if (!entry->client_id || !tsearch(entry, &expiries->by_client_id, compare_client_ids)) {
        free(entry->client_id);
        free(entry);
        return NULL;
    }
    set(expiries, expiries->count++, entry);
    return entry;
}

struct expiries *expiries_new(void)
{
    return calloc(1, sizeof(struct expiries));
}

void expiries_free(struct expiries *expiries)
{
    if (!expiries) {
        return;
    }
    while (expiries->count > 0) {
        free(take(expiries, expiries->heap[expiries->count - 1]));
    }
    free(expiries->heap);
    free(expiries);
}

bool expiries_put(struct expiries *expiries, const char *client_id, const void *connection, time_t ends_at)
{
    struct expiry *entry = find(expiries, client_id);

    if (!entry) {
        entry = add(expiries, client_id);
    }
    if (!entry) {
        return false;
    }
    entry->connection = connection;
    entry->ends_at = ends_at;
    settle(expiries, entry);
    return true;
}

void expiries_remove(struct expiries *expiries, const char *client_id, const void *connection)
{
    if (expiries_has(expiries, client_id, connection)) {
        free(take(expiries, find(expiries, client_id)));
    }
}

bool expiries_has(const struct expiries *expiries, const char *client_id, const void *connection)
{
    const struct expiry *entry = find(expiries, client_id);

    return entry && entry->connection == connection;
}

char *expiries_take_due(struct expiries *expiries, time_t now)
{
    if (expiries->count == 0 || expiries->heap[0]->ends_at > now) {
        return NULL;
    }
    return take(expiries, expiries->heap[0]);
}
