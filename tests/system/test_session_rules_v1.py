"""The session rules in V1 frames, binary frames in both versions, and what WebSocket itself allows."""

import base64
import json
from collections.abc import Iterator

import pytest

from tests.system.raw import binary_push, ok, watched
from tests.system.test_session_rules import CRASHED, QUIET, ROOM, Hall

V1 = "1.0.0"
BYTES = bytes(range(256)) * 3


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    with watched(tmp_path_factory.mktemp("v1") / "var") as market:
        yield Hall(market)


def reply(topic: str, ref: object, response: object = None, status: str = "ok") -> dict[str, object]:
    body = {"status": status, "response": {} if response is None else response}
    return {"topic": topic, "event": "phx_reply", "payload": body, "ref": ref}


async def test_v1_messages_have_just_four_keys(hall: Hall) -> None:
    async with hall.wire(vsn=V1) as wire:
        await wire.send(None, "1", ROOM, "phx_join", QUIET)
        assert await wire.receive() == reply(ROOM, "1")
        await wire.send(None, "2", ROOM, "push_me", {"a": 1})
        assert await wire.receive() == reply(ROOM, "2")
        assert await wire.receive() == {"topic": ROOM, "event": "pushed", "payload": {"a": 1}, "ref": None}
        await wire.send(None, 3, ROOM, "shout", {"b": 2})
        assert await wire.receive() == {"topic": ROOM, "event": "shout", "payload": {"b": 2}, "ref": None}
        await wire.send(None, "4", ROOM, "nothing")
        assert (await wire.receive())["payload"]["response"]["reason"] == "unknown_event"


async def test_a_v1_topic_without_join_ref_closes_and_crashes_without_a_ref(hall: Hall) -> None:
    async with hall.wire(vsn=V1) as wire:
        await wire.join(ROOM)
        wire_join = {"topic": ROOM, "event": "phx_join", "payload": QUIET, "ref": "5"}
        await wire.send_raw(json.dumps(wire_join))
        await wire.until_flushed()
        await wire.send(None, "6", ROOM, "crash")
        assert await wire.receive() == {"topic": ROOM, "event": "phx_error", "payload": CRASHED, "ref": None}
        await wire.send_raw(json.dumps(wire_join))
        await wire.send(None, "7", ROOM, "phx_leave")
        assert await wire.receive() == reply(ROOM, "5")
        assert await wire.receive() == reply(ROOM, "7")
        assert await wire.receive() == {"topic": ROOM, "event": "phx_close", "payload": {}, "ref": None}


async def test_a_join_ref_that_a_v1_client_sends_is_honoured(hall: Hall) -> None:
    async with hall.wire(vsn=V1) as wire:
        await wire.join(ROOM, "1")
        await wire.send("2", "3", ROOM, "echo", {"stale": True})
        await wire.send("2", "4", ROOM, "phx_leave")
        assert await wire.until_flushed() == []
        await wire.send("5", "5", ROOM, "phx_join", QUIET)
        assert await wire.receive() == reply(ROOM, "5")
        assert await wire.receive() == {"topic": ROOM, "event": "phx_close", "payload": {}, "ref": "1"}


async def test_under_v1_a_binary_message_is_json_text(hall: Hall) -> None:
    async with hall.wire(vsn=V1) as wire:
        message = {"topic": ROOM, "event": "phx_join", "payload": QUIET, "ref": "1"}
        await wire.send_raw(json.dumps(message).encode())
        assert await wire.receive() == reply(ROOM, "1")


async def test_a_binary_broadcast_reaches_a_v1_subscriber_as_base64(hall: Hall) -> None:
    async with hall.wire() as alice, hall.wire(hall.bob, vsn=V1) as bob:
        await alice.join(ROOM, "1")
        await bob.join(ROOM, "1")
        await alice.send_raw(binary_push("1", "2", ROOM, "shout", BYTES))
        payload = {"encoding": "base64", "data": base64.b64encode(BYTES).decode()}
        assert await bob.receive() == {"topic": ROOM, "event": "shout", "payload": payload, "ref": None}


async def test_a_binary_push_gets_a_binary_reply(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.join(ROOM, "jä")
        await wire.send_raw(binary_push("jä", "r2", ROOM, "echo", BYTES))
        head = bytes((1, 3, 2, len(ROOM), 2))
        assert await wire.receive() == head + "jär2".encode() + ROOM.encode() + b"ok" + BYTES
        await wire.send_raw(binary_push("jä", "r3", ROOM, "error_reply", b""))
        assert await wire.receive() == bytes((1, 3, 2, len(ROOM), 5)) + "jär3".encode() + ROOM.encode() + b"error"


async def test_a_binary_broadcast_and_push_carry_the_join_ref(hall: Hall) -> None:
    async with hall.wire() as alice, hall.wire(hall.bob) as bob:
        await alice.join(ROOM, "a")
        await bob.join(ROOM, "bb")
        await alice.send_raw(binary_push("a", "1", ROOM, "shout", BYTES))
        assert await alice.receive() == bytes((0, 1, len(ROOM), 5)) + b"a" + ROOM.encode() + b"shout" + BYTES
        assert await bob.receive() == bytes((0, 2, len(ROOM), 5)) + b"bb" + ROOM.encode() + b"shout" + BYTES
        await alice.send_raw(binary_push("a", "2", ROOM, "push_me", b"x"))
        assert await alice.receive() == ok("a", "2", ROOM)
        assert await alice.receive() == bytes((0, 1, len(ROOM), 6)) + b"a" + ROOM.encode() + b"pushed" + b"x"


async def test_every_event_may_come_as_binary_and_json_events_refuse_bytes(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.send_raw(binary_push("", "1", "phoenix", "heartbeat", b"anything"))
        assert await wire.receive() == ok(None, "1", "phoenix")
        await wire.send_raw(binary_push("1", "1", ROOM, "phx_join", b"{}"))
        assert (await wire.receive())[4]["response"]["reason"] == "invalid_payload"
        await wire.join("agents:discovery", "2")
        await wire.until_flushed()
        await wire.send_raw(binary_push("2", "3", "agents:discovery", "discover", b"{}"))
        assert (await wire.receive())[4]["response"]["reason"] == "invalid_payload"
        await wire.send_raw(binary_push("2", "4", "agents:discovery", "phx_leave", b""))
        assert await wire.receive() == ok("2", "4", "agents:discovery")


async def test_an_empty_join_ref_of_a_binary_push_is_text_and_therefore_stale(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.join(ROOM, "1")
        await wire.send_raw(binary_push("", "2", ROOM, "echo", BYTES))
        assert await wire.until_flushed() == []


async def test_a_fragmented_message_is_one_message_and_a_ping_between_is_answered(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.join(ROOM, "1")
        message = json.dumps(["1", "2", ROOM, "echo", {"text": "ä" * 1_000}], ensure_ascii=False)
        await wire.send_raw([message[:10], message[10:500], "", message[500:]])
        assert await wire.receive() == ok("1", "2", ROOM, {"text": "ä" * 1_000})
        data = binary_push("1", "3", ROOM, "echo", BYTES)
        await wire.send_raw([data[:1], data[1:7], data[7:]])
        assert (await wire.receive()).endswith(BYTES)
        assert await (await wire.socket.ping(b"are you there")) >= 0
        await wire.is_alive()


async def test_frames_of_every_length_form_come_back_whole(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.join(ROOM, "1")
        for size in (0, 1, 60, 80, 125, 126, 127, 65_400, 65_535, 65_536, 70_000, 900_000):
            await wire.send("1", size, ROOM, "echo", "x" * size)
            assert await wire.receive() == ["1", size, ROOM, "phx_reply", {"status": "ok", "response": "x" * size}]
