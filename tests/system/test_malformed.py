"""What is no frame, no JSON, no UTF-8 or no WebSocket: a clear end for the one that sent it, and for no other."""

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.system.raw import WITHIN_S, Wire, binary_push, ok, watched
from tests.system.test_session_rules import QUIET, ROOM, Hall

FRAME_BYTES_MAX = 1_048_576
V1, V2 = "1.0.0", "2.0.0"
FUZZED_FRAMES = 3_000
MASK = b"\x01\x02\x03\x04"


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    generous = {"AGRENTING_CONTROL_BURST": "1000000", "AGRENTING_JOINS_BURST": "100000"}
    with watched(tmp_path_factory.mktemp("malformed") / "var", **generous) as market:
        yield Hall(market)


@asynccontextmanager
async def bystander(hall: Hall) -> AsyncIterator[Wire]:
    """Bob, in the same room, to whom nothing may happen."""
    async with hall.wire(hall.bob) as bob:
        await bob.join(ROOM, "b")
        yield bob
        await bob.send("b", "x", ROOM, "echo", {"still": "here"})
        assert ok("b", "x", ROOM, {"still": "here"}) in await bob.until_flushed()


NO_FRAMES_V2: list[str | bytes] = [
    "",
    " ",
    "{",
    "[",
    "nonsense",
    "null",
    "1",
    '"text"',
    "[]",
    "{}",
    '{"topic":"room:a","event":"echo","payload":{},"ref":"1"}',
    '["1","1","room:a","echo"]',
    '["1","1",null,"echo",{}]',
    '["1","1","room:a",7,{}]',
    '["1","1",["room:a"],"echo",{}]',
    '["1","1","room:a","echo",{}] trailing',
    '["1","1","room:a","echo",{"a":}]',
    '["1","1","room:a","echo",{"a":01}]',
    "['1','1','room:a','echo',{}]",
    '["1","1","room:a","echo",NaN]',
    '["1","1","room:a\\ud800","echo",{}]',
    f'["1","1","{"t" * 256}","echo",{{}}]',
    f'["1","1","room:a","{"e" * 256}",{{}}]',
    f'["1","{"r" * 256}","room:a","echo",{{}}]',
    f'["{"j" * 256}","1","room:a","echo",{{}}]',
    f'["1",{[1] * 200},"room:a","echo",{{}}]',
    f'["1",{"9" * 400},"room:a","echo",{{}}]',
    "[" * 100_000,
    "[" * 5_000 + "]" * 5_000,
    f'["1",{"[" * 5_000}{"]" * 5_000},"room:a","echo",{{}}]',
    f'["1","1","room:a","echo",{"[" * 5_000}{"]" * 5_000}]',
    '["1","1","room:a","echo",{"half a pair":"\\ud800"}]',
    "\x00",
    b"",
    b"\x00",
    b"\x00\x01\x01",
    b"\x01\x00\x00\x00\x00",
    b"\x02\x06\x04room:ashout",
    b"\xff" * 40,
    b"\x00\xff\xff\xff\xff",
    b"\x00\x01\x01\x06\x04\xff\xfe\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    b'["1","1","room:a","echo",{}]',
]

NO_FRAMES_V1: list[str | bytes] = [
    "",
    "{",
    "[]",
    "null",
    '["1","1","room:a","echo",{}]',
    '{"topic":"room:a","event":"echo","payload":{}}',
    '{"topic":"room:a","event":"echo","ref":"1"}',
    '{"topic":"room:a","payload":{},"ref":"1"}',
    '{"event":"echo","payload":{},"ref":"1"}',
    '{"topic":7,"event":"echo","payload":{},"ref":"1"}',
    '{"topic":"room:a","event":"echo","payload":{},"ref":"1","ref":"2"}',
    '{"topic":"room:a","topic":"room:b","event":"echo","payload":{},"ref":"1"}',
    '{"a":' * 5_000 + "1" + "}" * 5_000,
    binary_push("1", "1", ROOM, "echo", b"x"),
    b"\xff\xfe",
]


def short(value: Any) -> str:
    return repr(value)[:40]


@pytest.mark.parametrize(
    ("vsn", "message"), [(V2, one) for one in NO_FRAMES_V2] + [(V1, one) for one in NO_FRAMES_V1], ids=short
)
async def test_what_is_no_frame_closes_its_connection_alone(hall: Hall, vsn: str, message: str | bytes) -> None:
    async with bystander(hall), hall.wire(vsn=vsn) as mallory:
        await mallory.join(ROOM, "1")
        await mallory.send_raw(message)

        code, reason = await mallory.closed()

        assert code == 1011
        assert reason.startswith("bad frame")


@pytest.mark.parametrize(
    "payload",
    [
        "[" * 65 + "]" * 65,
        '{"a":' * 100 + "1" + "}" * 100,
        '{"limit":1,"limit":2}',
        '{"filters":{"a":1,"a":2}}',
        '{"limit":1e400}',
        '{"limit":9007199254740993}',
        f'{{"limit":{"9" * 5_000}}}',
        '{"limit":1.5}',
        '{"limit":"1"}',
        '{"limit":null}',
        '{"limit":true}',
        '{"limit":-1}',
        '{"limit":0}',
        '{"limit":101}',
        '{"query":""}',
        '{"query":5}',
        f'{{"query":"{"q" * 100_000}"}}',
        '{"cursor":"x"}',
        '{"cursor":5}',
        '{"filters":[]}',
        '{"filters":{"tags":"a"}}',
        '{"filters":{"tags":["a","a",5]}}',
        '{"filters":{"min_reputation":1e308}}',
        '{"filters":{"max_price":-1}}',
        '{"capability":"../../etc/passwd"}',
        '{"capability":["translate"]}',
        "[]",
        "null",
        "7",
        '"text"',
    ],
    ids=short,
)
async def test_a_payload_that_does_not_fit_is_refused_and_the_topic_stays(hall: Hall, payload: str) -> None:
    async with bystander(hall), hall.wire() as mallory:
        await mallory.join("agents:discovery", "1")
        await mallory.until_flushed()
        await mallory.send_raw(f'["1","2","agents:discovery","discover",{payload}]')
        reply = await mallory.receive_event("phx_reply")
        assert reply[4]["status"] == "error", reply
        assert reply[4]["response"]["reason"] in {"invalid_payload", "invalid_cursor"}
        assert reply[4]["response"]["message"]
        assert len(json.dumps(reply)) < 2_000, "the refusal repeats what was sent"
        await mallory.send("1", "3", "agents:discovery", "discover", {})
        assert (await mallory.receive_event("phx_reply"))[4]["status"] == "ok"


@pytest.mark.parametrize(
    "query",
    ['"', "*", "a* OR b", "NEAR(a b)", "(", "a AND", "name:x", "-", "^a", "{a}", "'; --", "\x00", "a\x00b", "%_"],
)
async def test_no_search_text_is_a_query_language(hall: Hall, query: str) -> None:
    async with hall.wire() as mallory:
        await mallory.join("agents:discovery", "1")
        await mallory.until_flushed()
        await mallory.send("1", "2", "agents:discovery", "discover", {"query": query})
        reply = await mallory.receive_event("phx_reply")
        assert reply[4]["status"] == "ok" or reply[4]["response"]["reason"] == "invalid_payload"


@pytest.mark.parametrize("event", ["announce", "update_metadata", "open_negotiation", "open_task", "discover"])
@pytest.mark.parametrize("payload", ["[]", "null", "{}", "1", '{"metadata":[]}', '{"capabilities":{}}'])
async def test_a_wrong_type_for_any_event_is_refused(hall: Hall, event: str, payload: str) -> None:
    async with hall.wire() as mallory:
        await mallory.join("agents:discovery", "1")
        await mallory.until_flushed()
        await mallory.send_raw(f'["1","2","agents:discovery","{event}",{payload}]')
        reply = await mallory.receive_event("phx_reply")
        assert reply[4]["status"] == "error" or event == "discover"


@pytest.mark.parametrize("payload", ["[]", "null", "1", '"x"', '{"meta":[]}', '{"deny":"yes"}', '{"a":1,"a":2}'])
async def test_a_join_payload_that_does_not_fit_is_refused(hall: Hall, payload: str) -> None:
    async with hall.wire() as mallory:
        await mallory.send_raw(f'["1","1","{ROOM}","phx_join",{payload}]')
        reply = await mallory.receive()
        assert reply[4]["response"]["reason"] == "invalid_payload"
        assert reply[0] == "1"


async def test_a_message_larger_than_the_limit_closes_with_1009_whole_or_in_fragments(hall: Hall) -> None:
    async with bystander(hall):
        messages: list[str | list[str]] = ["x" * (FRAME_BYTES_MAX + 1), ["x" * 600_000, "x" * 600_000]]
        for message in messages:
            async with hall.wire() as mallory:
                await mallory.join(ROOM, "1")
                with suppress(ConnectionClosed):
                    await mallory.send_raw(message)
                assert (await mallory.closed())[0] == 1009
        async with hall.wire() as alice:
            await alice.join(ROOM, "1")
            frame = f'["1","2","{ROOM}","ignore",""]'
            await alice.send_raw(frame[:-2] + "x" * (FRAME_BYTES_MAX - len(frame)) + frame[-2:])
            await alice.is_alive()


def masked(first: int, payload: bytes) -> bytes:
    """A client's frame of which everything may be wrong."""
    body = bytes(byte ^ MASK[number % 4] for number, byte in enumerate(payload))
    assert len(payload) < 126
    return bytes((first, 0x80 | len(payload))) + MASK + body


@asynccontextmanager
async def plain_socket(hall: Hall) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A WebSocket without a library on this side."""
    reader, writer = await asyncio.open_connection(*hall.market.address)
    writer.write(
        b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"x-api-key: " + hall.alice.api_key.encode() + b"\r\n\r\n"
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WITHIN_S)
    assert head.startswith(b"HTTP/1.1 101 "), head
    try:
        yield reader, writer
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x81\x02{}", 1002),  # Not masked.
        (masked(0xC1, b"{}"), 1002),  # A reserved bit.
        (masked(0x83, b"{}"), 1002),  # An opcode that is none.
        (masked(0x80, b"{}"), 1002),  # Goes on with nothing.
        (masked(0x09, b"x"), 1002),  # A ping in fragments.
        (masked(0x01, b"a") + masked(0x01, b"b"), 1002),  # A message within a message.
        (masked(0x81, b"\xff\xfe"), 1007),
        (masked(0x01, b"\xc3") + masked(0x80, b"x"), 1007),
        (masked(0x88, b"x"), 1002),  # A close of one byte.
        (masked(0x88, b"\x03\xe8\xff"), 1007),  # A reason that is no UTF-8.
        (masked(0x88, b"\x00\x01"), 1002),  # A code that is none.
        (bytes((0x81, 0xFF)) + (2**62).to_bytes(8, "big") + MASK, 1009),
        (bytes((0x81, 0xFF)) + b"\xff" * 8 + MASK, 1009),
    ],
    ids=short,
)
async def test_what_is_no_websocket_frame_is_closed_with_its_code(hall: Hall, sent: bytes, code: int) -> None:
    async with bystander(hall), plain_socket(hall) as (reader, writer):
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), WITHIN_S)
        assert answer[0] == 0x88, answer
        assert int.from_bytes(answer[2:4], "big") == code


async def test_a_socket_that_vanishes_in_the_middle_of_a_frame_is_forgotten(hall: Hall) -> None:
    async with bystander(hall):
        for cut in (1, 5, 40):
            async with plain_socket(hall) as (_, writer):
                writer.write(masked(0x81, json.dumps([None, "1", "phoenix", "heartbeat", {}]).encode())[:cut])
                await writer.drain()
                writer.transport.abort()


def mutated(chance: random.Random, frame: bytes) -> bytes:
    """A frame with a few bytes changed, left out, doubled or added."""
    changed = bytearray(frame)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(changed) + 1)
        match chance.randrange(4):
            case 0 if place < len(changed):
                changed[place] = chance.randrange(256)
            case 1:
                del changed[place : place + chance.randint(1, 8)]
            case 2:
                changed[place:place] = changed[place : place + chance.randint(1, 8)]
            case _:
                changed[place:place] = chance.choice([b"{", b"[", b'"', b"null", b"1e999", b"\\u0000", b"\xff", b","])
        if not changed:
            return b""
    return bytes(changed)


def seeds() -> list[tuple[str, bytes]]:
    """Good frames to spoil, of either version."""
    events: list[tuple[str, str, Any]] = [
        ("phoenix", "heartbeat", {}),
        (ROOM, "phx_join", QUIET),
        (ROOM, "phx_join", {"key": "k", "meta": {"a": [1, 2.5, None]}}),
        (ROOM, "phx_leave", {}),
        (ROOM, "echo", {"a": 1}),
        (ROOM, "shout", {"a": "ä"}),
        (ROOM, "stop", {}),
        ("agents:discovery", "phx_join", {}),
        ("agents:discovery", "discover", {"query": "words", "filters": {"status": "online", "max_price": 5}}),
        ("agents:discovery", "announce", {"capabilities": ["translate", "summarise"]}),
        ("agents:discovery", "update_metadata", {"metadata": {"a": {"b": [1]}, "status": "busy"}}),
        ("agents:discovery", "open_negotiation", {"provider_agent_id": "x", "capability": "translate", "terms": {}}),
        ("negotiation:x", "phx_join", {}),
        ("task:x", "phx_join", {"a": 1}),
        ("messages:x", "phx_join", {}),
    ]
    frames: list[tuple[str, bytes]] = []
    for topic, event, payload in events:
        frames.append((V2, json.dumps(["1", "2", topic, event, payload]).encode()))
        frames.append((V1, json.dumps({"topic": topic, "event": event, "payload": payload, "ref": "2"}).encode()))
        frames.append((V2, binary_push("1", "2", topic, event, json.dumps(payload).encode())))
    return frames


async def test_spoiled_frames_by_the_thousand_disturb_nobody(hall: Hall) -> None:
    seed = int(os.environ.get("FUZZ_SEED", "7"))
    chance, good = random.Random(seed), seeds()
    sent = 0
    closes: list[int | None] = []
    async with bystander(hall):
        while sent < FUZZED_FRAMES:
            vsn = chance.choice([V1, V2])
            async with hall.wire(vsn=vsn) as mallory:
                try:
                    for _ in range(60):
                        frame = chance.choice([one for version, one in good if version == vsn])
                        frame = mutated(chance, frame) if chance.random() < 0.8 else frame
                        is_binary = vsn == V2 and frame[:1] == b"\x00"
                        await mallory.send_raw(frame if is_binary else frame.decode(errors="replace"))
                        sent += 1
                    await mallory.is_alive()
                except ConnectionClosed as closed:
                    closes.append(None if closed.rcvd is None else closed.rcvd.code)
    assert {*closes} == {1011}, f"seed {seed}"
    assert not hall.market.logged("handler_crashed")
    assert not hall.market.logged("join_crashed")
