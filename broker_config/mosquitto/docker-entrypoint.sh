#!/bin/sh
# Writes mosquitto.conf from the environment and runs the command.
#
#   JWT_ALGORITHM          HS256, RS256 or ES256; required
#   JWT_SECRET             HS256: the secret, or
#   JWT_SECRET_FILE        a mounted file that holds it; user 1883 must be able to read it
#   JWT_PUBLIC_KEY_FILE    RS256, ES256: a mounted PEM file, likewise
#   JWT_AUDIENCE           checked where set
#   JWT_ISSUER             checked where set
#   JWT_REQUIRE_CID        true: each user's token must name its client id (claim cid)
#   COMMANDS_PER_SECOND    of one user, up to 1000000; default 1000, 0 for no limit
#   WAITING_COMMANDS       of all users for the service, up to 30000; see README.md
#   TOPIC_ROOT             default chat/v1
#   MQTT_HOST, MQTT_PORT, WEBSOCKET_HOST, WEBSOCKET_PORT   default 0.0.0.0, 1883 and 9001
set -eu

template=${MOSQUITTO_TEMPLATE:-/usr/share/mosquitto/mosquitto.conf.template}
folder=${MOSQUITTO_FOLDER:-/mosquitto}
config=$folder/config/mosquitto.conf

: "${JWT_ALGORITHM:?set it to HS256, RS256 or ES256}"

JWT_OPTIONS=
option() {
    if [ -n "$2" ]; then
        JWT_OPTIONS="${JWT_OPTIONS}plugin_opt_$1 $2
"
    fi
}
option jwt_algorithm "$JWT_ALGORITHM"
option jwt_secret "${JWT_SECRET:-}"
option jwt_secret_file "${JWT_SECRET_FILE:-}"
option jwt_public_key_file "${JWT_PUBLIC_KEY_FILE:-}"
option jwt_audience "${JWT_AUDIENCE:-}"
option jwt_issuer "${JWT_ISSUER:-}"
option jwt_require_cid "${JWT_REQUIRE_CID:-}"
option commands_per_second "${COMMANDS_PER_SECOND:-}"
option waiting_commands "${WAITING_COMMANDS:-}"

export JWT_OPTIONS
export MQTT_HOST="${MQTT_HOST:-0.0.0.0}" MQTT_PORT="${MQTT_PORT:-1883}"
# The service is in another container: there is no unix socket that both could see.
export UNIX_LISTENER=
export WEBSOCKET_HOST="${WEBSOCKET_HOST:-0.0.0.0}" WEBSOCKET_PORT="${WEBSOCKET_PORT:-9001}"
export TOPIC_ROOT="${TOPIC_ROOT:-chat/v1}"
export PERSISTENCE_DIR="$folder/data/"
export PLUGIN_PATH="${PLUGIN_PATH:-/usr/lib/mosquitto_jwt_access.so}"
export SYSTEM_USER=mosquitto

# The file may hold the secret.
umask 077
rm -f "$config"
envsubst < "$template" > "$config"

if [ "$(id -u)" = 0 ]; then
    chown mosquitto "$config"
    chown -R mosquitto "$folder/data"
fi
unset JWT_OPTIONS JWT_SECRET
exec "$@"
