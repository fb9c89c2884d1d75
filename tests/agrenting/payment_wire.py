"""A server in this process behind a real listening socket, on a clock that tests move, and real clients for it."""

import argparse
import asyncio
import contextlib
import socket
from collections.abc import Coroutine, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import httpx
import uvicorn
from websockets.asyncio.client import connect

from agrenting import commands
from agrenting.app import create_app
from agrenting.config import Settings
from agrenting.serve import listen
from agrenting.transport import HubProtocol
from tests.agrenting.api.market import Clock, Marketplace, settings_of
from tests.agrenting.consent_stage import empty_database
from tests.system.harness import Client

T = TypeVar("T")
Json = dict[str, Any]

UNBOUND = {
    f"{name}_{what}": 1e9 for name in ("control", "chain_bytes", "joins", "connects") for what in ("per_s", "burst")
}


class QuietServer(uvicorn.Server):
    """uvicorn, which says when it listens, and leaves this process its signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Wire:
    """The server. Its methods are called between the turns of its loop."""

    market: Marketplace

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self._scratch = TemporaryDirectory(ignore_cleanup_errors=True)
        self.settings: Settings = settings_of(Path(self._scratch.name) / "var", **UNBOUND)
        self.settings.folder.mkdir()
        self.settings.database_path.write_bytes(empty_database())
        self._clients: list[Client] = []
        self.http = httpx.AsyncClient(timeout=30)
        self.run(self._start())

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        """Let the server's loop turn until that is done."""
        return self.runner.run(doing)

    def restart(self) -> None:
        """Stop the server and start it again on what it has stored; every socket is gone."""
        self.run(self._stop())
        self.run(self._start())

    def close(self) -> None:
        """Stop for good."""
        self.run(self._stop())
        self.run(self.http.aclose())
        self.runner.close()
        self._scratch.cleanup()

    def doctor(self) -> list[str]:
        """What `agrenting doctor` finds."""
        differences: list[str] = commands.doctor(argparse.Namespace(), self.settings).fields["differences"]
        return differences

    def run_timers(self) -> None:
        """Run what is due by the clock."""
        self.run(self.market.server.timers.run_due())

    async def open_socket(self, key: str) -> Client:
        """A new socket of whoever the key stands for."""
        address = f"{self.url.replace('http', 'ws', 1)}/socket/websocket?vsn=2.0.0"
        opened = await connect(address, additional_headers={"x-api-key": key}, compression=None, max_size=None)
        self._clients.append(Client(opened))
        return self._clients[-1]

    async def close_sockets(self) -> None:
        """Close all that were opened."""
        await asyncio.gather(*(client.close() for client in self._clients))
        self._clients.clear()

    async def _start(self) -> None:
        app = create_app(self.settings, self.clock)
        config = uvicorn.Config(
            app,
            ws=HubProtocol,
            ws_ping_interval=None,
            ws_per_message_deflate=False,
            access_log=False,
            log_config=None,
            lifespan="on",
        )
        self._server = QuietServer(config)
        listener = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._serving = asyncio.get_running_loop().create_task(self._server.serve(sockets=[listener]))
        await self._server.listening.wait()
        self.http.base_url = httpx.URL(self.url)
        self.market = Marketplace(app, self.http, self.clock)

    async def _stop(self) -> None:
        await self.close_sockets()
        self._server.should_exit = True
        await self._serving
