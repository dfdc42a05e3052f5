/* Who may do what on which topic: the access table, free of the broker. */
#ifndef JWT_ACCESS_TOPICS_H
#define JWT_ACCESS_TOPICS_H

#include <stdbool.h>
#include <stddef.h>

/* Longest user id, and so the longest `sub`, in bytes. */
#define USER_ID_LIMIT 64
#define EVENT_NAME_LIMIT 32

enum role { ROLE_USER, ROLE_SERVICE, ROLE_PLATFORM };

enum action {
    ACTION_PUBLISH,   /* the client sends, or left as its will, a message: a topic name */
    ACTION_SUBSCRIBE, /* the client asks for a subscription: a topic filter */
    ACTION_RECEIVE,   /* the broker is about to send to the client: a topic name */
};

struct caller {
    enum role role;
    const char *subject; /* valid user id */
};

/* Whether the text is 1 to USER_ID_LIMIT characters of A-Z a-z 0-9 . _ @ - */
bool user_id_is_valid(const char *text, size_t length);

/* False for a word that is no role. */
bool role_from_name(const char *name, size_t length, enum role *role);

/* Writes `role:subject`. No user id has a colon, so it reads back unambiguously. */
void caller_to_username(const struct caller *caller, char *username, size_t size);

/* The inverse; `subject` points into `username`. False for anything this plugin has not written. */
bool caller_from_username(const char *username, struct caller *caller);

/* Big enough for every username written above. */
#define USERNAME_SIZE (sizeof("platform:") + USER_ID_LIMIT)

/* Whether the caller may; everything that is not in the table is denied. `root` is e.g. `chat/v1`. */
bool topic_is_allowed(const char *root, const struct caller *caller, enum action action, const char *topic);

/* Whether it is where the service says the stamps back, see backlog.h. Nobody may subscribe to it. */
bool topic_is_backlog(const char *root, const char *topic);

#endif
