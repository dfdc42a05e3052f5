/* The broker's plugin interface: two headers in 2.0, one in 2.1, where the old ones warn. */
#ifndef JWT_ACCESS_BROKER_H
#define JWT_ACCESS_BROKER_H

#include <mosquitto.h>

#if __has_include(<mosquitto/broker_plugin.h>)
#define BROKER_TELLS_OF_OFFLINE_CLIENTS 1
#else
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#endif

#endif
