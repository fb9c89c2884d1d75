"""Chunks on sockets of a whole server: relayed before they are durable, taken back, in binary, not too many at once.

Alice's client has hired Bob's translator. Nothing is durable before the test lets the loop turn.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from agrenting import auth
from agrenting.connection import Connection
from agrenting.db.commit import Outcome, StorageUnavailable, Unit
from agrenting.transport import HubProtocol
from channels.chunks import binary_chunk
from channels.wire import Vsn
from tests.agrenting.api.market import PRICE, FakeSocket, Marketplace, Player, marketplace
from tests.agrenting.replay_stage import decoded

INBOX: Final = 10_000


class Reading(FakeSocket):
    """A transport that notes when it is not read from, and takes binary frames."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read = True
        self.held = 0

    def hold_reading(self) -> None:
        self.is_read = False
        self.held += 1

    def resume_reading(self) -> None:
        self.is_read = True

    def send_message(self, message: str | bytes) -> None:
        event, payload = decoded(message)
        ref = None if isinstance(message, bytes) else json.loads(message)[1]
        self.sent.append((None, ref, None, event, payload))

    def flush(self) -> None:
        """Nothing waits."""

    async def drained(self) -> None:
        """It always reads."""

    def told(self, event: str) -> list[Any]:
        """The payloads of one event."""
        return [payload for *_, name, payload in self.sent if name == event]

    def reply(self, ref: str) -> dict[str, Any]:
        """What a push was answered."""
        (payload,) = [one[4] for one in self.sent if one[1] == ref and one[3] == "phx_reply"]
        answer: dict[str, Any] = payload
        return answer


class Deal:
    """A task that has begun, Alice's socket and Bob's."""

    def __init__(self, market: Marketplace, task_id: str) -> None:
        self.market = market
        self.task_id = task_id
        self.topic = f"task:{task_id}"

    async def join(self, player: Player, **payload: Any) -> tuple[Connection, Reading]:
        """A new socket, joined."""
        connection, socket = await self.socket(player)
        self.rejoin(connection, **payload)
        await self.settled()
        assert socket.reply("j")["status"] == "ok"
        return connection, socket

    async def socket(self, player: Player) -> tuple[Connection, Reading]:
        """A new socket."""
        server = self.market.server
        credential = await server.database.read(
            lambda tx: auth.resolve(tx, player.api_key, agent_id=None, now=self.market.clock())
        )
        socket = Reading()
        transport: Any = socket
        connection = Connection(server.hub, transport, credential.identity, Vsn.V2)
        server.hub.add(connection)
        return connection, socket

    def rejoin(self, connection: Connection, **payload: Any) -> None:
        connection.receive(json.dumps(["j", "j", self.topic, "phx_join", payload]))

    def push(self, connection: Connection, ref: str, event: str, payload: Any) -> None:
        connection.receive(json.dumps(["j", ref, self.topic, event, payload]))

    def push_binary(self, connection: Connection, ref: str, event: str, data: bytes) -> None:
        parts = [part.encode() for part in ("j", ref, self.topic, event)]
        connection.receive(bytes((0, *map(len, parts))) + b"".join(parts) + data)

    async def settled(self) -> None:
        """Everything that was sent is decided, and what is replayed is pushed."""
        server = self.market.server
        await server.engine.drain()
        replaying = getattr(server.hub, "_tasks")  # noqa: B009 - what runs beside is the hub's own
        while replaying:
            await asyncio.gather(*replaying)


@pytest.fixture
async def deal(tmp_path: Path) -> AsyncIterator[tuple[Deal, Player, Player]]:
    async with marketplace(tmp_path / "var", inbox_bytes_max=INBOX) as market:
        alice, bob = await market.deal()
        body = {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE}
        task = await alice.post("/tasks", body)
        await bob.post(f"/tasks/{task['id']}/progress", {"percent": 1})
        yield Deal(market, task["id"]), alice, bob


Given = tuple[Deal, Player, Player]


async def warm(deal: Deal, by_bob: Connection) -> None:
    """A first chunk, by which the server knows how the task stands."""
    deal.push(by_bob, "warm", "output_stream", {"chunk": "warm", "seq": 0})
    await deal.settled()


async def test_a_chunk_is_relayed_at_once_and_answered_once_it_is_durable(deal: Given) -> None:
    room, alice, bob = deal
    _, hers = await room.join(alice)
    by_bob, his = await room.join(bob)
    await warm(room, by_bob)

    room.push(by_bob, "1", "output_stream", {"chunk": "eins", "seq": 1})

    assert [one["seq"] for one in hers.told("output_stream")] == [0, 1]
    assert [one for one in his.sent if one[1] == "1"] == []
    await room.settled()
    reply = his.reply("1")["response"]
    assert (reply["seq"], reply["next_seq"], reply["total_size"]) == (1, 2, 8)
    assert [one["seq"] for one in hers.told("output_stream")] == [0, 1]
    assert his.told("output_stream") == []


async def test_what_is_relayed_ahead_is_what_is_told_once_it_is_durable(deal: Given) -> None:
    """Carol is no party: another socket of Alice's joins later and is replayed what the first one was relayed."""
    room, alice, bob = deal
    _, hers = await room.join(alice)
    by_bob, _ = await room.join(bob)
    await warm(room, by_bob)
    for seq in range(1, 6):
        room.push(by_bob, str(seq), "output_stream", {"chunk": str(seq), "seq": seq})
    room.push(by_bob, "p", "progress", {"percent": 9, "message": "soon"})
    _, later = await room.join(alice, output_from=0)

    fields = ("seq", "chunk", "encoding")
    relayed = [tuple(one[name] for name in fields) for one in hers.told("output_stream")]
    assert relayed == [tuple(one[name] for name in fields) for one in later.told("output_stream")]
    assert [one["percent"] for one in hers.told("progress")] == [9]
    assert later.reply("j")["response"]["progress"] == {"percent": 9, "message": "soon"}


async def test_where_the_disk_fails_receivers_join_again_and_the_sender_sends_again(
    deal: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, alice, bob = deal
    by_alice, hers = await room.join(alice)
    by_bob, his = await room.join(bob)
    await warm(room, by_bob)
    commits = room.market.server.database.commits
    with monkeypatch.context() as broken:

        def fail(batch: list[Unit]) -> list[Any]:
            return [Outcome(None, StorageUnavailable("the disk is full")) for _ in batch]

        broken.setattr(commits, "_commit", fail)
        for seq in (1, 2):
            room.push(by_bob, str(seq), "output_stream", {"chunk": "lost", "seq": seq})
        await room.settled()
    assert [his.reply(ref)["response"]["reason"] for ref in "12"] == ["unavailable", "unavailable"]
    assert hers.told("phx_error") == [{"reason": "relay_void"}]
    assert his.told("phx_error") == []

    room.rejoin(by_alice, output_from=3)
    await room.settled()
    for seq in (1, 2):
        room.push(by_bob, f"again {seq}", "output_stream", {"chunk": "kept", "seq": seq})
    await room.settled()

    told = [(one["seq"], one["chunk"]) for one in hers.told("output_stream")]
    assert told == [(0, "warm"), (1, "lost"), (2, "lost"), (1, "kept"), (2, "kept")]
    assert hers.told("phx_error") == [{"reason": "relay_void"}]


async def test_where_publishing_fails_the_sender_is_answered_all_the_same(
    deal: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, _, bob = deal
    by_bob, his = await room.join(bob)
    await warm(room, by_bob)
    with monkeypatch.context() as broken:

        def fail(*_: Any) -> None:
            raise RuntimeError("a bug")

        broken.setattr(room.market.server.engine, "publish", fail)
        room.push(by_bob, "1", "output_stream", {"chunk": "a", "seq": 1})
        await room.settled()

    assert his.reply("1")["response"]["next_seq"] == 2


# Binary frames.


async def test_binary_chunks_come_as_such_to_who_wants_them_and_as_base64_to_others(deal: Given) -> None:
    room, alice, bob = deal
    _, plain = await room.join(alice)
    _, binary = await room.join(alice, binary=True)
    by_bob, his = await room.join(bob)
    await warm(room, by_bob)

    room.push_binary(by_bob, "1", "output_stream", binary_chunk(1, b"\x00\xff"))
    await room.settled()

    assert his.reply("1")["response"]["next_seq"] == 2
    assert binary.told("output_stream")[1] == {"seq": 1, "bytes": b"\x00\xff"}
    told = plain.told("output_stream")[1]
    assert (told["seq"], base64.b64decode(told["chunk"]), told["encoding"]) == (1, b"\x00\xff", "base64")
    assert "chunk" in binary.told("output_stream")[0]  # What came as text comes as text.


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("output_stream", b""),
        ("output_stream", b"\x00" * 8),
        ("output_stream", b"\xff" * 8 + b"a"),
        ("progress", b"\x00" * 9),
        ("output_complete", b"\x00" * 9),
    ],
)
async def test_a_binary_frame_that_says_nothing_is_refused_and_the_socket_stays(
    deal: Given, event: str, data: bytes
) -> None:
    room, _, bob = deal
    by_bob, his = await room.join(bob)
    room.push_binary(by_bob, "1", event, data)
    await room.settled()

    assert his.reply("1")["status"] == "error"
    assert his.reply("1")["response"]["reason"] == "invalid_payload"
    assert his.closed_with is None


# Not too much at once.


async def test_a_socket_with_too_many_bytes_under_way_is_not_read_until_half_of_them_are_stored(deal: Given) -> None:
    room, _, bob = deal
    by_bob, his = await room.join(bob)
    for seq in range(4):
        room.push(by_bob, str(seq), "output_stream", {"chunk": "x" * 3_000, "seq": seq})
        assert his.is_read == (seq < 3)
    await room.settled()

    assert his.is_read
    assert his.held == 1
    assert his.reply("3")["response"]["next_seq"] == 4


async def test_refused_frames_are_not_under_way_any_more(deal: Given) -> None:
    room, _, bob = deal
    by_bob, his = await room.join(bob)
    for number in range(20):
        room.push(by_bob, str(number), "output_stream", {"chunk": 5, "more": "x" * 3_000})

    assert his.is_read
    assert his.held == 0
    assert {his.reply(str(number))["response"]["reason"] for number in range(20)} == {"invalid_payload"}


# The transport.


class Pipe:
    """What is written to a peer."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing to let go of."""


async def wire_of() -> tuple[HubProtocol, Pipe]:
    """An open connection whose peer reads."""

    async def nothing(_scope: Any, _receive: Any, _send: Any) -> None:
        """No application."""

    config = Config(nothing, lifespan="off", log_config=None)
    config.load()
    protocol, pipe = HubProtocol(config=config, server_state=ServerState(), app_state={}), Pipe()
    given: Any = pipe
    protocol.connection_made(given)
    return protocol, pipe


async def test_a_peer_that_reads_is_waited_for_no_longer_than_it_takes_to_write() -> None:
    protocol, pipe = await wire_of()
    protocol.send_message("hello")
    await asyncio.wait_for(protocol.drained(), 30)

    assert b"".join(pipe.written).endswith(b"hello")
    assert protocol.outbox_bytes == 0


async def test_a_peer_that_does_not_read_is_waited_for_by_everybody_until_it_does() -> None:
    protocol, pipe = await wire_of()
    protocol.pause_writing()
    protocol.send_message("hello")
    waiting = [asyncio.create_task(protocol.drained()) for _ in range(3)]
    await asyncio.sleep(0)
    assert pipe.written == []
    assert not any(one.done() for one in waiting)
    waiting[1].cancel()  # Who has given up does not stand in the way of the others.

    protocol.resume_writing()

    await asyncio.wait_for(asyncio.gather(waiting[0], waiting[2]), 30)
    assert b"".join(pipe.written).endswith(b"hello")


async def test_nobody_waits_for_a_peer_that_is_gone() -> None:
    protocol, _ = await wire_of()
    protocol.pause_writing()
    waiting = asyncio.create_task(protocol.drained())
    await asyncio.sleep(0)
    assert not waiting.done()

    protocol.connection_lost(None)

    await asyncio.wait_for(waiting, 30)
