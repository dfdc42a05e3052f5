/* Tells users of what the broker refuses in the service's place, as the service would: `error` events. */
#ifndef JWT_ACCESS_REFUSALS_H
#define JWT_ACCESS_REFUSALS_H

#include "broker.h"

#include <stdint.h>

/*
 * Publishes RATE_LIMITED or BUSY to all devices of the user whose command was refused, with the command's correlation
 * data. What memory is too short for is not published: the PUBACK says that it was refused.
 */
void refusals_publish(const char *topic_root, const char *user, const struct mosquitto_evt_message *refused,
                      const char *code, uint32_t retry_after_ms);

#endif
