/* The broker's plugin interface: two headers in 2.0, one in 2.1, where the old ones warn. */
#ifndef JWT_ACCESS_BROKER_H
#define JWT_ACCESS_BROKER_H

#include <mosquitto.h>

#if __has_include(<mosquitto/broker_plugin.h>)
#include <mosquitto/mqtt_protocol.h>
#define BROKER_TELLS_OF_OFFLINE_CLIENTS 1
/* PUBACK 0x97, and the session goes on. */
#define REFUSED_AS_TOO_MUCH MOSQ_ERR_QUOTA_EXCEEDED
#else
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#include <mqtt_protocol.h>
/* 2.0 knows PUBACK 0x87 only. */
#define REFUSED_AS_TOO_MUCH MOSQ_ERR_ACL_DENIED
#endif

#endif
