"""Every agent on `agents:discovery`: whom it has been shown as present, from what it was told alone.

A socket that the server closes comes back at once, as clients do.
"""

import json

from agrenting.connection import Connection
from agrenting.foreign import ForeignChanges
from channels.discovery import TOPIC
from tests.agrenting.api.market import FakeSocket, Marketplace


class Watcher:
    """One agent's socket."""

    def __init__(self, connection: Connection, socket: FakeSocket) -> None:
        self.connection = connection
        self.socket = socket
        self.shown: set[str] | None = None
        connection.receive(json.dumps(["1", "1", TOPIC, "phx_join", {}]))

    @property
    def is_closed(self) -> bool:
        return self.socket.closed_with is not None

    def listen(self) -> None:
        """Take in what has been told since."""
        sent, self.socket.sent = self.socket.sent, []
        for _, _, _, event, payload in sent:
            if event == "presence_state":
                self.shown = set(payload)
            elif event == "presence_diff":
                assert self.shown is not None, "a diff comes after the state"
                for id_ in payload["leaves"].keys() - payload["joins"].keys():
                    assert id_ in self.shown, "who leaves was there"
                    self.shown.remove(id_)
                self.shown |= payload["joins"].keys()


class Watch:
    """The sockets of all agents on one running server.

    Args:
        market: It.
    """

    def __init__(self, market: Marketplace) -> None:
        self.market = market
        self.watchers: dict[str, Watcher] = {}
        self.foreign = ForeignChanges(market.server.engine, market.server.hub, poll_s=3_600.0)

    async def shown(self, keys: dict[str, str]) -> dict[str, set[str] | None]:
        """Whom each agent sees now, once everything is told and who was closed has come back.

        Args:
            keys: Agent id → its API key.
        """
        if not self.watchers:
            await self.foreign.begin()
        await self.foreign.tell()
        for id_, watcher in [*self.watchers.items()]:
            if watcher.is_closed:
                watcher.connection.closed()
                del self.watchers[id_]
        await self._settled()
        for id_ in keys.keys() - self.watchers.keys():
            self.watchers[id_] = Watcher(*await self.market.socket(keys[id_]))
        await self._settled()
        for watcher in self.watchers.values():
            watcher.listen()
        return {id_: watcher.shown for id_, watcher in self.watchers.items()}

    async def _settled(self) -> None:
        """Everything asked so far has been decided and told."""
        await self.market.server.database.commits.drain()
