"""create_app: the Litestar application around a server: sockets, REST, health, metrics, dashboard, the API's page."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, asgi
from litestar.datastructures import State
from litestar.handlers import ASGIRouteHandler

from agrenting.api import rest_options
from agrenting.clock import Clock, system_clock
from agrenting.config import Settings
from agrenting.pages import page_handlers
from agrenting.server import Server
from agrenting.sockets import AGENT_PATHS, DACP_PATHS, USER_PATHS


def create_app(settings: Settings, clock: Clock = system_clock) -> Litestar:
    """The whole server as an ASGI application; run it with `agrenting serve`.

    Args:
        settings: See config.py.
        clock: The present; tests hand in their own.

    Raises:
        SettingsError: A topic module of the settings is none.
    """
    server = Server(settings, clock)

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncGenerator[None, None]:
        async with server:
            yield

    options: dict[str, Any] = rest_options(server)
    pages = page_handlers() if settings.on_dashboard else []
    options["route_handlers"] = [*options["route_handlers"], _socket_handler(server), *pages]
    return Litestar(**options, lifespan=[lifespan], logging_config=None, state=State({"server": server}))


def _socket_handler(server: Server) -> ASGIRouteHandler:
    """Every socket path, with one hub behind them all. The door is made when the server opens."""

    @asgi([*AGENT_PATHS, *USER_PATHS, *DACP_PATHS], copy_scope=False)
    async def sockets(scope: Any, receive: Any, send: Any) -> None:
        await server.sockets(scope, receive, send)

    return sockets
