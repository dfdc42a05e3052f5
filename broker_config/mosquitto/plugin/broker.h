/* The broker's plugin interface: two headers in 2.0, one in 2.1, where the old ones warn. */
#ifndef JWT_ACCESS_BROKER_H
#define JWT_ACCESS_BROKER_H

#include <mosquitto.h>

#if __has_include(<mosquitto/broker_plugin.h>)
#include <mosquitto/mqtt_protocol.h>
#define BROKER_TELLS_OF_OFFLINE_CLIENTS 1
/* PUBACK 0x97, and the session goes on. */
#define REFUSED_AS_TOO_MUCH MOSQ_ERR_QUOTA_EXCEEDED
/* CONNACK 0x9F. */
#define REFUSED_FOR_A_WHILE MOSQ_ERR_CONNECTION_RATE_EXCEEDED
#else
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#include <mqtt_protocol.h>
/* 2.0 knows 0x87 only, in PUBACK and CONNACK. */
#define REFUSED_AS_TOO_MUCH MOSQ_ERR_ACL_DENIED
#define REFUSED_FOR_A_WHILE MOSQ_ERR_AUTH
#endif

#define PLUGIN_NAME "jwt_access"

/* Of an access check or a message: any error but a refusal does. */
#define ENDS_THE_CONNECTION MOSQ_ERR_ADMINISTRATIVE_ACTION

static inline const char *client_id_of(const struct mosquitto *client)
{
    const char *client_id = mosquitto_client_id(client);

    return client_id ? client_id : "";
}

#endif
