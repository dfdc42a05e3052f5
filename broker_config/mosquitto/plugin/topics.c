#include "topics.h"

#include <stdio.h>
#include <string.h>

static const char *const ROLE_NAMES[] = {
    [ROLE_USER] = "user",
    [ROLE_SERVICE] = "service",
    [ROLE_PLATFORM] = "platform",
};

enum area { AREA_COMMANDS, AREA_EVENTS, AREA_PLATFORM_EVENTS };

/* {root}/users/{user}/commands/{name}, {root}/users/{user}/events/{name} or {root}/platform/events/{name} */
struct place {
    enum area area;
    const char *user; /* not terminated; NULL in the platform's area */
    size_t user_length;
    const char *name;
};

bool user_id_is_valid(const char *text, size_t length)
{
    static const char CHARACTERS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@-";

    return length >= 1 && length <= USER_ID_LIMIT && strspn(text, CHARACTERS) >= length;
}

bool role_from_name(const char *name, size_t length, enum role *role)
{
    for (enum role known = ROLE_USER; known <= ROLE_PLATFORM; known++) {
        if (strlen(ROLE_NAMES[known]) == length && memcmp(ROLE_NAMES[known], name, length) == 0) {
            *role = known;
            return true;
        }
    }
    return false;
}

void caller_to_username(const struct caller *caller, char *username, size_t size)
{
    snprintf(username, size, "%s:%s", ROLE_NAMES[caller->role], caller->subject);
}

bool caller_from_username(const char *username, struct caller *caller)
{
    const char *colon = username ? strchr(username, ':') : NULL;

    if (!colon || !role_from_name(username, (size_t)(colon - username), &caller->role)) {
        return false;
    }
    caller->subject = colon + 1;
    return user_id_is_valid(caller->subject, strlen(caller->subject));
}

/* The text after `prefix`, or NULL when it does not start so. */
static const char *after(const char *text, const char *prefix)
{
    size_t length = strlen(prefix);

    return text && strncmp(text, prefix, length) == 0 ? text + length : NULL;
}

/* The text after its first level and the slash behind it, or NULL when there is no slash. */
static const char *after_level(const char *text, size_t *level_length)
{
    *level_length = strcspn(text, "/");
    return text[*level_length] == '/' ? text + *level_length + 1 : NULL;
}

static bool parse(const char *root, const char *topic, struct place *place)
{
    const char *below_root = after(after(topic, root), "/");
    const char *name = after(below_root, "platform/events/");

    *place = (struct place){.area = AREA_PLATFORM_EVENTS, .name = name};
    if (name) {
        return true;
    }
    place->user = after(below_root, "users/");
    if (!place->user) {
        return false;
    }
    const char *below_user = after_level(place->user, &place->user_length);

    place->area = AREA_COMMANDS;
    place->name = after(below_user, "commands/");
    if (!place->name) {
        place->area = AREA_EVENTS;
        place->name = after(below_user, "events/");
    }
    return place->name != NULL;
}

/* One level with a name: not empty, no wildcard, nothing below it. */
static bool is_name(const char *level)
{
    return level[0] != '\0' && level[strcspn(level, "/+#")] == '\0';
}

static bool is_name_or_plus(const char *level)
{
    return is_name(level) || strcmp(level, "+") == 0;
}

/* A session keeps each filter that it was given, so that of those that no event can have it keeps none. */
static bool is_event_name_or_plus(const char *level)
{
    static const char LETTERS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    size_t length = strspn(level, LETTERS);

    return strcmp(level, "+") == 0 || (length >= 1 && length <= EVENT_NAME_LIMIT && level[length] == '\0');
}

static bool is_own(const struct place *place, const char *subject)
{
    return place->user_length == strlen(subject) && memcmp(place->user, subject, place->user_length) == 0;
}

static bool is_some_user(const struct place *place)
{
    return user_id_is_valid(place->user, place->user_length);
}

static bool is_every_user(const struct place *place)
{
    return place->user_length == 1 && place->user[0] == '+';
}

static bool user_may(const struct place *place, enum action action, const char *subject)
{
    if (place->area == AREA_PLATFORM_EVENTS || !is_own(place, subject)) {
        return false;
    }
    switch (action) {
    case ACTION_PUBLISH:
        return place->area == AREA_COMMANDS && is_name(place->name);
    case ACTION_SUBSCRIBE:
        return place->area == AREA_EVENTS && is_event_name_or_plus(place->name);
    case ACTION_RECEIVE:
        return place->area == AREA_EVENTS && is_name(place->name);
    }
    return false;
}

static bool platform_may(const struct place *place, enum action action)
{
    if (place->area != AREA_PLATFORM_EVENTS) {
        return false;
    }
    return action == ACTION_SUBSCRIBE ? is_name_or_plus(place->name) : is_name(place->name);
}

static bool service_may(const struct place *place, enum action action)
{
    if (place->area == AREA_PLATFORM_EVENTS) {
        return platform_may(place, action);
    }
    switch (action) {
    case ACTION_PUBLISH:
        return place->area == AREA_EVENTS && is_some_user(place) && is_name(place->name);
    case ACTION_SUBSCRIBE:
        return place->area == AREA_COMMANDS && is_every_user(place) && strcmp(place->name, "+") == 0;
    case ACTION_RECEIVE:
        return place->area == AREA_COMMANDS && is_some_user(place) && is_name(place->name);
    }
    return false;
}

/* The filter below `$share/{group}/`, or NULL when the group has no proper name. */
static const char *below_share(const char *shared)
{
    size_t group_length;
    const char *filter = after_level(shared, &group_length);

    return filter && group_length > 0 && strcspn(shared, "+#") >= group_length ? filter : NULL;
}

bool topic_is_backlog(const char *root, const char *topic)
{
    const char *below_root = after(after(topic, root), "/");

    return below_root && strcmp(below_root, "service/backlog") == 0;
}

bool topic_is_allowed(const char *root, const struct caller *caller, enum action action, const char *topic)
{
    struct place place;
    const char *shared = action == ACTION_SUBSCRIBE && caller->role == ROLE_SERVICE ? after(topic, "$share/") : NULL;

    if (shared) {
        topic = below_share(shared);
    }
    if (topic && caller->role == ROLE_SERVICE && action == ACTION_PUBLISH && topic_is_backlog(root, topic)) {
        return true;
    }
    if (!topic || !parse(root, topic, &place)) {
        return false;
    }
    switch (caller->role) {
    case ROLE_USER:
        return user_may(&place, action, caller->subject);
    case ROLE_SERVICE:
        return service_may(&place, action);
    case ROLE_PLATFORM:
        return platform_may(&place, action);
    }
    return false;
}
