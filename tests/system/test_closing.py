"""Sockets that the server closes: silent ones, those whose credential died, and those that are told to."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from websockets.asyncio.client import connect

from tests.system.raw import Wire, ok, watched
from tests.system.test_session_rules import ROOM, Hall, assert_offline


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    """A server that soon has enough of a socket that is silent, and of a session."""
    settings = {
        "AGRENTING_SOCKET_IDLE_S": "2.5",
        "AGRENTING_SESSION_TTL_S": "4",
        "AGRENTING_CONTROL_BURST": "100000",
    }
    with watched(tmp_path_factory.mktemp("hasty") / "var", **settings) as market:
        yield Hall(market)


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    """A server that closes nothing in the time of a test, unless it is told to."""
    with watched(tmp_path_factory.mktemp("closing") / "var", AGRENTING_TIMER_POLL_S="0.2") as market:
        yield Hall(market)


@asynccontextmanager
async def kept_alive(wire: Wire) -> AsyncIterator[None]:
    """A heartbeat every little while, whose replies nobody looks at."""

    async def beat() -> None:
        while True:
            await wire.send(None, "beat", "phoenix", "heartbeat")
            await asyncio.sleep(0.3)  # The interval of a heartbeat is what is being tested.

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


async def test_a_silent_socket_is_closed_and_one_that_beats_or_pings_is_not(hasty: Hall) -> None:
    async with hasty.wire() as silent, hasty.wire() as beating, hasty.wire() as pinging:

        async def ping() -> None:
            while True:
                await (await pinging.socket.ping())
                await asyncio.sleep(0.3)  # The interval of a ping is what is being tested.

        pings = asyncio.create_task(ping())
        async with kept_alive(beating):
            code, reason = await silent.closed()
            async with hasty.wire() as another:  # Long enough for those that beat to have gone silent themselves.
                await another.closed()
        pings.cancel()
        await asyncio.gather(pings, return_exceptions=True)
        assert (code, "silent" in reason) == (1001, True)
        await pinging.is_alive()
        await beating.is_alive()


async def test_a_socket_closes_when_its_session_is_over_and_a_key_goes_on(hasty: Hall) -> None:
    token = hasty.market.token(hasty.alice.api_key)
    async with hasty.wire() as with_key, kept_alive(with_key), hasty.market.wire(token) as with_token:
        await with_token.join(ROOM)
        async with kept_alive(with_token):
            code, reason = await with_token.closed()
        assert (code, "session" in reason) == (1008, True)
        await with_key.is_alive()


async def test_disconnect_closes_every_socket_of_an_identity_and_no_other(hall: Hall) -> None:
    async with hall.wire() as first, hall.wire() as second, hall.wire(hall.bob) as bob:
        for wire in (first, second):
            await wire.join(ROOM)
        await first.send("1", "2", ROOM, "disconnect_me")
        assert await first.receive() == ok("1", "2", ROOM)
        assert await first.closed() == (1001, "disconnected")
        assert await second.closed() == (1001, "disconnected")
        await bob.is_alive()


@pytest.mark.parametrize("command", [("key", "rotate"), ("agent", "suspend")], ids=" ".join)
async def test_the_command_line_closes_the_sockets_of_an_agent_while_serving(
    hall: Hall, command: tuple[str, str]
) -> None:
    mallory = hall.market.agent("bob", f"Mallory {command[1]}")
    async with hall.wire(mallory) as first, hall.wire(mallory) as second, hall.wire() as alice:
        await first.join("agents:discovery")
        hall.market.here(*command, mallory.handle)
        assert await first.closed() == (1001, "disconnected")
        assert await second.closed() == (1001, "disconnected")
        await alice.is_alive()


async def test_rotating_a_users_key_closes_the_sockets_that_act_by_it(hall: Hall) -> None:
    user = hall.market.user("ursula")
    agent = hall.market.agent("ursula", "Una")
    url = hall.market.ws_url(query=f"vsn=2.0.0&agent_id={agent.id}")
    async with Opened(url, user["api_key"]) as by_user:
        await by_user.join("agents:discovery")
        new = hall.market.here("key", "rotate", "ursula")
        assert new["api_key"] != user["api_key"]
        assert await by_user.closed() == (1001, "disconnected")


class Opened:
    """A raw socket at a whole address."""

    def __init__(self, url: str, key: str) -> None:
        self._url, self._key = url, key
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Wire:
        opened = connect(self._url, additional_headers={"x-api-key": self._key}, compression=None)
        return Wire(await self._stack.enter_async_context(opened))

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


async def test_logging_out_closes_the_sockets_of_the_session(hall: Hall) -> None:
    token = hall.market.token(hall.bob.api_key)
    async with hall.market.wire(token) as wire:
        await wire.is_alive()
        with hall.market.rest(None) as rest:
            answer = rest.delete("/api/v1/auth/logout", headers={"authorization": f"Bearer {token}"})
            assert answer.is_success
        assert await wire.closed() == (1001, "disconnected")


async def test_an_agent_whose_last_socket_is_gone_is_found_as_offline(hall: Hall) -> None:
    async with hall.wire(hall.bob) as bob:
        async with hall.wire() as alice:
            await alice.join("agents:discovery")
        await assert_offline(bob, hall.alice.id)
