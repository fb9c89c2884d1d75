"""A payment channel whose answers come late, behind what was told meanwhile; and one that is not read any more."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agrenting.client.acknowledging import AcknowledgeExpected, ProposedPayment
from agrenting.client.errors import CannotSign, Disconnected, NotPaid
from agrenting.client.payment_channel import PaymentChannel
from tests import paying
from tests.agrenting.client_stage import settle
from tests.agrenting.payment_town import Side, Town, within
from tests.channels.roles import ALICE


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    """A channel into which Alice and Bob have put 1,000 each."""
    async with Town(tmp_path) as opened:
        yield opened


def hold_reply(side: Side, held: str, channel: PaymentChannel, until: Callable[[], bool]) -> None:
    """What a side pushes with an event is answered, and the answer is read only once something was heard."""
    topic = side.topic
    assert topic is not None
    push = topic.push

    async def late(event: str, payload: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        reply = await push(event, payload, timeout_s)
        if event == held:
            await channel.until(until)
        return reply

    topic.push = late  # type: ignore[method-assign] # A slow way back.


async def test_an_answer_that_is_read_after_the_end_does_not_undo_it(town: Town) -> None:
    alice, _bob = await town.online(town.alice), await town.online(town.bob)
    hold_reply(town.alice, "close_request", alice, lambda: alice.is_over)

    end = await within(alice.close())

    assert (end.status, alice.status) == ("closed", "closed")


async def test_an_answer_that_is_read_after_a_dispute_does_not_hide_it(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob, closes=False)
    hold_reply(town.alice, "close_request", alice, lambda: alice.status == "disputed")
    closing = asyncio.create_task(alice.close())
    await within(bob.until(lambda: bool(bob.channel["close_requests"])))

    await within(bob.dispute("This was not agreed."))
    await within(alice.until(lambda: alice.status == "disputed"))
    await settle()

    assert alice.status == "disputed"
    assert (await within(bob.close())).cause == (await within(closing)).cause == "joint_close"


async def test_a_payment_that_is_read_before_the_answer_that_it_follows_is_good(town: Town) -> None:
    _alice, bob = await town.online(town.alice), await town.online(town.bob)
    hold_reply(town.bob, "reject_transfer", bob, lambda: bob.nonce == 1)
    rejecting = asyncio.create_task(bob.reject(await proposed(town, bob)))
    await settle()

    propose(town)
    await within(rejecting)
    payment = await within(bob.until_proposed())
    await within(bob.acknowledge(payment))

    assert (payment.nonce, bob.balance, bob.failure) == (2, 1_100, None)


async def test_a_close_that_is_offered_before_the_answer_that_it_follows_is_agreed_to(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob)
    hold_reply(town.bob, "reject_transfer", bob, lambda: bob.nonce == 1)
    rejecting = asyncio.create_task(bob.reject(await proposed(town, bob)))
    await within(alice.until(lambda: alice.nonce == 1))

    end = await within(alice.close())
    await within(rejecting)

    assert end.cause == "joint_close"


async def test_who_is_not_read_any_more_signs_nothing(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob)
    payment = await proposed(town, bob)
    files = {file: file.read_bytes() for file in town.folder.rglob("channels/*")}
    await alice.stop()
    await bob.stop()

    for act in (alice.pay(100), alice.close(), bob.acknowledge(payment)):
        with pytest.raises(Disconnected):
            await within(act)

    assert {file: file.read_bytes() for file in town.folder.rglob("channels/*")} == files
    assert alice.last_payment is None


async def test_another_payment_than_the_one_that_was_looked_at_is_not_confirmed(town: Town) -> None:
    _alice, bob = await town.online(town.alice), await town.online(town.bob)
    payment = await proposed(town, bob)

    with pytest.raises(CannotSign, match="does not wait"):
        await bob.acknowledge(msgspec.structs.replace(payment, amount=payment.amount + 1))

    assert not town.bob.pushes("acknowledge_transfer")


async def test_what_was_expected_has_come_also_where_the_answer_to_its_confirmation_is_lost(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob, AcknowledgeExpected(within_s=0))
    town.bob.cuts = [("silent", "acknowledge_transfer")]
    expected = bob.expect(100)
    await within(alice.pay(100))

    assert await within(bob.until_paid(expected)) == 1
    with pytest.raises(NotPaid, match="not expected"):
        await within(alice.pay(100))


def propose(town: Town) -> None:
    """Make a payment of Alice's without her program."""
    now = town.stage.snapshot
    town.send(ALICE, "propose_transfer", paying.proposal(now, ALICE.secret_key, from_agent_id=ALICE.id, amount=100))


async def proposed(town: Town, bob: PaymentChannel) -> ProposedPayment:
    """The same, once Bob knows of it."""
    propose(town)
    payment: ProposedPayment = await within(bob.until_proposed())
    return payment
