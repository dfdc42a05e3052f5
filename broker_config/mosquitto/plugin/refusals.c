#include "refusals.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAYLOAD_SIZE 256
#define COMMAND_LIMIT 32

/* The last level of the topic, unless it is the client's own text and no name. */
static const char *command_of(const char *topic)
{
    static const char LETTERS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const char *command = strrchr(topic, '/') + 1;
    size_t length = strspn(command, LETTERS);

    return command[length] == '\0' && length <= COMMAND_LIMIT ? command : "unknown";
}

/* The event's properties with the command's correlation data; NULL when it has none. */
static mosquitto_property *correlation_of(const mosquitto_property *properties)
{
    mosquitto_property *copied = NULL;
    void *data = NULL;
    uint16_t length;

    if (mosquitto_property_read_binary(properties, MQTT_PROP_CORRELATION_DATA, &data, &length, false)) {
        mosquitto_property_add_binary(&copied, MQTT_PROP_CORRELATION_DATA, data, length);
        free(data);
    }
    return copied;
}

void refusals_publish(const char *topic_root, const char *user, const struct mosquitto_evt_message *refused,
                      const char *code, uint32_t retry_after_ms)
{
    char *topic;
    char payload[PAYLOAD_SIZE];

    if (asprintf(&topic, "%s/users/%s/events/error", topic_root, user) < 0) {
        return;
    }
    mosquitto_property *properties = correlation_of(refused->properties);
    int length = snprintf(payload, sizeof(payload),
                          "{\"code\":\"%s\",\"message\":\"refused by the broker\",\"retryable\":true,"
                          "\"command\":\"%s\",\"retryAfterMs\":%" PRIu32 "}",
                          code, command_of(refused->topic), retry_after_ms);

    if (mosquitto_broker_publish_copy(NULL, topic, length, payload, 0, false, properties) != MOSQ_ERR_SUCCESS) {
        mosquitto_property_free_all(&properties);
    }
    free(topic);
}
