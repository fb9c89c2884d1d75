"""Offline transfers of the client: signed over any medium, by both, once; handed in whole, whatever is lost."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agrenting.client.acknowledging import AcknowledgeExpected, AcknowledgeUpTo
from agrenting.client.errors import (
    AlreadySigned,
    BrokenRecord,
    CannotSign,
    ClientError,
    ForgedTransfer,
    MalformedAnswer,
    RolledBack,
    UnfinishedPayment,
    WrongBalance,
    WrongChannel,
)
from agrenting.client.offline_channel import OfflineChannel
from agrenting.client.offline_keeper import OfflineKeeper
from agrenting.client.payment_channel import PaymentChannel
from channels.payment_state import Mode
from tests.agrenting.payment_town import TASK_ID, Town, busy_once, within
from tests.agrenting.test_client_payments import SIGNERS
from tests.channels.payment_stage import Stage
from tests.channels.roles import ALICE, BOB, CAROL, OTHER_ID, Player

Json = dict[str, Any]


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    """An offline channel into which Alice and Bob have put 1,000 each."""
    async with Town(tmp_path, mode=Mode.OFFLINE) as opened:
        yield opened


class Pair:
    """Alice and Bob, who keep one offline channel without any connection.

    Args:
        folder: Where each keeps its journal.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stage = Stage(mode=Mode.OFFLINE)
        self.alice, self.bob = self.keeper(ALICE), self.keeper(BOB)
        for keeper in (self.alice, self.bob):
            keeper.take(self.stage.snapshot)

    def keeper(self, who: Player) -> OfflineKeeper:
        """A program of an agent that starts, with the file that it has."""
        return OfflineKeeper(SIGNERS[who.id], agent_id=who.id, path=self.path(who))

    def path(self, who: Player) -> Path:
        return self.folder / who.agent.name

    def pay(self, payer: OfflineKeeper, amount: int) -> Json:
        """One whole payment; the transfer that both have signed."""
        payee = self.bob if payer is self.alice else self.alice
        transfer = payee.countersign(carried(payer.pay(amount)))
        payer.complete(carried(transfer))
        return transfer


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def carried(payment: Json) -> Json:
    """By any medium that carries JSON."""
    there: Json = json.loads(json.dumps(payment))
    return there


# Without any connection.


def test_payments_go_both_ways_and_both_know_the_same(pair: Pair) -> None:
    for payer, amount in ((pair.alice, 300), (pair.bob, 50), (pair.alice, 7)):
        pair.pay(payer, amount)

    assert pair.alice.balances == pair.bob.balances == (743, 1_257)
    assert (pair.alice.balance, pair.alice.other_balance) == (743, 1_257)
    assert pair.alice.unsubmitted() == pair.bob.unsubmitted()
    assert [transfer["nonce"] for transfer in pair.bob.unsubmitted()] == [1, 2, 3]


def test_the_marketplace_takes_the_chain(pair: Pair) -> None:
    for payer, amount in ((pair.alice, 300), (pair.bob, 50)):
        pair.pay(payer, amount)

    reply = pair.stage.send(BOB, "submit_transfers", transfers=pair.bob.unsubmitted())
    pair.bob.take(reply)
    pair.alice.take(pair.stage.snapshot)

    assert (pair.stage.channel.balance_a, pair.stage.channel.balance_b) == (750, 1_250)
    assert pair.alice.unsubmitted() == pair.bob.unsubmitted() == []


def test_what_was_signed_counts_as_paid_and_nothing_else_is_signed_before_it_is_answered(pair: Pair) -> None:
    payment = pair.alice.pay(300, TASK_ID)

    assert (pair.alice.balance, pair.alice.other_balance) == (700, 1_000)
    with pytest.raises(UnfinishedPayment, match="nonce 1"):
        pair.alice.pay(300, TASK_ID)
    assert pair.keeper(ALICE).brought_again() == payment
    with pytest.raises(UnfinishedPayment):
        pair.keeper(ALICE).pay(1)


def test_a_payment_that_is_brought_twice_is_countersigned_once(pair: Pair) -> None:
    payment = pair.alice.pay(300)

    first, second = pair.bob.countersign(carried(payment)), pair.keeper(BOB).countersign(carried(payment))
    pair.alice.complete(first)
    pair.alice.complete(second)

    assert first == second
    assert (pair.alice.last_nonce, pair.keeper(BOB).last_nonce) == (1, 1)
    assert pair.alice.brought_again() is None


def test_who_has_signed_a_nonce_itself_countersigns_no_other_payment_with_it(pair: Pair) -> None:
    alices, bobs = pair.alice.pay(300), pair.bob.pay(50)

    for keeper, payment in ((pair.bob, alices), (pair.alice, bobs), (pair.keeper(BOB), alices)):
        with pytest.raises(AlreadySigned):
            keeper.countersign(payment)


def test_a_used_nonce_is_signed_for_nothing_else(pair: Pair) -> None:
    before = pair.alice.pay(300)
    pair.alice.complete(pair.bob.countersign(before))
    other = OfflineKeeper(SIGNERS[ALICE.id], agent_id=ALICE.id, path=pair.folder / "another")
    other.take(pair.stage.snapshot)

    with pytest.raises(AlreadySigned):
        pair.bob.countersign(other.pay(5))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"amount": 299}, ForgedTransfer),
        ({"balance_a": 701, "balance_b": 1_299}, ForgedTransfer),
        ({"task_id": TASK_ID}, ForgedTransfer),
        ({"nonce": 2}, ForgedTransfer),
        ({"from_agent_id": CAROL.id}, ForgedTransfer),
        ({"from_agent_id": BOB.id}, CannotSign),
        ({"channel_id": OTHER_ID}, WrongChannel),
        ({"signature": "AAAA"}, ForgedTransfer),
        ({"nonce": "one"}, MalformedAnswer),
    ],
)
def test_a_payment_that_was_tampered_with_is_not_countersigned(
    pair: Pair, change: Json, error: type[ClientError]
) -> None:
    payment = pair.alice.pay(300)
    size = pair.path(BOB).stat().st_size

    with pytest.raises(error):
        pair.bob.countersign({**payment, **change})

    assert pair.bob.last_nonce == 0
    assert pair.path(BOB).stat().st_size == size
    assert pair.bob.countersign(payment)["signature_a"] == payment["signature"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"signature_b": "A" * 86 + "=="}, ForgedTransfer),
        ({"channel_id": OTHER_ID}, WrongChannel),
        ({"nonce": 3}, CannotSign),
        ({"amount": 1}, ForgedTransfer),
    ],
)
def test_a_countersignature_that_is_none_is_not_taken(pair: Pair, change: Json, error: type[ClientError]) -> None:
    transfer = pair.bob.countersign(pair.alice.pay(300))

    with pytest.raises(error):
        pair.alice.complete({**transfer, **change})

    assert pair.alice.brought_again() is not None


def test_nobody_pays_more_than_it_has_nor_itself(pair: Pair) -> None:
    with pytest.raises(CannotSign, match="has 1000 in the channel"):
        pair.alice.pay(1_001)
    with pytest.raises(ValueError, match="at least 1"):
        pair.alice.pay(0)
    with pytest.raises(CannotSign, match="who pays"):
        pair.alice.countersign(pair.alice.pay(1))


def test_who_has_signed_a_close_signs_no_payment_afterwards(pair: Pair) -> None:
    payment = pair.alice.pay(100)
    pair.bob.close_request()

    with pytest.raises(CannotSign, match="a close of the channel was signed"):
        pair.bob.countersign(payment)
    with pytest.raises(CannotSign, match="a close of the channel was signed"):
        pair.keeper(BOB).pay(1)
    with pytest.raises(AlreadySigned):
        pair.bob.close_request((1_100, 900))


def test_a_close_is_signed_only_over_what_the_server_knows(pair: Pair) -> None:
    pair.pay(pair.alice, 100)

    with pytest.raises(CannotSign, match="submit the transfers first"):
        pair.alice.close_request()
    pair.alice.take(pair.stage.send(ALICE, "submit_transfers", transfers=pair.alice.unsubmitted()))

    assert pair.alice.close_request()["final_balance_a"] == 900
    with pytest.raises(ValueError, match="sum to 2000"):
        pair.alice.close_request((1, 2))


def test_a_keeper_goes_on_from_its_file(pair: Pair) -> None:
    pair.pay(pair.alice, 300)

    again = pair.keeper(ALICE)

    assert (again.balances, again.last_nonce) == ((700, 1_300), 1)
    assert pair.bob.countersign(again.pay(5))["nonce"] == 2
    assert "at nonce 1" in repr(again)


def test_a_keeper_that_was_never_open_signs_nothing(tmp_path: Path) -> None:
    keeper = OfflineKeeper(SIGNERS[ALICE.id], agent_id=ALICE.id, path=tmp_path / "alice")
    keeper.take(Stage(mode=Mode.OFFLINE, counter_deposit=None).snapshot)

    for act in (lambda: keeper.pay(1), lambda: keeper.complete({}), lambda: keeper.countersign({})):
        with pytest.raises(CannotSign, match="never open"):
            act()
    with pytest.raises(CannotSign, match="this one is online"):
        keeper.take(Stage().snapshot)


# The file.


def test_a_line_that_was_torn_by_a_crash_was_never_acted_on(pair: Pair) -> None:
    pair.pay(pair.alice, 300)
    path = pair.path(ALICE)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"digest":"0000')

    again = pair.keeper(ALICE)
    again.pay(5)

    assert again.last_nonce == 1
    assert path.read_bytes().startswith(whole)
    assert pair.keeper(ALICE).brought_again() is not None


@pytest.mark.parametrize("harm", ["a line is gone", "a line is changed", "no journal"])
def test_a_damaged_file_signs_nothing(pair: Pair, harm: str) -> None:
    pair.pay(pair.alice, 300)
    pair.pay(pair.bob, 300)
    path = pair.path(ALICE)
    lines = path.read_bytes().splitlines(keepends=True)
    if harm == "a line is gone":
        del lines[1]
    elif harm == "a line is changed":
        lines[1] = lines[1].replace(b'"amount":300', b'"amount":301')
    else:
        lines[0] = b"{}\n"
    path.write_bytes(b"".join(lines))

    with pytest.raises(BrokenRecord):
        pair.keeper(ALICE)


def test_two_programs_of_one_agent_do_not_both_sign(pair: Pair) -> None:
    one, other = pair.keeper(ALICE), pair.keeper(ALICE)
    transfer = pair.bob.countersign(one.pay(300))

    with pytest.raises(BrokenRecord, match="somebody else"):
        other.pay(5)
    pair.path(ALICE).unlink()
    with pytest.raises(BrokenRecord, match="somebody else"):
        one.complete(transfer)


def test_the_file_of_another_agent_is_refused(pair: Pair) -> None:
    with pytest.raises(BrokenRecord, match="of another key"):
        OfflineKeeper(SIGNERS[CAROL.id], agent_id=CAROL.id, path=pair.path(ALICE))
    with pytest.raises(BrokenRecord, match="of another key"):
        OfflineKeeper(SIGNERS[BOB.id], agent_id=ALICE.id, path=pair.path(ALICE))


def test_a_file_holds_no_secret_and_is_its_owners_alone(pair: Pair) -> None:
    pair.pay(pair.alice, 300)

    assert ALICE.secret_key.hex() not in pair.path(ALICE).read_text("utf-8")
    assert (pair.path(ALICE).stat().st_mode & 0o777) == 0o600


# Servers that lie, or that were restored.


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"deposit_a": 900, "balance_a": 900}, WrongBalance),
        ({"deposit_a": 2_000, "deposited_since_a": 2_000, "balance_a": 2_000}, RolledBack),
        ({"agent_b_id": CAROL.id}, WrongChannel),
        ({"mode": "online"}, CannotSign),
        ({"balance_a": "much"}, MalformedAnswer),
    ],
)
def test_a_lie_of_the_server_is_not_taken(pair: Pair, change: Json, error: type[ClientError]) -> None:
    with pytest.raises(error):
        pair.alice.take({**pair.stage.snapshot, **change})

    pair.alice.take(pair.stage.snapshot)
    assert pair.alice.balance == 1_000


def test_a_server_that_has_another_transfer_at_a_nonce_lies(pair: Pair, tmp_path: Path) -> None:
    pair.pay(pair.alice, 300)
    (tmp_path / "elsewhere").mkdir()
    other = Pair(tmp_path / "elsewhere")
    other.pay(other.alice, 5)
    other.alice.take(other.stage.send(ALICE, "submit_transfers", transfers=other.alice.unsubmitted()))

    with pytest.raises(WrongBalance, match="another transfer at nonce 1"):
        pair.alice.take(other.stage.snapshot)


def test_a_server_that_was_restored_is_given_the_chain_again(pair: Pair) -> None:
    copy = pair.stage.copy()
    for amount in (1, 2, 3):
        pair.pay(pair.alice, amount)
    pair.bob.take(pair.stage.send(BOB, "submit_transfers", transfers=pair.bob.unsubmitted()))
    assert pair.bob.unsubmitted() == []

    pair.bob.take(copy.snapshot)

    assert len(pair.bob.unsubmitted()) == 3
    copy.send(BOB, "submit_transfers", transfers=pair.bob.unsubmitted())
    assert copy.channel.balance_b == 1_006


# With an agent.


async def both(town: Town, **options: Any) -> tuple[OfflineChannel, OfflineChannel]:
    return await town.offline(town.alice), await town.offline(town.bob, **options)


async def pay(payer: OfflineChannel, payee: OfflineChannel, *amounts: int) -> None:
    for amount in amounts:
        payer.complete(carried(await payee.countersign(carried(payer.pay(amount)))))


async def test_a_chain_is_handed_in_by_either_in_pieces(town: Town) -> None:
    alice, bob = await both(town)
    await pay(alice, bob, 1, 2, 3, 4, 5, 6, 7)
    town.alice.cuts = [("after", "submit_transfers")]

    assert await within(alice.submit()) == 7

    assert (town.stage.channel.balance_a, town.stage.channel.balance_b) == (972, 1_028)
    await within(bob.until(lambda: bob.submitted_nonce == 7))
    assert await within(bob.submit()) == 0
    assert (alice.unsubmitted, bob.unsubmitted, bob.nonce, bob.balance) == ([], [], 7, 1_028)


async def test_a_policy_may_refuse_to_countersign(town: Town) -> None:
    alice, bob = await both(town, acknowledge=AcknowledgeUpTo(50, total=60))
    await pay(alice, bob, 50)

    payment = alice.pay(20)
    with pytest.raises(CannotSign, match="more than is taken in all"):
        await bob.countersign(payment)

    assert (alice.unanswered, bob.nonce, alice.balance, alice.other_balance) == (payment, 1, 930, 1_050)


async def test_an_expected_payment_is_countersigned_once_and_another_one_is_not(town: Town) -> None:
    alice, bob = await both(town, acknowledge=AcknowledgeExpected(within_s=0.01))
    expected, next_one = bob.expect("0.000050", TASK_ID), bob.expect(50)
    payment = alice.pay(50, task_id=TASK_ID)
    transfer = await bob.countersign(payment)
    assert await bob.countersign(payment) == transfer
    alice.complete(transfer)

    with pytest.raises(CannotSign, match="it is not expected"):
        await bob.countersign(alice.pay(51, task_id=TASK_ID))

    assert (expected.nonce, next_one.nonce, bob.nonce, bob.balance) == (1, None, 1, 1_050)


async def test_what_cannot_be_handed_in_just_now_is_handed_in_later(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agrenting.client.kept_topic.PATIENCE_S", 0.0)
    alice, bob = await both(town)
    await pay(alice, bob, 100)
    await alice.stop()  # She would hand it in, too.
    busy_once(town, "submit_transfers", monkeypatch)

    town.send(ALICE, "force_close", {})
    await within(bob.until(lambda: bob.submitted_nonce == 1))

    assert bob.failure is None


async def test_a_close_hands_in_first_and_is_agreed_to(town: Town) -> None:
    alice, bob = await both(town)
    await pay(alice, bob, 100)

    end = await within(bob.close())

    assert (end.cause, end.own, end.other) == ("joint_close", 1_100, 900)
    assert (await within(alice.closed())).own == 900


async def test_who_is_force_closed_hands_in_what_would_be_lost(town: Town) -> None:
    alice, bob = await both(town)
    await pay(alice, bob, 100, 200)
    await within(alice.force_close())

    await within(bob.until(lambda: bob.submitted_nonce == 2))
    town.wait(86_401)

    assert (await within(bob.closed())).own == 1_300
    assert (await within(alice.closed())).cause == "force_close"


async def test_who_comes_back_while_the_channel_closes_hands_in_too(town: Town) -> None:
    alice, bob = await both(town)
    await pay(alice, bob, 100)
    await bob.stop()
    await within(alice.force_close())
    await alice.stop()

    again = await town.offline(town.bob)

    await within(again.until(lambda: again.submitted_nonce == 1))
    with pytest.raises(CannotSign, match="is closing"):
        again.pay(1)


async def test_evidence_settles_a_dispute_at_once(town: Town) -> None:
    alice, bob = await both(town)
    await pay(alice, bob, 100)

    await within(bob.dispute("It was more.", {"transfers": bob.unsubmitted}))

    assert (town.stage.channel.status, town.stage.channel.balance_b) == ("open", 1_100)
    assert bob.submitted_nonce == 1


async def test_a_restored_server_is_given_everything_again(town: Town) -> None:
    alice, bob = await both(town)
    copy = town.stage.copy()
    await pay(alice, bob, 100)
    await within(bob.submit())
    town.restore(copy)
    await within(bob.until(lambda: bob.submitted_nonce == 0))

    assert await within(bob.submit()) == 1

    assert town.stage.channel.balance_b == 1_100
    assert bob.failure is alice.failure is None


async def test_a_server_that_takes_transfers_and_forgets_them_at_once_is_a_lie(town: Town) -> None:
    alice, bob = await both(town)
    await pay(alice, bob, 100)
    before = town.stage.snapshot
    town.alice.lie = lambda told: {**told, **before}

    with pytest.raises(RolledBack):
        await within(alice.submit())


async def test_a_lost_journal_is_brought_what_was_handed_in(town: Town) -> None:
    alice, bob = await both(town)
    await pay(alice, bob, 1, 2, 3)
    await within(alice.submit())
    await alice.stop()
    for file in (town.alice.folder / "channels").iterdir():
        file.unlink()

    again = await town.offline(town.alice)

    assert (again.nonce, again.balance) == (3, 994)
    await pay(again, bob, 4)
    assert await within(bob.submit()) == 1


async def test_an_offline_channel_is_no_online_one(town: Town) -> None:
    channel = PaymentChannel(await town.context(town.alice), town.stage.channel.id)

    with pytest.raises(CannotSign, match="this one is offline"):
        await channel.start()


async def test_closes_are_left_alone_where_that_is_wanted(town: Town) -> None:
    alice, _bob = await both(town, closes=False)

    with pytest.raises(asyncio.TimeoutError):
        await within(alice.close(timeout_s=0.05))

    assert town.stage.channel.status == "open"
