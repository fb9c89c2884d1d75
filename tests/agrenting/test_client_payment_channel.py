"""A payment channel of an agent: each payment is made once, whatever is cut or killed on the way; lies stop it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agrenting.client.acknowledging import AcknowledgeExpected, AcknowledgeUpTo, AcknowledgeWhen, ProposedPayment
from agrenting.client.errors import (
    CannotSign,
    ClientError,
    CloseNotAnswered,
    Disconnected,
    ForgedTransfer,
    LyingServer,
    MalformedAnswer,
    NoAnswer,
    NotPaid,
    RefusedByServer,
    RolledBack,
    UnfinishedPayment,
    WrongAnswer,
)
from agrenting.client.paid_channel import CROSSED
from agrenting.client.payment_channel import PaymentChannel
from tests import paying
from tests.agrenting.payment_town import TASK_ID, WITHIN_S, Town, busy_once, within
from tests.channels.roles import ALICE, BOB

Json = dict[str, Any]
ANY = AcknowledgeUpTo(1_000)


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    """A channel into which Alice and Bob have put 1,000 each."""
    async with Town(tmp_path) as opened:
        yield opened


def nonces(town: Town) -> list[int | None]:
    return [step.nonce for step in town.stage.steps if step.nonce is not None]


def shares(town: Town) -> tuple[int, int]:
    return town.stage.channel.balance_a, town.stage.channel.balance_b


# Paying.


async def test_a_payment_is_signed_by_both_and_known_to_both(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob, ANY)

    nonce = await within(alice.pay("0.000100", task_id=TASK_ID, memo="a page"))

    assert nonce == 1
    assert (alice.balance, alice.other_balance) == (900, 1_100) == shares(town)
    await within(bob.until(lambda: bob.nonce == 1))
    assert (bob.balance, bob.received, alice.received) == (1_100, 100, -100)
    assert alice.last_payment is not None
    assert (alice.last_payment.is_paid, alice.last_payment.memo, alice.unfinished) == (True, "a page", None)


async def test_payments_of_one_agent_go_one_after_another(town: Town) -> None:
    alice, _bob = await town.online(town.alice), await town.online(town.bob, ANY)

    paid = await within(asyncio.gather(*(alice.pay(amount) for amount in range(1, 11))))

    assert sorted(paid) == nonces(town) == [*range(1, 11)]
    assert shares(town) == (945, 1_055)


async def test_both_pay_at_once_and_each_payment_is_made_once(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agrenting.client.payment_channel.TURN_S", 10 * WITHIN_S)  # Who waits for it waits in vain.
    alice, bob = await town.online(town.alice, ANY), await town.online(town.bob, ANY)

    async def pay(channel: PaymentChannel, amount: int) -> None:
        for _ in range(8):
            await channel.pay(amount)

    await within(asyncio.gather(pay(alice, 3), pay(bob, 2)))

    assert shares(town) == (1_000 - 24 + 16, 1_000 + 24 - 16)
    made = [step for step in town.stage.steps if step.kind == "transfer"]
    assert len(made) == 16
    assert len(nonces(town)) - len(made) <= 2, "once they have met they take turns"


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("event", ["propose_transfer", "acknowledge_transfer"])
async def test_a_payment_over_a_loss_is_made_once_with_the_same_bytes(town: Town, where: str, event: str) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob, ANY)
    side = town.alice if event == "propose_transfer" else town.bob
    side.cuts = [(where, event)]

    assert await within(alice.pay(100)) == 1

    await within(bob.until(lambda: bob.nonce == 1))
    assert shares(town) == (900, 1_100)
    assert nonces(town) == [1]
    assert not side.cuts
    sent = side.pushes(event)
    assert sent == [sent[0]] * len(sent), "a signature that was given is given again, and no other"
    assert bob.failure is alice.failure is None


async def test_what_is_paid_while_the_payer_is_away_is_found_at_the_next_join(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob)
    paying_it = asyncio.create_task(alice.pay(100))
    payment = await within(bob.until_proposed())
    town.alice.gate.clear()
    town.alice.lose()
    await within(bob.acknowledge(payment))
    town.alice.gate.set()

    assert await within(paying_it) == 1


async def test_a_program_that_was_killed_finds_its_payment_unfinished_and_finishes_it(town: Town) -> None:
    alice = await town.online(town.alice)
    town.alice.gate.clear()
    town.alice.lose()
    paying_it = asyncio.create_task(alice.pay(100, memo="a page"))
    await within(_signed(alice))
    paying_it.cancel()
    await alice.stop()
    town.alice.gate.set()

    again = await town.online(town.alice)
    await town.online(town.bob, ANY)
    with pytest.raises(UnfinishedPayment, match="nonce 1") as told:
        await again.pay(100)
    nonce = await within(again.resume())

    assert (told.value.amount, told.value.task_id) == (100, None)
    assert (nonce, shares(town)) == (1, (900, 1_100))
    assert [payment["memo"] for payment in town.alice.pushes("propose_transfer")] == ["a page"]
    assert await within(again.pay(1)) == 2


async def _signed(channel: PaymentChannel) -> None:
    while channel.unfinished is None:  # noqa: ASYNC110 - nothing is told of it before it is sent
        await asyncio.sleep(0)


async def test_a_payment_that_was_made_while_its_program_was_dead_is_known_after_each_restart(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob)
    paying_it = asyncio.create_task(alice.pay(100))
    payment = await within(bob.until_proposed())
    paying_it.cancel()
    await alice.stop()
    await within(bob.acknowledge(payment))

    first = await town.online(town.alice, ANY)
    await first.stop()
    bobs = asyncio.create_task(bob.pay(30))
    second = await town.online(town.alice, ANY)
    assert await within(bobs) == 2

    for channel in (first, second):
        assert channel.last_payment is not None
        assert (channel.last_payment.nonce, channel.last_payment.is_paid) == (1, True)
    assert second.unfinished is None


async def test_an_unfinished_payment_can_be_taken_back(town: Town) -> None:
    alice, _bob = await town.online(town.alice), await town.online(town.bob)
    paying_it = asyncio.create_task(alice.pay(100))
    await within(_signed(alice))
    paying_it.cancel()
    with pytest.raises(asyncio.CancelledError):
        await paying_it

    assert await within(alice.withdraw())
    assert nonces(town) == [1]
    assert shares(town) == (1_000, 1_000)
    with pytest.raises(CannotSign, match="no payment is unfinished"):
        await alice.withdraw()
    with pytest.raises(CannotSign, match="no payment is unfinished"):
        await alice.resume()


async def test_a_payment_that_nobody_answers_in_time_is_taken_back(town: Town) -> None:
    alice, _bob = await town.online(town.alice), await town.online(town.bob)

    with pytest.raises(NotPaid, match="nonce 1"):
        await within(alice.pay(100, timeout_s=0.05))

    assert alice.unfinished is None
    assert shares(town) == (1_000, 1_000)


async def test_a_payment_that_expires_is_not_made(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob)
    paying_it = asyncio.create_task(alice.pay(100))
    await within(bob.until_proposed())

    town.wait(301)

    with pytest.raises(NotPaid) as told:
        await within(paying_it)
    assert told.value.reason == "expired"


async def test_a_rejected_payment_says_why(town: Town) -> None:
    alice, _bob = await town.online(town.alice), await town.online(town.bob, AcknowledgeUpTo(50))

    with pytest.raises(NotPaid) as told:
        await within(alice.pay(100))

    assert (told.value.nonce, told.value.reason, told.value.text) == (1, "rejected", "it is more than is taken at once")
    assert await within(alice.pay(50)) == 2


async def test_the_same_payment_is_signed_anew_where_the_other_one_has_deposited_meanwhile(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob, ANY)
    town.alice.cuts = [("before", "propose_transfer")]
    town.alice.gate.clear()
    paying_it = asyncio.create_task(alice.pay(100))
    await within(_signed(alice))
    await within(bob.deposit(500))
    town.alice.gate.set()

    assert await within(paying_it) == 1

    assert shares(town) == (900, 1_600)
    first, second = town.alice.pushes("propose_transfer")[0], town.alice.pushes("propose_transfer")[-1]
    assert (first["nonce"], first["amount"]) == (second["nonce"], second["amount"])
    assert first["signature"] != second["signature"]


async def test_what_cannot_be_paid_binds_no_nonce(town: Town) -> None:
    alice, _bob = await town.online(town.alice), await town.online(town.bob, ANY)

    with pytest.raises(WrongAnswer, match="not one of the channel's"):
        await alice.pay(1, task_id="00000000-0000-4000-8000-000000000000")
    with pytest.raises(ValueError, match="at most 200"):
        await alice.pay(1, memo="x" * 201)
    with pytest.raises(ValueError, match="at least 1"):
        await alice.pay(0)
    with pytest.raises(CannotSign, match="has 1000 in the channel"):
        await alice.pay(1_001)

    assert alice.last_payment is None
    assert await within(alice.pay(1)) == 1


async def test_a_deposit_raises_the_own_balance(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob, AcknowledgeUpTo(1_200))

    assert await within(alice.deposit("0.0005")) == 1_500
    assert await within(alice.pay(1_200)) == 1
    await within(bob.until(lambda: bob.nonce == 1))

    assert (bob.balance, bob.other_balance) == (2_200, 300)


async def test_a_deposit_waits_while_a_payment_is_proposed(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob)
    paying_it = asyncio.create_task(bob.pay(10))
    payment = await within(alice.until_proposed())
    depositing = asyncio.create_task(alice.deposit(5))
    await within(alice.acknowledge(payment))

    assert await within(depositing) == 1_015
    assert await within(paying_it) == 1


# Being paid.


async def test_an_expected_payment_is_confirmed_even_if_it_comes_before_it_is_expected(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob, AcknowledgeExpected())
    paying_it = asyncio.create_task(alice.pay(100, task_id=TASK_ID))
    await within(bob.until(lambda: bob.proposed is not None))
    expected = bob.expect("0.0001", TASK_ID)

    assert await within(bob.until_paid(expected)) == await within(paying_it) == 1
    assert expected.nonce == 1


async def test_a_payment_that_nobody_expects_is_rejected(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob, AcknowledgeExpected(within_s=0.05))
    bob.expect(99)

    with pytest.raises(NotPaid, match="not expected"):
        await within(alice.pay(100))


async def test_a_policy_that_fails_confirms_nothing_and_is_logged(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    async def decide(_payment: ProposedPayment) -> bool:
        raise LookupError("no such customer")

    alice, bob = await town.online(town.alice), await town.online(town.bob, AcknowledgeWhen(decide))

    with caplog.at_level(logging.ERROR), pytest.raises(NotPaid, match="could not decide"):
        await within(alice.pay(100))

    assert "no such customer" in caplog.text
    assert bob.failure is None


async def test_the_application_is_asked_in_order_and_never_about_what_is_over(town: Town) -> None:
    asked: list[int] = []
    ended: asyncio.Queue[int] = asyncio.Queue()
    may_go_on = asyncio.Event()

    async def decide(payment: ProposedPayment) -> bool | str:
        asked.append(payment.amount)
        try:
            await may_go_on.wait()
        except asyncio.CancelledError:
            ended.put_nowait(payment.amount)
            raise
        return payment.amount != 7 or "not seven"

    alice, _bob = await town.online(town.alice), await town.online(town.bob, AcknowledgeWhen(decide))
    with pytest.raises(NotPaid):
        await within(alice.pay(5, timeout_s=0.05))
    assert await within(ended.get()) == 5
    may_go_on.set()
    assert await within(alice.pay(6)) == 2
    with pytest.raises(NotPaid, match="not seven"):
        await within(alice.pay(7))

    assert asked == [5, 6, 7]
    assert ended.empty()


async def test_the_total_of_a_policy_holds_over_a_restart(town: Town) -> None:
    policy = AcknowledgeUpTo(100, total=150)
    alice, bob = await town.online(town.alice), await town.online(town.bob, policy)
    await within(alice.pay(100))
    await bob.stop()
    await town.online(town.bob, policy)

    with pytest.raises(NotPaid, match="taken in all"):
        await within(alice.pay(100))
    assert await within(alice.pay(50)) == 3


async def test_what_is_left_to_the_application_is_answered_by_it(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob)
    paying_it = asyncio.create_task(alice.pay(100))
    payment = await within(bob.until_proposed())
    await within(bob.reject(payment, "no, thanks"))

    with pytest.raises(NotPaid, match="no, thanks"):
        await within(paying_it)
    with pytest.raises(CannotSign, match="does not wait"):
        await bob.acknowledge(payment)


async def test_an_acknowledgement_without_an_answer_is_sent_again(town: Town) -> None:
    alice, _bob = await town.online(town.alice), await town.online(town.bob, ANY)
    town.bob.cuts = [("silent", "acknowledge_transfer")]

    assert await within(alice.pay(100)) == 1
    assert await within(alice.pay(1)) == 2


# Closing.


async def test_a_close_that_is_offered_is_agreed_to(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob, ANY)
    await within(alice.pay(100))

    end = await within(alice.close())

    assert (end.status, end.cause, end.own, end.other) == ("closed", "joint_close", 900, 1_100)
    assert (await within(bob.closed())).own == 1_100
    with pytest.raises(CannotSign, match="is closed"):
        await alice.pay(1)


async def test_both_close_at_once(town: Town) -> None:
    alice, bob = await town.online(town.alice, closes=False), await town.online(town.bob, closes=False)

    ends = await within(asyncio.gather(alice.close(), bob.close()))

    assert [end.cause for end in ends] == ["joint_close", "joint_close"]


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("event", ["close_request", "close"])
async def test_a_close_over_a_loss(town: Town, where: str, event: str) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob)
    (town.alice if event == "close_request" else town.bob).cuts = [(where, event)]

    assert (await within(alice.close())).cause == "joint_close"
    assert (await within(bob.closed())).cause == "joint_close"


async def test_a_close_that_nobody_agrees_to_says_what_to_do_and_stands(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob, closes=False)

    with pytest.raises(CloseNotAnswered, match=r"force_close\(\), which pays after 86400 s") as told:
        await within(alice.close(timeout_s=0.05))
    end = await within(bob.close())

    assert told.value.window_s == 86_400
    assert end.cause == "joint_close"


async def test_who_closes_while_the_other_one_pays_is_paid_first(town: Town) -> None:
    alice, bob = await town.online(town.alice, closes=False), await town.online(town.bob)
    paying_it = asyncio.create_task(alice.pay(100))
    payment = await within(bob.until_proposed())
    closing = asyncio.create_task(bob.close())
    await within(bob.acknowledge(payment))
    await within(paying_it)

    await within(alice.close())

    assert (await within(closing)).own == 1_100


async def test_without_the_other_one_the_window_pays(town: Town) -> None:
    alice = await town.online(town.alice)

    await within(alice.force_close())
    assert alice.status == "closing"
    town.wait(86_401)

    end = await within(alice.closed())
    assert (end.cause, end.own) == ("force_close", 1_000)


async def test_a_dispute_freezes_and_is_withdrawn_also_over_a_loss(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob)
    await within(alice.dispute("This was not agreed.", {"said": 5}))
    await within(bob.until(lambda: bob.status == "disputed"))
    with pytest.raises(RefusedByServer, match="forbidden_role"):
        await bob.withdraw_dispute()
    town.alice.cuts = [("after", "withdraw_dispute")]

    await within(alice.withdraw_dispute())

    assert alice.status == town.stage.channel.status == "open"


async def test_a_close_may_pay_something_else_if_both_say_so(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob)
    closing = asyncio.create_task(alice.close(finals=(1_500, 500)))
    await within(bob.until(lambda: bool(bob.channel["close_requests"])))

    end = await within(bob.close(finals=(1_500, 500)))

    assert (end.own, end.other) == (500, 1_500)
    assert (await within(closing)).own == 1_500


# Servers that lie, or that were restored.


async def test_a_server_that_goes_back_is_a_lie_and_nothing_more_is_signed(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    alice, _bob = await town.online(town.alice), await town.online(town.bob, ANY)
    before = town.stage.snapshot
    await within(alice.pay(100))
    town.alice.lie = lambda told: {**before, "missing_transfers": [], "missing_after": None} if told else told
    town.alice.lose()

    with pytest.raises(RolledBack):
        await within(alice.closed())
    with pytest.raises(RolledBack):
        await alice.pay(1)
    with pytest.raises(RolledBack):
        await alice.close()

    assert isinstance(alice.failure, RolledBack)
    assert "nothing more is signed" in caplog.text
    assert len(town.alice.pushes("propose_transfer")) == 1


async def test_a_server_that_was_restored_freezes_the_channel_and_both_close_it_as_they_know_it(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob, ANY)
    copy = town.stage.copy()
    await within(alice.pay(100))
    await within(bob.until(lambda: bob.nonce == 1))
    town.restore(copy)
    await within(alice.until(lambda: alice.is_state_lost))
    await within(bob.until(lambda: bob.is_state_lost))

    with pytest.raises(CannotSign, match="has lost states"):
        await alice.pay(1)
    with pytest.raises(CannotSign, match="name the finals"):
        await alice.close()
    closing = asyncio.create_task(alice.close(finals=(900, 1_100)))
    end = await within(bob.close(finals=(900, 1_100)))

    assert (end.own, end.other) == (1_100, 900)
    await within(closing)


async def test_a_payment_that_was_never_signed_by_its_payer_is_not_confirmed(town: Town) -> None:
    _alice, bob = await town.online(town.alice), await town.online(town.bob, ANY)
    forged = {**_proposal(town, 100), "signature": "A" * 86 + "=="}
    assert town.bob.topic is not None
    town.bob.topic.hear("propose_transfer", forged)

    with pytest.raises(ForgedTransfer):
        await within(bob.closed())
    assert not town.bob.pushes("acknowledge_transfer")


def _proposal(town: Town, amount: int) -> Json:
    channel = town.stage.snapshot
    return {
        "channel_id": channel["id"],
        "nonce": 1,
        "amount": amount,
        "from_agent_id": ALICE.id,
        "to_agent_id": BOB.id,
        "balance_a": 1_000 - amount,
        "balance_b": 1_000 + amount,
        "task_id": None,
        "memo": None,
        "proposed_at": channel["created_at"],
        "expires_at": channel["expires_at"],
    }


async def test_a_closed_connection_is_told_to_all_who_wait(town: Town) -> None:
    alice = await town.online(town.alice)
    paying_it = asyncio.create_task(alice.pay(100))
    await within(_signed(alice))

    town.alice.end()

    with pytest.raises(Disconnected):
        await within(paying_it)
    with pytest.raises(Disconnected):
        await within(alice.closed())
    assert alice.unfinished is not None


async def test_states_that_a_lost_record_lacks_are_brought_and_no_nonce_is_used_twice(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob, ANY)
    for amount in (1, 2, 3):
        await within(alice.pay(amount))
    await alice.stop()
    for file in (town.alice.folder / "channels").iterdir():
        file.unlink()

    again = await town.online(town.alice)

    assert again.balance == 994
    assert await within(again.pay(4)) == 4
    assert bob.failure is None


async def test_a_crossing_that_was_told_while_the_payer_was_away_is_asked_for(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob)
    paying_it = asyncio.create_task(alice.pay(100))
    first = await within(bob.until_proposed())
    town.alice.gate.clear()
    town.alice.lose()
    await within(bob.reject(first, CROSSED))
    town.alice.gate.set()

    second = await within(bob.until_proposed())
    await within(bob.acknowledge(second))

    assert (second.nonce, await within(paying_it)) == (2, 2)


async def test_who_is_crossed_again_and_again_gives_up(town: Town) -> None:
    async def cross(_payment: ProposedPayment) -> str:
        return CROSSED

    alice, _bob = await town.online(town.alice), await town.online(town.bob, AcknowledgeWhen(cross))

    with pytest.raises(NotPaid, match="crossed"):
        await within(alice.pay(100))

    assert shares(town) == (1_000, 1_000)
    assert nonces(town) == [*range(1, len(nonces(town)) + 1)]


# What goes wrong on the way.


def transfer(town: Town, amount: int) -> None:
    """One whole payment of Bob's, without the programs."""
    now = town.stage.snapshot
    town.send(BOB, "propose_transfer", paying.proposal(now, BOB.secret_key, from_agent_id=BOB.id, amount=amount))
    pending = town.stage.snapshot["pending_proposal"]
    town.send(ALICE, "acknowledge_transfer", paying.acknowledgement(town.stage.snapshot, ALICE.secret_key, pending))


async def test_a_payment_whose_end_was_not_heard_is_asked_for(town: Town) -> None:
    alice, _bob = await town.online(town.alice), await town.online(town.bob, ANY)
    town.alice.is_deaf = True

    assert await within(alice.pay(100, timeout_s=0.05)) == 1


async def test_signed_states_that_were_not_heard_are_fetched(town: Town) -> None:
    alice = await town.online(town.alice)
    town.alice.is_deaf = True
    transfer(town, 1)
    town.send(
        BOB, "propose_transfer", paying.proposal(town.stage.snapshot, BOB.secret_key, from_agent_id=BOB.id, amount=2)
    )
    town.alice.is_deaf = False
    channel = town.stage.snapshot
    answer = paying.acknowledgement(channel, ALICE.secret_key, channel["pending_proposal"])
    town.send(ALICE, "acknowledge_transfer", answer)

    await within(alice.until(lambda: alice.nonce == 2))

    assert (alice.failure, alice.balance) == (None, 1_003)


async def test_a_server_that_cannot_tell_just_now_stops_no_channel(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = await town.online(town.alice)
    look_up, refused = town.look_up, set[str]()

    def busy(path: str, query: Json) -> Any:
        if path not in refused:
            refused.add(path)
            raise RefusedByServer("rate_limited", "Too often.", {})
        return look_up(path, query)

    monkeypatch.setattr(town, "look_up", busy)
    town.alice.is_deaf = True
    transfer(town, 1)
    told = paying.proposal(town.stage.snapshot, BOB.secret_key, from_agent_id=BOB.id, amount=2)
    town.send(BOB, "propose_transfer", told)
    town.alice.is_deaf = False
    channel = town.stage.snapshot
    answer = paying.acknowledgement(channel, ALICE.secret_key, channel["pending_proposal"])
    town.send(ALICE, "acknowledge_transfer", answer)

    await within(alice.until(lambda: alice.nonce == 2))

    assert alice.failure is None
    path = f"/payment-channels/{alice.id}"
    assert refused == {path, f"{path}/transfers"}


async def test_a_close_that_cannot_be_agreed_to_just_now_is_agreed_to_later(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agrenting.client.kept_topic.PATIENCE_S", 0.0)
    alice, bob = await town.online(town.alice), await town.online(town.bob)
    busy_once(town, "close", monkeypatch)

    assert (await within(alice.close())).cause == "joint_close"
    assert bob.failure is None
    assert len(town.bob.pushes("close")) == 2


async def test_more_states_than_a_join_brings_are_fetched_in_pages(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agrenting.client.kept_channel.PAGE", 2)
    limits = msgspec.structs.replace(town.stage.market.limits, missing_transfers_max=2)
    town.stage.market = msgspec.structs.replace(town.stage.market, limits=limits)
    for amount in range(1, 8):
        transfer(town, amount)

    alice = await town.online(town.alice)

    assert (alice.nonce, alice.balance) == (7, 1_028)


async def test_a_server_that_keeps_signed_states_back_lies(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    for amount in (1, 2, 3):
        transfer(town, amount)
    town.alice.lie = lambda told: {**told, "missing_transfers": [], "missing_after": 0}
    monkeypatch.setattr(town, "look_up", lambda _path, _query: [])

    with pytest.raises(LyingServer):
        await within(town.online(town.alice))


async def test_a_payment_that_is_void_because_the_other_one_force_closes_says_so(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob)
    paying_it = asyncio.create_task(alice.pay(100))
    await within(bob.until_proposed())

    await within(bob.force_close())

    with pytest.raises(NotPaid, match="force_close"):
        await within(paying_it)
    with pytest.raises(CannotSign, match="is closing"):
        await alice.pay(1)


async def test_what_the_server_refuses_for_good_stays_unfinished_until_the_channel_ends(town: Town) -> None:
    alice, _bob = await town.online(town.alice), await town.online(town.bob)
    town.stage.revoke()
    town.tell()

    with pytest.raises(RefusedByServer, match="contact_revoked"):
        await within(alice.pay(100))
    assert alice.unfinished is not None
    end = await within(alice.close())

    assert end.own == 1_000
    assert alice.last_payment is not None
    assert alice.last_payment.is_paid is False


async def test_a_proposal_without_an_answer_is_taken_back(town: Town) -> None:
    alice, _bob = await town.online(town.alice), await town.online(town.bob)
    town.alice.cuts = [("silent", "propose_transfer")]

    with pytest.raises(NotPaid, match="withdrawn"):
        await within(alice.pay(100))


async def test_what_can_neither_be_answered_nor_taken_back_in_time_is_unfinished(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agrenting.client.payment_channel.WITHDRAWAL_S", 0.05)
    alice, _bob = await town.online(town.alice), await town.online(town.bob, ANY)
    town.alice.gate.clear()
    town.alice.lose()

    with pytest.raises(NoAnswer, match="neither answered nor taken back"):
        await within(alice.pay(100, timeout_s=0.05))
    town.alice.gate.set()

    assert await within(alice.resume()) == 1


async def test_who_is_closed_upon_while_it_pays_is_told(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob)
    town.alice.gate.clear()
    town.alice.lose()
    paying_it = asyncio.create_task(alice.pay(100))
    await within(_signed(alice))
    request = paying.close(town.stage.snapshot, ALICE.secret_key, BOB.secret_key)
    town.send(BOB, "close", request)
    town.alice.gate.set()

    with pytest.raises((CannotSign, NotPaid)):
        await within(paying_it)
    assert (await within(alice.closed())).own == 1_000
    assert (await within(bob.closed())).own == 1_000
    with pytest.raises(CannotSign, match="is closed"):
        await bob.until_proposed()
    with pytest.raises(CannotSign, match="is closed"):
        await bob.until_paid(bob.expect(5))


async def test_an_application_that_is_late_acknowledges_nothing(town: Town) -> None:
    alice, bob = await town.online(town.alice), await town.online(town.bob)
    paying_it = asyncio.create_task(alice.pay(100))
    payment = await within(bob.until_proposed())
    town.wait(301)
    with pytest.raises(NotPaid):
        await within(paying_it)

    with pytest.raises(RefusedByServer, match="nonce_replayed"):
        await within(bob.reject(payment))


async def test_a_deposit_that_meets_a_payment_waits_for_its_end(town: Town) -> None:
    alice, bob = await town.online(town.alice, ANY), await town.online(town.bob)
    town.alice.is_deaf = True
    paying_it = asyncio.create_task(bob.pay(10))
    await within(bob.until(lambda: bob.channel["pending_proposal"] is not None))
    depositing = asyncio.create_task(alice.deposit(5))
    await within(alice.until(lambda: alice.channel["pending_proposal"] is not None))
    town.alice.is_deaf = False

    assert await within(paying_it) == 1
    assert await within(depositing) == 1_015


async def test_a_malformed_answer_stops_the_channel_and_not_the_agent(town: Town) -> None:
    _alice, bob = await town.online(town.alice), await town.online(town.bob, ANY)
    now = town.stage.snapshot
    proposal = paying.proposal(now, ALICE.secret_key, from_agent_id=ALICE.id, amount=5)
    assert town.bob.topic is not None
    town.bob.topic.hear("propose_transfer", {**_proposal(town, 5), **proposal, "memo": {"a": 1}})

    with pytest.raises(MalformedAnswer):
        await within(bob.closed())
    assert not town.bob.pushes("acknowledge_transfer")


async def test_a_channel_is_not_begun_once_its_agent_is_closed(town: Town) -> None:
    context = await town.context(town.alice)
    channel = PaymentChannel(context, town.stage.channel.id)
    context.cancel_background()

    with pytest.raises(ClientError, match="not open"):
        await channel.start()
