"""Hundreds of full outboxes at once: to close one is no reason to close the next one inside it."""

import json
from pathlib import Path
from typing import Any

from agrenting import auth
from agrenting.connection import Connection
from channels.wire import Vsn
from tests.agrenting.api.market import FakeSocket, Marketplace, marketplace

ROOM, DEAF = "room:loud", 400


class DeafSocket(FakeSocket):
    """A transport whose peer reads nothing, once it is deaf."""

    def flush(self) -> None:
        """Nothing leaves."""

    def go_deaf(self) -> None:
        self.is_full, self.outbox_bytes = True, 2_000_000


async def joined(market: Marketplace, key: str, ref: str) -> tuple[Connection, DeafSocket]:
    credential = await market.server.database.read(lambda tx: auth.resolve(tx, key, agent_id=None, now=market.clock()))
    socket = DeafSocket()
    transport: Any = socket
    connection = Connection(market.server.hub, transport, credential.identity, Vsn.V2)
    market.server.hub.add(connection)
    connection.receive(json.dumps([ref, ref, ROOM, "phx_join", {}]))
    return connection, socket


async def test_closing_hundreds_of_slow_consumers_at_once_goes_on_to_the_last(tmp_path: Path) -> None:
    async with marketplace(tmp_path / "var", topics=("examples.echo_room",), joins_burst=10_000.0) as market:
        await market.user("alice")
        alice = await market.agent("alice", "Loud")
        speaker, heard = await joined(market, alice.api_key, "s")
        deaf = [await joined(market, alice.api_key, str(number)) for number in range(DEAF)]
        for _, socket in deaf:
            socket.go_deaf()

        speaker.receive(json.dumps(["s", "1", ROOM, "shout", {"a": 1}]))
        for connection, _ in deaf:
            connection.closed()  # As the door does once the transport says so.

        assert {socket.closed_with for _, socket in deaf} == {1013}
        assert heard.closed_with is None
        assert heard.events().count("shout") == 1
        leaves = [message[4]["leaves"] for message in heard.sent if message[3] == "presence_diff"]
        assert sum(map(len, leaves)) == DEAF
