"""A consumer that does not read: it is closed, it slows nobody, and the server's memory stays bounded."""

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.harness import Client
from tests.system.raw import WITHIN_S, WatchedMarket, watched
from tests.system.test_session_rules import QUIET, Hall

OUTBOX = 200_000
CHUNK = "x" * 50_000
DEAF, SHOUTS_MAX = 200, 300


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    settings = {"AGRENTING_OUTBOX_BYTES_MAX": str(OUTBOX), "AGRENTING_CONTROL_BURST": "100000"}
    with watched(tmp_path_factory.mktemp("slow") / "var", **settings) as market:
        yield Hall(market)


def resident_kib(pid: int) -> int:
    """What a process holds in memory."""
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return int(status.partition("VmRSS:")[2].split()[0])


async def deaf_socket(market: WatchedMarket, key: str, topic: str) -> socket.socket:
    """A socket that has joined a room with a presence, and reads nothing ever after. Its buffers are small."""
    loop = asyncio.get_running_loop()
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    deaf.settimeout(0)
    await loop.sock_connect(deaf, market.address)
    handshake = (
        "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nx-api-key: {key}\r\n\r\n"
    )
    await loop.sock_sendall(deaf, handshake.encode())
    await hear(deaf, b"\r\n\r\n")
    frame = json.dumps(["d", "d", topic, "phx_join", {}]).encode()
    await loop.sock_sendall(deaf, bytes((0x81, 0x80 | len(frame), 0, 0, 0, 0)) + frame)
    await hear(deaf, b'"phx_reply"')
    return deaf


async def hear(deaf: socket.socket, mark: bytes) -> None:
    """Read until the mark has come."""
    heard = b""
    async with asyncio.timeout(WITHIN_S):
        while mark not in heard:
            came = await asyncio.get_running_loop().sock_recv(deaf, 4_096)
            assert came, heard
            heard += came


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
async def test_who_does_not_read_is_closed_and_slows_nobody_and_memory_stays_bounded(hall: Hall) -> None:
    """Hundreds at once: each one's leaving is told to the others, whose outboxes are as full."""
    market = hall.market
    assert market.process is not None
    deaf: list[socket.socket] = []
    try:
        while len(deaf) < DEAF:
            deaf.append(await deaf_socket(market, hall.bob.api_key, "room:loud"))
        async with market.client(hall.alice.api_key) as alice:
            await alice.join("room:loud", QUIET)
            held, shouted = resident_kib(market.process.pid), 0
            while len(market.logged("slow_consumer")) < DEAF:
                assert shouted < SHOUTS_MAX, "somebody who does not read is never closed"
                await shout(alice, 10)
                shouted += 10
                grown = resident_kib(market.process.pid) - held
                # An outbox, and what the transport holds of it, of each; without a bound it were all that was shouted.
                assert grown < DEAF * 2 * (OUTBOX + 10 * len(CHUNK)) // 1_024, f"{grown} KiB"
            slow = market.logged("slow_consumer")
            assert max(line["outbox_bytes"] for line in slow) < OUTBOX + 2 * len(CHUNK)
    finally:
        for one in deaf:
            one.close()


async def shout(alice: Client, shouts: int) -> None:
    """Shout a few at a time, as one who reads, and hear every one in order."""
    for start in range(0, shouts, 10):
        for number in range(start, start + 10):
            payload = {"n": number, "text": CHUNK}
            frame = [alice.join_refs["room:loud"], None, "room:loud", "shout", payload]
            await alice.socket.send(json.dumps(frame))
        for number in range(start, start + 10):
            assert (await alice.expect("shout"))["n"] == number


async def test_a_slow_consumer_that_reads_at_last_is_told_why(hall: Hall) -> None:
    deaf = await deaf_socket(hall.market, hall.bob.api_key, "room:loud")
    before = len(hall.market.logged("slow_consumer"))
    with deaf:
        async with hall.market.client(hall.alice.api_key) as alice:
            await alice.join("room:loud", QUIET)
            while len(hall.market.logged("slow_consumer")) == before:
                await shout(alice, 10)
        loop, tail = asyncio.get_running_loop(), b""
        async with asyncio.timeout(WITHIN_S):
            while heard := await loop.sock_recv(deaf, 65_536):
                tail = (tail + heard)[-200:]
        assert b"outbox is full" in tail
        assert (1013).to_bytes(2, "big") + b"you do not read" in tail
