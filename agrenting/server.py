"""Server: everything that one running process has, opened in order and closed in the other."""

import asyncio
import importlib
from datetime import timedelta
from types import ModuleType
from typing import Self

import structlog

from agrenting.activities import Activities
from agrenting.clock import Clock, system_clock
from agrenting.config import Settings, SettingsError
from agrenting.db import agents, people, private
from agrenting.db.database import Database
from agrenting.db.following import Follower
from agrenting.db.migrate import migrate
from agrenting.db.transaction import WriterTx
from agrenting.engine import Engine
from agrenting.folding import RollupFolding
from agrenting.foreign import ForeignChanges
from agrenting.hub import Hub
from agrenting.ledger_check import LedgerCheck
from agrenting.market import fix_market, server_key
from agrenting.metrics import Metrics
from agrenting.sockets import SocketDoor
from agrenting.timers import Timers
from channels.limits import Market
from channels.profanity import is_profane
from channels.routes import BadTopicModule, Routes
from crypto import public_key_of

log = structlog.get_logger(__name__)

FORGET_EVERY = timedelta(minutes=10)


class Server:
    """One running server. Use it as an asynchronous context: entering opens the database and starts the timers.

    Args:
        settings: See config.py.
        clock: The present; tests hand in their own.
    """

    database: Database
    engine: Engine
    hub: Hub
    activities: Activities
    timers: Timers
    sockets: SocketDoor

    def __init__(self, settings: Settings, clock: Clock = system_clock) -> None:
        self.settings = settings
        self.clock = clock
        self.metrics = Metrics()
        self.routes = Routes(topic_modules(settings.topics))
        self._background: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Migrate, open, and start what runs beside."""
        settings = self.settings
        settings.folder.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(migrate, settings.database_path)
        await asyncio.to_thread(is_profane, "")  # Loads its words now, and not while a first change waits for it.
        self.server_key = server_key(settings.server_key_path)
        self.public_key = public_key_of(self.server_key)
        self.database = Database(
            settings.database_path,
            batch_max=settings.commit_batch_max,
            busy_timeout_s=settings.busy_timeout_s,
            observe=self.metrics.observe_batch,
        )
        follower = self.database.commits.follower = Follower(self.clock)
        self.hub = Hub(settings, self.routes, self.metrics)
        market = follower.market = await self.database.write(self._begin)
        self.engine = self.hub.engine = Engine(
            self.database,
            market=market,
            clock=self.clock,
            publish=self.hub.publish,
            holder_of=self.hub.private.holder_of,
        )
        follower.publish = self.engine.tell
        self.hub.private.begin(await self.database.read(private.all_seats))
        self.sockets = SocketDoor(self.hub)
        self.activities = Activities(ttl_s=market.limits.room_activity_ttl_s, monotonic=self.hub.monotonic)
        self.timers = Timers(self.engine, self.routes, poll_s=settings.timer_poll_s)
        foreign = ForeignChanges(self.engine, self.hub, poll_s=settings.timer_poll_s)
        await foreign.begin()
        self._background = [
            asyncio.create_task(self.timers.run_for_ever()),
            asyncio.create_task(self.hub.sweep_for_ever()),
            asyncio.create_task(self.hub.pulse.run_for_ever()),
            asyncio.create_task(RollupFolding(self.database, self.clock).run_for_ever()),
            asyncio.create_task(foreign.run_for_ever()),
            asyncio.create_task(self._forget_for_ever()),
            asyncio.create_task(self.metrics.watch_loop_for_ever()),
        ]
        if settings.ledger_check_s:
            check = LedgerCheck(self.engine, every_s=settings.ledger_check_s)
            self._background.append(asyncio.create_task(check.run_for_ever()))
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Stop what runs beside, finish what is under way, and close."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.hub.close()
        await self.engine.close()
        await self.database.close()

    def _begin(self, tx: WriterTx) -> Market:
        agents.all_offline(tx)
        return fix_market(tx, self.settings)

    def _forget(self, tx: WriterTx) -> None:
        people.delete_expired(tx, self.clock())

    async def _forget_for_ever(self) -> None:
        while True:
            await self.database.write(self._forget)
            await asyncio.sleep(FORGET_EVERY.total_seconds())


def topic_modules(names: tuple[str, ...]) -> tuple[ModuleType, ...]:
    """The topic modules that the settings name.

    Raises:
        SettingsError: One cannot be imported.
    """
    modules: list[ModuleType] = []
    for name in names:
        try:
            modules.append(importlib.import_module(name))
        except ImportError as error:
            raise SettingsError(f"topics: cannot import {name!r}: {error}") from error
    return tuple(modules)


def check_topics(settings: Settings) -> None:
    """Refuse settings whose topic modules are none.

    Raises:
        SettingsError: The sentence says which module lacks what.
    """
    try:
        Routes(topic_modules(settings.topics))
    except BadTopicModule as error:
        raise SettingsError(f"topics: {error}") from error
