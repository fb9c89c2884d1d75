"""SIGTERM: new sockets are refused, open ones closed, what is being committed is acknowledged; the exit code is 0."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.system.raw import WITHIN_S, WatchedMarket, ok
from tests.system.test_session_rules import ROOM, Hall

DRAIN_S, GRACE_S = 1.5, 30.0
DISCOVERY = "agents:discovery"
ANNOUNCED = {"capabilities": ["acknowledged"]}


@pytest.fixture
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    market = WatchedMarket(tmp_path_factory.mktemp("drain") / "var", AGRENTING_DRAIN_S=str(DRAIN_S))
    market.start()
    yield Hall(market)
    if market.process is not None:
        market.kill()


def terminate(market: WatchedMarket) -> None:
    """Tell the server to stop, as an operator's machine does."""
    assert market.process is not None
    market.process.send_signal(signal.SIGTERM)


async def ended(market: WatchedMarket) -> int:
    """The exit code, once the server has ended; its log is examined."""
    assert market.process is not None
    assert market.process.stdout is not None
    said = await asyncio.to_thread(market.process.stdout.read)
    code = market._reap()  # noqa: SLF001 - the harness stops a server by itself; here it was told already
    market.require_quiet_log(said)
    return code


async def draining(market: WatchedMarket) -> None:
    """Wait until the server has heard the signal."""
    async with asyncio.timeout(WITHIN_S):
        while not market.logged("draining"):  # noqa: ASYNC110 - the log is read by a thread, which sets no event
            await asyncio.sleep(0.01)


async def test_a_drain_refuses_new_sockets_closes_the_open_ones_and_exits_with_0(hall: Hall) -> None:
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(hall.wire()) for _ in range(6)]
        for wire in wires[:3]:
            await wire.join(ROOM)
        await wires[0].join(DISCOVERY, "2")
        started = time.monotonic()
        terminate(hall.market)
        await draining(hall.market)

        with pytest.raises(InvalidStatus) as no:
            async with hall.wire(hall.bob):
                pass
        assert no.value.response.status_code == 503
        assert no.value.response.body is not None
        assert b'"draining"' in no.value.response.body
        closes = [await wire.closed() for wire in wires]

        assert [code for code, _ in closes] == [1012] * 6
        assert all("restarts" in reason for _, reason in closes)
        assert await ended(hall.market) == 0
        assert time.monotonic() - started < DRAIN_S + GRACE_S


async def test_a_drain_without_sockets_is_quick(hall: Hall) -> None:
    started = time.monotonic()
    terminate(hall.market)
    assert await ended(hall.market) == 0
    assert time.monotonic() - started < DRAIN_S + GRACE_S


async def test_what_is_being_committed_at_the_signal_is_acknowledged(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.join(DISCOVERY, "1")
        await wire.until_flushed()
        with hall.locked():
            await wire.send("1", "2", DISCOVERY, "announce", ANNOUNCED)
            await wire.until_flushed()  # The change waits for the lock by now.
            depositing = asyncio.create_task(asyncio.to_thread(deposit, hall))
            terminate(hall.market)
            await draining(hall.market)
        reply = await wire.receive_event("phx_reply")
        assert (reply[1], reply[4]["status"]) == ("2", "ok")
        assert (await wire.closed())[0] == 1012
        assert await ended(hall.market) == 0
        is_acknowledged = await depositing
    assert hall.market.cli("doctor")["summary"]["agents"] == (700 if is_acknowledged else 0)


def deposit(hall: Hall) -> bool:
    """A deposit by REST at the time of the signal: whether it was acknowledged."""
    assert hall.market.operator_key is not None
    try:
        with hall.market.rest(hall.market.operator_key) as rest:
            answer = rest.post(
                "/api/v1/admin/deposits",
                json={"agent_id": hall.alice.id, "amount": 700},
                headers={"idempotency-key": "drained"},
            )
    except httpx.TransportError:
        return False
    assert answer.is_success, answer.text
    return True


async def test_what_comes_after_the_signal_is_not_half_done(hall: Hall) -> None:
    """Pushes until the socket is closed: the last reply is of the last change that was kept."""
    async with hall.wire() as wire:
        await wire.join(DISCOVERY, "1")
        await wire.until_flushed()
        acknowledged, close = -1, None
        try:
            for number in range(100_000):
                await wire.send("1", number, DISCOVERY, "update_metadata", {"metadata": {"n": number}})
                reply = await wire.receive_event("phx_reply")
                if reply == ok("1", number, DISCOVERY, {"metadata": {"n": number}}):
                    acknowledged = number
                if number == 20:
                    terminate(hall.market)
        except ConnectionClosed as closed:  # In whichever call the close is noticed.
            close = closed.rcvd
        assert close is not None
        assert close.code == 1012
        assert await ended(hall.market) == 0
    hall.market.start()
    async with hall.wire(hall.bob) as bob:
        await bob.join(DISCOVERY, "1")
        await bob.until_flushed()
        await bob.send("1", "2", DISCOVERY, "discover", {"limit": 100})
        found = (await bob.receive_event("phx_reply"))[4]["response"]["agents"]
    metadata = next(agent["metadata"] for agent in found if agent["id"] == hall.alice.id)
    assert metadata["n"] >= acknowledged >= 20
    assert {agent["status"] for agent in found} == {"offline"}
    hall.market.end()
