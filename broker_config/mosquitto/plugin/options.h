/* The plugin_opt_* lines of mosquitto.conf. */
#ifndef JWT_ACCESS_OPTIONS_H
#define JWT_ACCESS_OPTIONS_H

#include "broker.h"
#include "token.h"

#include <stdint.h>

struct options {
    struct token_rules token_rules;
    char *topic_root;
    uint32_t commands_per_second; /* of one user; 0: not limited */
    uint32_t waiting_commands;    /* of all users, for the service; 0: not limited */
};

/*
 * Reads the options. False when they are wrong, with one sentence for the operator in `problem`; the options must be
 * freed in either case.
 */
bool options_read(const struct mosquitto_opt *given, int count, struct options *options, char *problem, size_t size);
void options_free(struct options *options);

#endif
