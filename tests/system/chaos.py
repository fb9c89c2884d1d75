"""A network that nobody would want: a TCP proxy before a server; it delays, stalls, cuts, half-closes and duplicates.

What happens to a connection is drawn from the seed and its number, so that a run can be had again as far as the order
of connections is the same; `log` says what was done and when. Bytes are never changed: what comes is what was sent.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, NamedTuple, Self
from urllib.parse import urlsplit

BLOCK_BYTES: Final = 65_536
LOST: Final = (OSError, asyncio.IncompleteReadError)

KINDS: Final = {
    "none": 1,
    "cut": 4,
    "answer lost": 5,
    "half-closed to server": 2,
    "half-closed to client": 2,
    "stalled": 3,
    "duplicated": 4,
}
"""What may happen to a connection, and how often beside the others.

cut: both sides hear nothing more, at once.
answer lost: what the server says next is swallowed, and the connection is cut: it has acted, and nobody knows.
half-closed to server, to client: that side hears the end, the other goes on talking for a while.
stalled: nothing comes through for a while, then all of it; after as long again it is cut.
duplicated: a second connection to the server is fed the same bytes, and may be the faster one; both are cut at last.
"""


class Mishap(NamedTuple):
    """What happens to one connection.

    Args:
        kind: One of `KINDS`.
        after_s: When, from its opening.
        lasts_s: How long a stall takes, or one direction lives on.
        jitter_s: The most that each block of bytes is delayed, all the time.
    """

    kind: str
    after_s: float
    lasts_s: float
    jitter_s: float


class Happened(NamedTuple):
    """One line of the log: when, from the start; on which connection; what."""

    at_s: float
    connection: int
    what: str


class ChaosProxy:
    """The proxy. Use it as an asynchronous context; `url` is where clients go.

    Args:
        target: Gives the server's address, which may be another one after a restart.
        seed: Of all that happens.
        longest_s: Connections with a mishap have it this long after their opening at most.
        kinds: What may happen, and how often beside the others; None: `KINDS`.
    """

    def __init__(
        self, target: Callable[[], str], seed: int, *, longest_s: float = 1.0, kinds: dict[str, int] | None = None
    ) -> None:
        self.seed = seed
        self.url = ""
        self.log: list[Happened] = []
        self.counts: dict[str, int] = {}
        self._target = target
        self._longest_s = longest_s
        self._kinds = kinds or KINDS
        self._is_calm = False
        self._count = 0
        self._began_at = time.monotonic()
        self._links: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=BLOCK_BYTES)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Cut whatever is there still."""
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def calm(self) -> None:
        """From now on nothing more happens to anybody."""
        self._is_calm = True

    def note(self, connection: int, what: str) -> None:
        """Write something down; connection -1 for what is not of one."""
        self.log.append(Happened(round(time.monotonic() - self._began_at, 3), connection, what))

    def timeline(self, last: int = 200) -> str:
        """The last lines of the log, for who has to find out."""
        lines = [f"{one.at_s:8.3f}s #{one.connection:<4} {one.what}" for one in self.log[-last:]]
        return "\n".join([f"chaos with seed {self.seed}: {self.counts}", *lines])

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count += 1
        number = self._count
        link = asyncio.create_task(self._serve(number, reader, writer))
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    def _drawn(self, number: int) -> Mishap:
        chance = random.Random(f"{self.seed}:{number}")
        (kind,) = chance.choices(list(self._kinds), list(self._kinds.values()))
        after_s = chance.uniform(0, self._longest_s) * chance.random()  # Early rather than late.
        return Mishap(kind, after_s, chance.uniform(0.02, 0.25), chance.choice((0.0, 0.0, 0.002, 0.01)))

    async def _serve(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mishap = Mishap("none", 0, 0, 0) if self._is_calm else self._drawn(number)
        self.counts[mishap.kind] = self.counts.get(mishap.kind, 0) + 1
        self.note(number, f"opened: {mishap.kind} after {mishap.after_s:.3f}s")
        link = Link(self, number, mishap, reader, writer)
        try:
            with suppress(*LOST):
                address = urlsplit(self._target())
                await link.live(str(address.hostname), int(address.port or 0))
        finally:
            link.abort()


class Link:
    """One connection of a client, and the one or two that are made of it."""

    def __init__(
        self,
        proxy: ChaosProxy,
        number: int,
        mishap: Mishap,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._number = number
        self._mishap = mishap
        self._chance = random.Random(f"{proxy.seed}:{number}:delays")
        self._client = reader, writer
        self._servers: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._is_open = asyncio.Event()
        """Whether bytes may pass: cleared while it is stalled."""
        self._is_open.set()
        self._swallows = False

    async def live(self, host: str, port: int) -> None:
        """Until one side has enough, or it is cut."""
        count = 2 if self._mishap.kind == "duplicated" else 1
        for _ in range(count):
            self._servers.append(await asyncio.open_connection(host, port, limit=BLOCK_BYTES))
        works = [self._to_server(), self._to_client(), *map(_drain, self._servers[1:]), self._happen()]
        tasks = [asyncio.create_task(work) for work in works]
        try:
            # The mishap ends only with a cut; a duplicate's end is nobody's.
            await asyncio.wait([tasks[0], tasks[1], tasks[-1]], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def abort(self) -> None:
        """Cut everything, without goodbye."""
        for _, writer in (self._client, *self._servers):
            writer.transport.abort()

    async def _happen(self) -> None:
        """Wait for the moment, and do it; returns when the connection is to be cut."""
        mishap = self._mishap
        await asyncio.sleep(mishap.after_s)
        match mishap.kind:
            case "cut":
                self._proxy.note(self._number, "cut")
            case "answer lost":
                self._swallows = True
                await asyncio.Event().wait()  # `_to_client` cuts.
            case "half-closed to server":
                await self._half_close([writer for _, writer in self._servers])
            case "half-closed to client":
                await self._half_close([self._client[1]])
            case "stalled":
                self._proxy.note(self._number, f"stalled for {mishap.lasts_s:.3f}s")
                self._is_open.clear()
                await asyncio.sleep(mishap.lasts_s)
                self._is_open.set()
                await asyncio.sleep(mishap.after_s)
                self._proxy.note(self._number, "cut after that")
            case "duplicated":
                self._proxy.note(self._number, "cut, both")
            case _:
                await asyncio.Event().wait()

    async def _half_close(self, writers: list[asyncio.StreamWriter]) -> None:
        self._proxy.note(self._number, self._mishap.kind)
        for writer in writers:
            with suppress(*LOST):
                writer.write_eof()
        await asyncio.sleep(self._mishap.lasts_s)
        self._proxy.note(self._number, "cut after that")

    async def _to_server(self) -> None:
        while block := await self._client[0].read(BLOCK_BYTES):
            await self._delay()
            order = self._servers if self._chance.random() < 0.5 else self._servers[::-1]
            for _, writer in order:
                if not writer.is_closing():
                    with suppress(*LOST, RuntimeError):  # It was half-closed meanwhile.
                        writer.write(block)
                        await writer.drain()

    async def _to_client(self) -> None:
        reader = self._servers[0][0]
        while block := await reader.read(BLOCK_BYTES):
            await self._delay()
            if self._swallows:
                self._proxy.note(self._number, f"answer lost: {len(block)} bytes")
                return
            with suppress(RuntimeError):  # It was half-closed meanwhile.
                self._client[1].write(block)
                await self._client[1].drain()
        with suppress(*LOST):
            await self._client[1].drain()
            self._client[1].write_eof()
            await self._client[0].read(BLOCK_BYTES)  # Its goodbye.

    async def _delay(self) -> None:
        if self._mishap.jitter_s:
            await asyncio.sleep(self._chance.uniform(0, self._mishap.jitter_s))
        await self._is_open.wait()


async def _drain(server: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    """Take what a duplicate is told, and forget it."""
    with suppress(*LOST):
        while await server[0].read(BLOCK_BYTES):
            pass
