/* When the token of each connected client ends: put, remove and take in O(log n). */
#ifndef JWT_ACCESS_EXPIRIES_H
#define JWT_ACCESS_EXPIRIES_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

struct expiries;

/* NULL when out of memory. */
struct expiries *expiries_new(void);
void expiries_free(struct expiries *expiries);

/*
 * Records when the client must go. A client id has one entry, which belongs to the connection that put it last:
 * on a takeover the new connection is authenticated before the broker tells that the old one has ended.
 * False when out of memory; the client then has no entry.
 */
bool expiries_put(struct expiries *expiries, const char *client_id, const void *connection, time_t ends_at);

/* Forgets the client, if the entry is this connection's. */
void expiries_remove(struct expiries *expiries, const char *client_id, const void *connection);

/* Whether the client's entry is this connection's. */
bool expiries_has(const struct expiries *expiries, const char *client_id, const void *connection);

/* Takes out a client whose end is not after `now`; the caller frees the id. NULL when nobody is due. */
char *expiries_take_due(struct expiries *expiries, time_t now);

#endif
