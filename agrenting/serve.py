"""`agrenting serve`: uvicorn around the application, with our transport, quiet logs and a drain."""

import asyncio
import gc
import logging
import socket
import sys
from types import FrameType
from typing import Any

import structlog
import uvicorn

from agrenting import registry
from agrenting.announcements import Announcement
from agrenting.app import create_app
from agrenting.clock import system_clock
from agrenting.config import Settings
from agrenting.db import people
from agrenting.db.transaction import WriterTx
from agrenting.folder import Folder
from agrenting.server import Server, check_topics
from agrenting.transport import HubProtocol
from channels.limits import Market

FIRST_OPERATOR = "operator"
BACKLOG = 4_096

KEEP_ALIVE_S = 75
"""How long an idle HTTP connection is kept: longer than clients keep theirs (5 s in httpx), so that none is closed just
when its client sends the next request."""

COLLECTOR_THRESHOLDS = 20_000, 20, 20
"""New containers in between, and how many collections of the young ones go before one of the next age."""


class HubServer(uvicorn.Server):
    """uvicorn, but the first SIGTERM or SIGINT drains the hub before anything is shut down; a second one is final."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self._server = server
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then print the line that scripts wait for."""
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"listening on http://{shown}:{port}", flush=True)  # noqa: T201 - scripts wait for this line

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came: drain, then stop."""
        if self._draining is not None or not self.started:
            super().handle_exit(sig, frame)
            return
        loop = self._server.hub.loop
        loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain_and_stop())

    async def _drain_and_stop(self) -> None:
        structlog.get_logger(__name__).info("draining", sockets=len(self._server.hub.connections))
        await self._server.hub.drain()
        self.should_exit = True


def configure_logs(settings: Settings) -> None:
    """Structured logs to standard error: for people on a console, or one JSON object a line."""
    renderer = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    level = getattr(logging, settings.log_level.upper(), logging.INFO)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # What libraries log takes the same form. uvicorn logs whole addresses, and a query string may hold a key: its own
    # lines stay below warnings.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def first_operator_key(settings: Settings) -> str | None:
    """At the first start, make the operator; its key is shown this once. None at every later start."""

    def make(tx: WriterTx, market: Market) -> tuple[str | None, Announcement]:
        if people.has_operator(tx):
            return None, Announcement()
        _user, key, _told = registry.create_user(
            tx, FIRST_OPERATOR, organisation=None, is_operator=True, now=system_clock(), market=market
        )
        return key, Announcement()

    return Folder(settings).change(make)


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code.

    Raises:
        SettingsError: A topic module of the settings is none.
        SchemaError: The data folder was written by a newer version.
    """
    configure_logs(settings)
    check_topics(settings)
    key = first_operator_key(settings)
    if key is not None:
        print(f"This is the first start. The operator's key, shown this once: {key}", flush=True)  # noqa: T201 - it is our output
    listener = listen(settings.host, settings.port)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        ws=HubProtocol,
        ws_max_size=settings.frame_bytes_max,
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        access_log=False,
        log_config=None,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.drain_s) + 5,
        lifespan="on",
    )
    server: Server = app.state.server
    runner = HubServer(config, server)
    spare_the_collector()
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as loop_runner:
        loop_runner.run(runner.serve(sockets=[listener]))
    return 0 if runner.started else 1


def spare_the_collector() -> None:
    """Keep what was imported out of every collection, and collect more seldom.

    What an event makes is freed as soon as it is answered; only closed sockets leave cycles. With Python's own
    thresholds a third of the event loop's time goes into looking for them, and each whole collection stops all events
    for a tenth of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def listen(host: str, port: int) -> socket.socket:
    """A bound listening socket; port 0 takes a free one.

    Raises:
        OSError: The address is taken, or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.set_inheritable(True)
    return listener
