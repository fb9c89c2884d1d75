"""What is stored and found anyway is not pushed to a socket that does not read: it is spared it, and not closed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agrenting.connection import Connection
from agrenting.subscriptions import Subscription
from channels.session import Join
from channels.told import Broadcast
from tests.agrenting.api.market import FakeSocket, Marketplace, marketplace

TOPIC = "chat_room:1"
OUTBOX = 100_000


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Marketplace]:
    async with marketplace(tmp_path, outbox_bytes_max=OUTBOX) as market:
        yield market


async def listening(market: Marketplace) -> FakeSocket:
    """The socket of somebody who listens to a room."""
    await market.user("alice")
    player = await market.agent("alice", "Client")
    connection, socket = await market.socket(player.api_key)
    listen(market, connection)
    return socket


def listen(market: Marketplace, connection: Connection) -> None:
    route = market.server.routes.find(TOPIC)
    assert route is not None
    payload: Any = b"{}"
    join = Join(TOPIC, payload, "1", "1", None)
    joined = connection.session.admit(join)
    joined.subscription = Subscription(connection, joined, join, route, connection.identity.party)
    market.server.hub.subscribe(joined.subscription)


def say(market: Marketplace, text: str, *, is_spare: bool) -> None:
    told = Broadcast(TOPIC, "message_created", {"content": text}, is_spare=is_spare)
    market.server.hub.publish((told,), None, None)


async def test_who_reads_is_pushed_whatever_its_size(market: Marketplace) -> None:
    alice = await listening(market)

    say(market, "x" * 2 * OUTBOX, is_spare=True)

    assert alice.events() == ["message_created"]


async def test_who_does_not_read_for_a_moment_is_pushed_what_there_is_room_for(market: Marketplace) -> None:
    alice = await listening(market)
    alice.is_full, alice.outbox_bytes = True, OUTBOX // 2

    say(market, "x" * (OUTBOX // 4), is_spare=True)

    assert alice.events() == ["message_created"]


async def test_who_does_not_read_is_spared_what_there_is_no_room_for(market: Marketplace) -> None:
    alice = await listening(market)
    alice.is_full, alice.outbox_bytes = True, OUTBOX // 2

    say(market, "x" * OUTBOX, is_spare=True)

    assert alice.events() == []
    assert alice.closed_with is None


async def test_of_everything_else_nobody_is_spared_anything(market: Marketplace) -> None:
    alice = await listening(market)
    alice.is_full, alice.outbox_bytes = True, OUTBOX // 2

    say(market, "x" * OUTBOX, is_spare=False)

    assert alice.events() == ["message_created"]
