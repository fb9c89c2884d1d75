"""Rehearsals: long chains are checked beside the writer, in the order of their topic, and the writer decides.

Bob hands chains in, Alice's other channels go on. The rehearsals' thread is held by `gate` while a test looks on.
"""

import asyncio
import json
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nacl import bindings

from agrenting.hub import AGENT_RATE_FACTOR
from channels import payment
from channels.handlers import Handler
from tests import paying
from tests.agrenting.api.market import FakeSocket, Marketplace, Player, marketplace
from tests.agrenting.api.payers import Json, accepted, at, money, pay, require_sound

STAGE = "agrenting-rehearsal"
NO_SIGNATURE = "A" * 86 + "=="


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "var"


@pytest.fixture
async def market(folder: Path) -> AsyncIterator[Marketplace]:
    async with marketplace(folder) as running:
        yield running


class Wire:
    """An agent's socket: it joins and pushes, and is told the replies in the order in which they came."""

    def __init__(self, market: Marketplace, connection: Any, transport: FakeSocket) -> None:
        self.market = market
        self.connection = connection
        self.transport = transport
        self._ref = 0

    async def join(self, channel: Json) -> None:
        """Listen to a channel."""
        self._ref += 1
        self._receive(str(self._ref), channel, "phx_join", {})
        await self.market.server.engine.drain()
        assert self.replies()[-1][1] == "ok"
        self.joined = {**getattr(self, "joined", {}), channel["id"]: str(self._ref)}

    def push(self, channel: Json, event: str, payload: Json) -> str:
        """Send a frame; its ref."""
        self._ref += 1
        self._receive(self.joined[channel["id"]], channel, event, payload)
        return str(self._ref)

    def _receive(self, join_ref: str, channel: Json, event: str, payload: Json) -> None:
        self.connection.receive(json.dumps([join_ref, str(self._ref), f"payment:{channel['id']}", event, payload]))

    def replies(self) -> list[tuple[str, str]]:
        """Ref and status of every reply so far; of a refusal its reason."""
        found = [message for message in self.transport.sent if message[3] == "phx_reply"]
        return [(one[1], one[4]["response"].get("reason") if one[4]["status"] == "error" else "ok") for one in found]

    def answer(self, ref: str) -> Json:
        """What a push was answered."""
        (reply,) = [message[4] for message in self.transport.sent if message[3] == "phx_reply" and message[1] == ref]
        response: Json = reply["response"]
        return response


async def wire(market: Marketplace, who: Player, *channels: Json) -> Wire:
    """A socket that has joined channels."""
    made = Wire(market, *await market.socket(who.api_key))
    for channel in channels:
        await made.join(channel)
    return made


@contextmanager
def gate(market: Marketplace) -> Iterator[threading.Event]:
    """Until it is opened, no rehearsal begins."""
    opened = threading.Event()
    market.server.engine._stage.submit(opened.wait)  # noqa: SLF001 - holds the thread whose work the test is about
    try:
        yield opened
    finally:
        opened.set()


def chain(channel: Json, alice: Player, bob: Player, count: int, *, first: int = 1) -> Json:
    """So many transfers of a new channel, each of 1 to Bob."""
    return {"transfers": paying.chain(channel, alice.seed, bob.seed, [1] * (first - 1 + count))[first - 1 :]}


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("agrenting-")]


def broken_beside_the_writer(handler: Handler) -> Handler:
    """The same handler, which crashes when it is rehearsed."""

    def decide(*args: Any) -> Any:
        if threading.current_thread().name.startswith(STAGE):
            raise ZeroDivisionError
        return handler.decide(*args)

    return msgspec.structs.replace(handler, decide=decide)


# The order.


async def test_frames_of_one_topic_are_answered_in_order_and_other_topics_do_not_wait(market: Marketplace) -> None:
    alice, bob = await market.deal()
    long = await accepted(alice, bob, mode="offline")
    cheap = await accepted(alice, bob)
    bobs, alices = await wire(market, bob, long), await wire(market, alice, long, cheap)
    with gate(market) as opened:
        first = bobs.push(long, "submit_transfers", chain(long, alice, bob, 1_000))
        second = bobs.push(long, "submit_transfers", chain(long, alice, bob, 100, first=902))
        third = bobs.push(long, "withdraw_dispute", {})
        joined = len(bobs.replies())
        before = alices.push(long, "withdraw_dispute", {})  # Of the other party, behind the chain.
        offer = paying.proposal(cheap, alice.seed, from_agent_id=alice.id, amount=5)
        aside = alices.push(cheap, "propose_transfer", offer)
        await market.server.database.commits.drain()

        assert len(bobs.replies()) == joined
        assert alices.replies()[-1] == (aside, "ok")
        assert alices.answer(aside)["pending_proposal"]["amount"] == 5
        assert (await pay(await accepted(alice, bob), alice, bob, 7))["balance_b"] == 7  # REST goes on as well.
        opened.set()
        await market.server.engine.drain()

    assert bobs.replies()[joined:] == [(first, "ok"), (second, "ok"), (third, "not_disputed")]
    assert alices.replies()[-1] == (before, "not_disputed")
    assert (bobs.answer(first)["applied"], bobs.answer(first)["last_nonce"]) == (1_000, 1_000)
    assert (bobs.answer(second)["applied"], bobs.answer(second)["duplicates"]) == (1, 99)
    told = [message[4] for message in alices.transport.sent if message[3] == "transfers_submitted"]
    assert [(one["applied"], one["channel"]["last_nonce"]) for one in told] == [(1_000, 1_000), (1, 1_001)]
    await require_sound(market)


async def test_once_a_topic_is_through_its_frames_wait_no_more(market: Marketplace) -> None:
    alice, bob = await market.deal()
    channel = await accepted(alice, bob, mode="offline")
    bobs = await wire(market, bob, channel)
    for number in range(3):
        bobs.push(channel, "submit_transfers", chain(channel, alice, bob, 2, first=1 + 2 * number))
    bobs.push(channel, "withdraw_dispute", {})
    await market.server.engine.drain()
    assert [reason for _, reason in bobs.replies()[1:]] == ["ok", "ok", "ok", "not_disputed"]

    with gate(market):  # What is not rehearsed comes through at once.
        last = bobs.push(channel, "withdraw_dispute", {})
        await market.server.database.commits.drain()
        assert bobs.replies()[-1] == (last, "not_disputed")


# The writer decides.


async def test_the_writer_has_nothing_left_to_verify(market: Marketplace, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = await market.deal()
    channel, other = await accepted(alice, bob, mode="offline"), await accepted(alice, bob, mode="offline")
    by_thread: list[str] = []
    check = bindings.crypto_sign_open

    def noted(*args: Any) -> Any:
        by_thread.append(threading.current_thread().name.rpartition("_")[0])
        return check(*args)

    monkeypatch.setattr(bindings, "crypto_sign_open", noted)
    bobs = await wire(market, bob, channel)
    for first in (1, 101, 201):  # One after the other, without waiting for answers.
        bobs.push(channel, "submit_transfers", chain(channel, alice, bob, 100, first=first))
    await market.server.engine.drain()
    assert [reason for _, reason in bobs.replies()[1:]] == ["ok"] * 3
    assert by_thread == [STAGE] * 600

    evidence = {"transfers": chain(other, alice, bob, 50)["transfers"]}
    by_thread.clear()
    settled = await alice.post(at(other, "dispute"), {"reason": "paid", "evidence": evidence})

    assert settled["last_nonce"] == 50
    assert by_thread == [STAGE] * 100


@pytest.mark.parametrize("door", ["socket", "REST"])
async def test_a_chain_whose_rehearsal_is_refused_gets_the_writers_answer(market: Marketplace, door: str) -> None:
    alice, bob = await market.deal()
    channel = await accepted(alice, bob, mode="offline")
    body = chain(channel, alice, bob, 3)
    body["transfers"][2]["signature_a"] = NO_SIGNATURE

    if door == "REST":
        refused = await bob.refused("POST", at(channel, "submit_transfers"), body)
        why, index = refused.error["code"], refused.error["context"]["index"]
    else:
        bobs = await wire(market, bob, channel)
        ref = bobs.push(channel, "submit_transfers", body)
        await market.server.engine.drain()
        why, index = bobs.answer(ref)["reason"], bobs.answer(ref)["index"]

    assert (why, index) == ("bad_transfer", 2)
    assert (await bob.get(at(channel)))["last_nonce"] == 0


@pytest.mark.parametrize("door", ["socket", "REST"])
@pytest.mark.parametrize("flaw", ["the rehearsal crashes", "the snapshot cannot be read"])
async def test_a_chain_whose_rehearsal_fails_is_applied_all_the_same(
    market: Marketplace, monkeypatch: pytest.MonkeyPatch, door: str, flaw: str
) -> None:
    alice, bob = await market.deal()
    channel = await accepted(alice, bob, mode="offline")
    bobs = await wire(market, bob, channel)
    body = chain(channel, alice, bob, 3)
    if flaw == "the rehearsal crashes":
        broken = broken_beside_the_writer(payment.HANDLERS["submit_transfers"])
        monkeypatch.setitem(payment.HANDLERS, "submit_transfers", broken)
    else:
        read = market.server.database.read

        async def fails(question: Any) -> Any:
            if "rehearse" in question.__qualname__:
                raise sqlite3.OperationalError("disk I/O error")
            return await read(question)

        monkeypatch.setattr(market.server.database, "read", fails)

    if door == "REST":
        answer = await bob.post(at(channel, "submit_transfers"), body)
    else:
        ref = bobs.push(channel, "submit_transfers", body)
        bobs.push(channel, "withdraw_dispute", {})
        await market.server.engine.drain()
        answer = bobs.answer(ref)
        assert [reason for _, reason in bobs.replies()[1:]] == ["ok", "not_disputed"]

    assert (answer["applied"], answer["last_nonce"]) == (3, 3)


async def test_what_a_rehearsal_decides_is_not_kept(market: Marketplace) -> None:
    """Both hand the same chain in at once: it is rehearsed twice and applied once."""
    alice, bob = await market.deal()
    channel = await accepted(alice, bob, mode="offline")
    body = chain(channel, alice, bob, 20)

    answers = await asyncio.gather(*(who.post(at(channel, "submit_transfers"), body) for who in (alice, bob, alice)))

    assert sorted((one["applied"], one["duplicates"]) for one in answers) == [(0, 20), (0, 20), (20, 0)]
    assert await money(bob) == (0, 20)
    await require_sound(market)


async def test_a_socket_that_is_gone_has_handed_in_all_the_same(market: Marketplace) -> None:
    alice, bob = await market.deal()
    channel = await accepted(alice, bob, mode="offline")
    bobs = await wire(market, bob, channel)
    with gate(market) as opened:
        bobs.push(channel, "submit_transfers", chain(channel, alice, bob, 5))
        bobs.push(channel, "submit_transfers", chain(channel, alice, bob, 2, first=6))
        bobs.connection.closed()
        opened.set()
        await market.server.engine.drain()

    assert (await bob.get(at(channel)))["last_nonce"] == 7


# How often.


async def test_chains_have_a_rate_of_their_own(folder: Path) -> None:
    burst = 2_400.0
    per_socket = burst / AGENT_RATE_FACTOR
    async with marketplace(folder, chain_bytes_burst=per_socket, chain_bytes_per_s=0.1) as market:
        alice, bob = await market.deal()
        channel = await accepted(alice, bob, mode="offline")
        body = chain(channel, alice, bob, 5)
        assert burst / 2 < len(msgspec.json.encode(body)) < burst
        assert (await bob.post(at(channel, "submit_transfers"), body))["applied"] == 5

        refused = await bob.refused("POST", at(channel, "submit_transfers"), body)
        assert refused.why == (429, "rate_limited")
        assert int(refused.answer.headers["retry-after"]) > 100
        evidence = {"reason": "no", "evidence": "x" * 2_000}
        assert (await bob.refused("POST", at(channel, "dispute"), evidence)).why == (429, "rate_limited")
        bobs = await wire(market, bob, channel)
        ref = bobs.push(channel, "submit_transfers", body)
        await market.server.engine.drain()
        assert bobs.answer(ref)["reason"] == "rate_limited"  # An agent has one bucket for both doors.

        assert (await bob.post(at(channel, "force-close")))["status"] == "closing"  # The rest is not held up.
        assert (await alice.post(at(channel, "submit_transfers"), body))["duplicates"] == 5  # Nor is anybody else.


# The end.


async def test_a_drain_waits_for_what_is_rehearsed_and_loses_no_answer(market: Marketplace) -> None:
    alice, bob = await market.deal()
    channel = await accepted(alice, bob, mode="offline")
    bobs = await wire(market, bob, channel)
    with gate(market) as opened:
        first = bobs.push(channel, "submit_transfers", chain(channel, alice, bob, 10))
        second = bobs.push(channel, "withdraw_dispute", {})
        draining = asyncio.create_task(market.server.hub.drain())
        for _ in range(50):  # As many turns as it may take; what it waits for is behind the gate.
            await asyncio.sleep(0)
        assert market.server.hub.is_draining
        assert (draining.done(), bobs.transport.closed_with) == (False, None)

        opened.set()
        await draining

    assert bobs.replies()[1:] == [(first, "ok"), (second, "not_disputed")]
    assert bobs.transport.closed_with == 1012


async def test_a_stop_finishes_what_is_rehearsed_and_leaves_no_thread(folder: Path) -> None:
    async with marketplace(folder) as market:
        alice, bob = await market.deal()
        channel = await accepted(alice, bob, mode="offline")
        bobs = await wire(market, bob, channel)
        clock = market.clock
        for number in range(3):
            bobs.push(channel, "submit_transfers", chain(channel, alice, bob, 100, first=1 + 100 * number))
        assert len(bobs.replies()) == 1  # None has been answered yet.

    assert [reason for _, reason in bobs.replies()[1:]] == ["ok"] * 3
    assert threads() == []
    async with marketplace(folder, clock) as market:
        after = await market.with_key(bob.api_key).get(at(channel))
        assert (after["last_nonce"], after["balance_b"]) == (300, 300)


async def test_a_server_that_has_rehearsed_nothing_stops_too(folder: Path) -> None:
    async with marketplace(folder) as market:
        await market.deal()

    assert threads() == []
