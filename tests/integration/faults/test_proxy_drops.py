"""What the fault proxy takes from a real Mosquitto and from a real gRPC server, and what it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiomqtt
import grpc
import pytest_asyncio
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from devstack.mosquitto import MosquittoServer
from devstack.ports import LOOPBACK
from tests.conftest import MintToken
from tests.faults.proxy import Direction, FaultProxy, Kind

TOPIC = "chat/v1/users/alice/commands/sendMessage"
COMMANDS = "chat/v1/users/+/commands/+"
MOMENT_S = 0.5
DEADLINE_S = 1.0
"""Every dropped answer costs a test so much, and every other must come within it."""


@pytest_asyncio.fixture
async def broker_proxy(mosquitto_server: MosquittoServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(mosquitto_server.mqtt_port) as proxy:
        yield proxy


def client(port: int, user: str, token: str, session_expiry_s: int = 0) -> aiomqtt.Client:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = session_expiry_s
    return aiomqtt.Client(
        LOOPBACK,
        port,
        identifier=f"{user}:proxy-test",
        username=user,
        password=token,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=session_expiry_s == 0,
        properties=properties,
    )


async def confirmed(alice: aiomqtt.Client, payload: bytes) -> bool:
    """Whether the broker's PUBACK for it came."""
    try:
        await alice.publish(TOPIC, payload, qos=1, timeout=MOMENT_S)
    except aiomqtt.MqttError:
        return False
    return True


async def payloads(messages: AsyncIterator[aiomqtt.Message], n: int) -> list[bytes]:
    async with asyncio.timeout(10):
        return [bytes((await anext(messages)).payload) for _ in range(n)]


async def test_every_third_puback_of_the_broker_is_lost_and_nothing_else(
    mosquitto_server: MosquittoServer, broker_proxy: FaultProxy, token: MintToken
) -> None:
    service = client(
        mosquitto_server.mqtt_port, "messaging-service", token("messaging-service", role="service")
    )
    async with service, client(broker_proxy.listen_port, "alice", token("alice")) as alice:
        await service.subscribe(COMMANDS, qos=1)
        messages = aiter(service.messages)
        assert await confirmed(alice, b"before")
        broker_proxy.drop_every(3, Kind.PUBACK, Direction.TO_CLIENT)
        came = [await confirmed(alice, b"%d" % number) for number in range(9)]
        assert came == [True, True, False] * 3
        assert broker_proxy.dropped == 3
        broker_proxy.heal()
        assert await confirmed(alice, b"a body that is longer than 127 bytes " + b"x" * 1_000)
        assert [body[:6] for body in await payloads(messages, 11)] == [
            b"before",
            *(b"%d" % number for number in range(9)),
            b"a body",
        ]


async def test_what_a_subscriber_acknowledged_in_vain_is_delivered_again(
    mosquitto_server: MosquittoServer, broker_proxy: FaultProxy, token: MintToken
) -> None:
    name, password = "messaging-service", token("messaging-service", role="service")
    sent = [b"%d" % number for number in range(10)]
    async with client(mosquitto_server.mqtt_port, "alice", token("alice")) as alice:
        async with client(broker_proxy.listen_port, name, password, session_expiry_s=60) as service:
            await service.subscribe(COMMANDS, qos=1)
            broker_proxy.drop_every(4, Kind.PUBACK, Direction.TO_SERVER)
            for body in sent:
                await alice.publish(TOPIC, body, qos=1)
            assert await payloads(aiter(service.messages), len(sent)) == sent
            async with asyncio.timeout(10):
                while broker_proxy.dropped < 2:
                    await asyncio.sleep(0.01)
        broker_proxy.heal()
        async with client(broker_proxy.listen_port, name, password, session_expiry_s=60) as service:
            again = aiter(service.messages)
            assert await payloads(again, 2) == [sent[3], sent[7]]
            await alice.publish(TOPIC, b"last", qos=1)
            assert await payloads(again, 1) == [b"last"]
        async with client(broker_proxy.listen_port, name, password):
            pass  # A clean start: the broker forgets the session.


class Answers(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # not generic at run time
    """Answers with as many bytes as asked for, or with an error that says so."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        return grpc.unary_unary_rpc_method_handler(
            self._bytes if details.method == "/t/bytes" else self._fail
        )

    async def _bytes(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        await context.send_initial_metadata([("x-first", request.decode()), ("x-same", "same")])
        context.set_trailing_metadata([("x-last", request.decode())])
        return b"x" * int(request)

    async def _fail(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, request.decode())


@pytest_asyncio.fixture
async def grpc_proxy() -> AsyncIterator[FaultProxy]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Answers(),))
    port = server.add_insecure_port(f"{LOOPBACK}:0")
    await server.start()
    async with FaultProxy(port) as proxy:
        yield proxy
    await server.stop(0)


async def outcome(channel: grpc.aio.Channel, method: str, request: bytes) -> grpc.StatusCode:
    """How a call ends; what a good one brings must be right, its metadata too."""
    call = channel.unary_unary(f"/t/{method}", bytes, bytes)(request, timeout=DEADLINE_S)
    try:
        assert await call == b"x" * int(request)
    except grpc.aio.AioRpcError:
        if await call.code() is grpc.StatusCode.NOT_FOUND:
            assert await call.details() == request.decode()
        return await call.code()
    first, last = await call.initial_metadata(), await call.trailing_metadata()
    assert (first["x-first"], first["x-same"], last["x-last"]) == (request.decode(), "same", request.decode())
    return await call.code()


async def test_the_caller_of_a_lost_answer_runs_into_its_deadline_and_the_others_do_not(
    grpc_proxy: FaultProxy,
) -> None:
    ok, lost, missing = (
        grpc.StatusCode.OK,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.NOT_FOUND,
    )
    async with grpc.aio.insecure_channel(f"{LOOPBACK}:{grpc_proxy.listen_port}") as channel:
        assert [await outcome(channel, "bytes", b"%d" % n) for n in range(5)] == [ok] * 5
        grpc_proxy.drop_every(3, Kind.GRPC_ANSWER)
        for _ in range(2):
            assert [await outcome(channel, "bytes", b"%d" % n) for n in range(3)] == [ok, ok, lost]
            assert [await outcome(channel, "fail", b"%d" % n) for n in range(3)] == [missing, missing, lost]
        assert grpc_proxy.dropped == 4
        grpc_proxy.heal()
        assert [await outcome(channel, "bytes", b"%d" % n) for n in range(20, 30)] == [ok] * 10
        assert grpc_proxy.open_connections == 1


async def test_lost_answers_do_not_use_up_the_windows_of_the_connection(grpc_proxy: FaultProxy) -> None:
    size = b"%d" % 400_000
    async with grpc.aio.insecure_channel(f"{LOOPBACK}:{grpc_proxy.listen_port}") as channel:
        grpc_proxy.drop_every(2, Kind.GRPC_ANSWER)
        outcomes = await asyncio.gather(*(outcome(channel, "bytes", size) for _ in range(60)))
        assert outcomes.count(grpc.StatusCode.DEADLINE_EXCEEDED) == 30
        assert outcomes.count(grpc.StatusCode.OK) == 30
        grpc_proxy.heal()
        assert await outcome(channel, "bytes", size) is grpc.StatusCode.OK
        assert grpc_proxy.open_connections == 1
