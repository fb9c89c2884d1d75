"""Bargaining with the client's own parts, on a real server: agreements over cuts, and what it costs then."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agrenting.client.acknowledging import AcknowledgeUpTo
from agrenting.client.errors import BeyondLimit, NoAnswer, NotAgreed, RefusedByServer
from agrenting.client.hiring import Hiring
from agrenting.client.incoming_channels import AcceptChannels
from agrenting.client.paying_desk import Paying
from agrenting.client.strategies import Boulware, Conceder, FixedLimit, Move, Offer, Turn
from agrenting.client.streamed_task import StreamPrice
from tests.system.harness import MarketProcess, signed_offer
from tests.system.hiring_stage import Shop, cut_at_times, opened_shop


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    """One for all: each test has agents of its own."""
    process = MarketProcess(tmp_path_factory.mktemp("market") / "var").start()
    yield process
    assert process.stop() == 0, "\n".join(process.log)


@pytest.fixture
async def shop(market: MarketProcess, tmp_path: Path) -> AsyncIterator[Shop]:
    async with opened_shop(market, tmp_path) as opened, asyncio.timeout(60):
        yield opened


async def sessions(shop: Shop, status: str) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = await shop.alice.rest.get("/negotiations", status=status)
    return told


async def test_both_come_to_the_same_agreement_over_cuts_and_it_hires_once_at_its_price(shop: Shop) -> None:
    async with shop.bargaining_bob(Boulware(limit=700)) as outcomes:
        cutting = asyncio.create_task(cut_at_times(shop.alice))
        agreement = await shop.bargaining.negotiate(
            "@" + shop.bob.handle, shop.capability, strategy=Conceder(limit="0.0009"), terms={"lines": [1, 2]}
        )
        await cutting
        told = await outcomes.get()
    task = await shop.hiring.hire(shop.capability, agreement=agreement, data=b"")
    with pytest.raises(RefusedByServer) as refused:
        await shop.hiring.hire(shop.capability, agreement=agreement)
    await (await shop.work(task)).deliver("done")
    verified = await task.settle()
    receipt = await agreement.receipt()

    assert told == agreement
    assert 700 <= agreement.amount <= 900
    assert (agreement.terms, agreement.provider_agent_id) == ({"lines": [1, 2]}, shop.bob.id)
    assert (task.price, verified.price, receipt.amount) == (agreement.amount,) * 3
    assert (refused.value.reason, refused.value.context["task_id"]) == ("agreement_used", task.id)


async def test_a_strategy_may_be_given_to_the_hire_itself(shop: Shop) -> None:
    async with shop.bargaining_bob(FixedLimit(limit=700)):
        task = await shop.hiring.hire(shop.capability, strategy=Boulware(limit=900), data="text")

    assert task.price == 700
    assert task.state["negotiation_session_id"] is not None


async def test_the_next_best_is_hired_where_the_best_does_not_agree(shop: Shop, market: MarketProcess) -> None:
    market.user("rita")
    rita = market.agent("rita", "Rival", "--capability", f"{shop.capability}=500", "--global")
    async with market.client(rita.api_key) as rival, shop.bargaining_bob(FixedLimit(limit=700)):
        await rival.join("agents:discovery")
        await rival.join(f"messages:{rita.id}")
        hiring = asyncio.create_task(shop.hiring.hire(shop.capability, strategy=Boulware(limit=900), data=b""))
        topic = (await rival.expect("new_message"))["payload"]["topic"]
        await rival.join(topic)
        await rival.push(topic, "reject", {"reason": "not today"})
        task = await hiring

    assert (task.state["provider_agent_id"], task.price) == (shop.bob.id, 700)


async def test_no_price_for_both_is_no_agreement(shop: Shop) -> None:
    async with shop.bargaining_bob(FixedLimit(limit=901)):
        with pytest.raises(NotAgreed, match="no price within my limit") as ended:
            await shop.hiring.hire(shop.capability, strategy=Conceder(limit=900))

    (session,) = await sessions(shop, "rejected")
    assert (ended.value.session_id, ended.value.status) == (session["id"], "rejected")
    assert await shop.tasks("pending") == []


async def test_who_is_cancelled_or_waits_too_long_leaves_no_open_session(shop: Shop) -> None:
    waiting = asyncio.create_task(shop.bargaining.negotiate(shop.bob.id, shop.capability, strategy=Boulware(limit=900)))
    await shop.told_of_session()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(NoAnswer, match=r"no agreement within 0\.5 s"):
        await shop.bargaining.negotiate(shop.bob.id, shop.capability, strategy=Boulware(limit=900), timeout_s=0.5)

    assert [one["reason"] for one in await sessions(shop, "rejected")] == ["no time left", "cancelled"]
    assert await sessions(shop, "open") == []


async def test_a_strategy_beyond_its_own_limit_signs_nothing(shop: Shop) -> None:
    class Generous:
        limit = 700

        def move(self, turn: Turn) -> Move:
            return Offer(turn.base_max)

    with pytest.raises(BeyondLimit):
        await shop.bargaining.negotiate(shop.bob.id, shop.capability, strategy=Generous())

    (session,) = await sessions(shop, "rejected")
    assert session["offers"] == []


async def test_a_foreign_provider_that_opens_at_the_same_time_is_answered(shop: Shop) -> None:
    bargaining = asyncio.create_task(
        shop.bargaining.negotiate(shop.bob.id, shop.capability, strategy=Boulware(limit=900))
    )
    topic = await shop.told_of_session()
    session = await shop.translator.join(topic)
    while not session["offers"]:
        session = await shop.translator.join(topic)
    await shop.translator.push(topic, "offer", signed_offer(session, shop.bob, session["offers"][0]["amount"]))

    agreement = await bargaining

    assert (agreement.amount, len(agreement.offers)) == (500, 2)


async def test_a_stranger_is_asked_for_contact_before_it_is_hired(shop: Shop, market: MarketProcess) -> None:
    owner = market.user("carla")
    carla = market.agent("carla", "Shy", "--capability", "whisper=500")

    class Approved:
        """Alice's contacts, whose requests Carla approves."""

        asked: tuple[str, str] | None = None

        async def request(self, handle: str, message: str = "", timeout_s: float | None = None) -> None:
            self.asked = handle, message
            made = await shop.alice.rest.post("/agent/contacts/add", {"handle": handle, "message": message})
            async with httpx.AsyncClient(base_url=market.url, headers={"x-api-key": owner["api_key"]}) as http:
                answer = await http.post(f"/api/v1/me/contacts/requests/{made['id']}/approve", json={})
                assert answer.is_success, answer.text

    contacts = Approved()
    with pytest.raises(RefusedByServer) as refused:
        await shop.hiring.hire("whisper", provider=carla.id, max_price=500)

    hiring = Hiring(shop.alice, contacts=contacts)
    task = await hiring.hire("whisper", provider=carla.handle, max_price=500, message="May I?", data=b"")

    assert refused.value.reason in {"contact_required", "not_found"}
    assert contacts.asked == (carla.handle, "May I?")
    assert task.price == 500


async def test_output_is_paid_as_it_streams_each_unit_once_over_cuts(shop: Shop) -> None:
    async with shop.bob_agent() as bob:
        paid = Paying(bob)
        await paid.accept(AcceptChannels(acknowledge=AcknowledgeUpTo(1_000)))
        channel = await Paying(shop.alice).open_channel(shop.bob.id, 50_000)
        price = StreamPrice(amount=1_000, per="chunk")
        task = await shop.hiring.hire(shop.capability, channel=channel, stream_price=price, data=b"")
        work = await shop.work(task)
        words = [f"word {number}" for number in range(8)]

        async def deliver() -> None:
            for number, word in enumerate(words):
                await work.send(word)
                await work.until_paid(number + 1)
            await work.close()
            await work.complete()

        working = asyncio.create_task(deliver())
        heard = []
        async for chunk in task:
            heard.append(chunk.decode())
            if len(heard) in {3, 6}:
                await shop.cut()
        await working
        verified = await task.settle()

    assert heard == words
    assert (task.paid, channel.balance) == (8_000, 42_000)
    assert (verified.price, verified.escrow_status) == (0, "none")
    assert verified.receipt is not None
    assert verified.receipt.document["paid"] == 8_000
