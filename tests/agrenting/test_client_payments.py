"""The client's keeper of a payment channel: it signs what the market takes, once, and nothing for a server that lies.

The server is the marketplace's own rules on a stage; what a lying one tells is made from what an honest one tells.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agrenting.client import (
    AlreadySigned,
    BrokenRecord,
    CannotSign,
    ChannelKeeper,
    LyingServer,
    Signer,
    channel_after,
)
from channels.errors import Refusal
from channels.payment_state import Mode
from crypto import canonical_digest, close_message, parse_public_key, verify_signature
from tests import paying
from tests.channels.payment_stage import Stage
from tests.channels.roles import ALICE, BOB, CAROL, MARKET, OTHER_ID, Player, as_told, market_with

Json = dict[str, Any]
Acts = tuple[Callable[[], object], ...]
TASK_ID = "7a0b4c3e-1111-4222-8333-444455556666"
DOMAIN = MARKET.signing_domain
SIGNERS = {who.id: Signer(who.secret_key, DOMAIN) for who in (ALICE, BOB, CAROL)}


class Pair:
    """Alice and Bob, who keep one channel, and the server between them.

    Args:
        stage: The server.
        folder: Where each keeps its record.
    """

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage = stage
        self.folder = folder
        self.alice = self.keeper(ALICE)
        self.bob = self.keeper(BOB)
        for who, keeper in ((ALICE, self.alice), (BOB, self.bob)):
            keeper.take(self.join(who, keeper))

    def path(self, who: Player) -> Path:
        return self.folder / who.agent.name

    def keeper(self, who: Player) -> ChannelKeeper:
        """A program of an agent that starts, with the file that it has."""
        return ChannelKeeper(SIGNERS[who.id], agent_id=who.id, path=self.path(who))

    def join(self, who: Player, keeper: ChannelKeeper) -> Json:
        return self.stage.send(who, "join", known=keeper.known())

    def rejoined(self, who: Player) -> ChannelKeeper:
        """A program that has started anew, and has joined."""
        keeper = self.keeper(who)
        keeper.take(self.join(who, keeper))
        return keeper

    def tell(self) -> None:
        """Everybody hears what was told since the last time."""
        told, self.stage.told = self.stage.told, []
        for broadcast in told:
            for keeper in (self.alice, self.bob):
                keeper.hear(broadcast.event, as_told(broadcast.payload))

    def pay(self, payer: Player, amount: int, task_id: str | None = None) -> None:
        """One whole transfer, by the keepers of both."""
        paying_one, paid_one = (self.alice, self.bob) if payer is ALICE else (self.bob, self.alice)
        payee = BOB if payer is ALICE else ALICE
        paying_one.take(self.stage.send(payer, "propose_transfer", **paying_one.propose(amount, task_id)))
        proposed = self.stage.snapshot["pending_proposal"]
        paid_one.take(self.stage.send(payee, "acknowledge_transfer", **paid_one.acknowledge(proposed)))
        self.tell()


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """A channel into which Alice and Bob have put 1,000 each."""
    return Pair(Stage(), tmp_path)


@pytest.fixture
def paid(pair: Pair) -> Pair:
    """The same, after Alice has paid 100, Bob 30 and Alice 5: she has 925, and he has 1,075."""
    for payer, amount in ((ALICE, 100), (BOB, 30), (ALICE, 5)):
        pair.pay(payer, amount)
    return pair


def proposed(pair: Pair, amount: int = 10) -> Json:
    """What Bob is told of a transfer that Alice proposes."""
    pair.alice.take(pair.stage.send(ALICE, "propose_transfer", **pair.alice.propose(amount)))
    told: Json = as_told(pair.stage.told[-1].payload)
    return told


def replayed(folder: Path, pair: Pair, upto: int) -> Json:
    """The channel as a server restored from a copy would tell it: after so many of the transfers."""
    earlier = Pair(Stage(), folder)
    for payer, amount in ((ALICE, 100), (BOB, 30), (ALICE, 5))[:upto]:
        earlier.pay(payer, amount)
    assert earlier.stage.channel.id == pair.stage.channel.id
    return earlier.stage.snapshot


# What honest ones do.


def test_what_two_keepers_sign_the_marketplace_takes_from_the_opening_to_the_close(paid: Pair) -> None:
    asked = paid.bob.close_request()
    paid.bob.take(paid.stage.send(BOB, "close_request", **asked))
    request = as_told(paid.stage.told[-1].payload)
    paid.tell()
    paid.alice.take(paid.stage.send(ALICE, "close", **paid.alice.close(request)))

    channel = paid.stage.channel
    assert (channel.status, channel.cause, channel.last_nonce) == ("closed", "joint_close", 3)
    assert (channel.final_balance_a, channel.final_balance_b) == (925, 1_075)
    assert len(paid.stage.verify().checks) > 0


def test_the_opener_may_ask_for_a_close_with_finals_that_both_want(paid: Pair) -> None:
    paid.alice.take(paid.stage.send(ALICE, "close_request", **paid.alice.close_request((1_000, 1_000))))
    (request,) = paid.stage.snapshot["close_requests"]

    with pytest.raises(CannotSign, match="is offered for"):
        paid.bob.close(request)
    paid.stage.send(BOB, "close", **paid.bob.close(request, (1_000, 1_000)))

    assert paid.stage.channel.final_balance_b == 1_000


def test_who_only_listens_knows_what_a_fresh_join_would_tell(pair: Pair) -> None:
    known = {who.id: pair.stage.snapshot for who in (ALICE, BOB)}

    def told() -> None:
        for broadcast in pair.stage.told:
            for agent_id, channel in known.items():
                known[agent_id] = channel_after(channel, broadcast.event, as_told(broadcast.payload))
        pair.tell()
        assert known == {ALICE.id: pair.stage.snapshot, BOB.id: pair.stage.snapshot}

    proposed(pair)
    told()
    pair.stage.send(BOB, "reject_transfer", reason="no")
    told()
    pair.pay(BOB, 7)
    known = dict.fromkeys(known, pair.stage.snapshot)
    pair.stage.send(ALICE, "deposit", amount=50)
    told()
    pair.stage.send(ALICE, "close_request", **pair.alice.close_request())
    told()
    proposed(pair)
    pair.stage.wait(301)
    told()
    pair.stage.send(BOB, "dispute", reason="why?")
    told()
    pair.stage.send(BOB, "withdraw_dispute")
    told()
    pair.stage.send(ALICE, "force_close")
    told()
    pair.stage.wait(2 * 86_400)
    told()
    assert pair.bob.channel["status"] == "closed"


def test_what_was_told_before_the_latest_reply_is_passed_over(paid: Pair) -> None:
    old = [(told.event, as_told(told.payload)) for told in paid.stage.told]
    before = paid.alice.channel
    request = {"agent_id": BOB.id, "nonce": 2, "final_balance_a": 0, "final_balance_b": 0, "signature": ""}
    stale = {**before["last_transfer"], "channel_id": before["channel_id"]}

    for event, payload in (
        *old,
        ("transfer_complete", stale),
        ("propose_transfer", stale),
        ("transfer_voided", stale),
        ("close_request", request),
        ("channel_updated", {"channel": {**before, "last_nonce": 2}}),
        ("presence_diff", {}),
    ):
        paid.alice.hear(event, payload)

    assert paid.alice.channel == before


def test_a_transfer_may_name_a_task_and_a_memo(pair: Pair) -> None:
    payload = pair.alice.propose(10, TASK_ID, "for the second page")

    assert (payload["task_id"], payload["memo"]) == (TASK_ID, "for the second page")
    signature = paying.transfer_signature(
        pair.stage.snapshot, ALICE.secret_key, from_agent_id=ALICE.id, amount=10, task_id=TASK_ID
    )
    assert payload["signature"] == signature


def test_a_repeated_proposal_and_acknowledgement_are_the_very_same(pair: Pair) -> None:
    payload = pair.alice.propose(10)
    told = proposed(pair)
    acknowledged = pair.bob.acknowledge(told)

    assert pair.alice.propose(10) == payload
    assert pair.bob.acknowledge(told) == acknowledged
    pair.bob.take(pair.stage.send(BOB, "acknowledge_transfer", **acknowledged))
    assert pair.bob.acknowledge(told) == acknowledged
    again = pair.stage.send(BOB, "acknowledge_transfer", **pair.bob.acknowledge(told))
    assert again["duplicate"] is True
    pair.bob.take(again)
    assert "duplicate" not in pair.bob.channel


# What it does not sign, though nobody lies.


def test_a_second_transfer_is_never_signed_with_a_nonce(pair: Pair) -> None:
    pair.alice.propose(10)

    others: Acts = (lambda: pair.alice.propose(11), lambda: pair.alice.propose(10, TASK_ID))
    for other in others:
        with pytest.raises(AlreadySigned, match="nonce 1") as caught:
            other()
        assert caught.value.nonce == 1


def test_of_two_that_propose_at_once_the_second_rejects_and_goes_on(pair: Pair) -> None:
    pair.bob.propose(20)
    told = proposed(pair)
    pair.tell()

    with pytest.raises(AlreadySigned):
        pair.bob.acknowledge(told)
    pair.bob.take(pair.stage.send(BOB, "reject_transfer", reason="at once", nonce=1))
    pair.tell()

    assert pair.bob.propose(20)["nonce"] == 2


def test_a_second_close_is_not_signed_until_the_nonce_has_moved(paid: Pair) -> None:
    first = paid.alice.close_request()

    assert paid.alice.close_request() == first
    with pytest.raises(AlreadySigned, match="nonce 3"):
        paid.alice.close_request((2_000, 0))
    paid.pay(BOB, 1)
    assert paid.alice.close_request((2_000, 0))["final_balance_a"] == 2_000


def test_nothing_is_signed_before_the_channel_was_taken(pair: Pair) -> None:
    keeper = pair.keeper(ALICE)

    acts: Acts = (lambda: keeper.propose(1), keeper.close_request, lambda: keeper.hear("transfer_complete", {}))
    for act in acts:
        with pytest.raises(CannotSign, match="join the channel first"):
            act()
    assert not keeper.is_whole


def test_nothing_is_signed_in_a_channel_that_is_not_open(tmp_path: Path) -> None:
    pair = Pair(Stage(counter_deposit=None), tmp_path)

    acts: Acts = (lambda: pair.alice.propose(1), pair.alice.close_request)
    for act in acts:
        with pytest.raises(CannotSign, match="pending"):
            act()


def test_an_offline_channel_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(CannotSign, match="offline"):
        Pair(Stage(mode=Mode.OFFLINE), tmp_path)


def test_no_more_is_paid_than_there_is(pair: Pair) -> None:
    with pytest.raises(CannotSign, match="has 1000"):
        pair.alice.propose(1_001)
    for amount in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            pair.alice.propose(amount)


def test_nothing_else_is_signed_while_a_transfer_is_proposed(pair: Pair) -> None:
    told = proposed(pair)
    pair.tell()

    acts: Acts = (lambda: pair.bob.propose(5), pair.bob.close_request, lambda: pair.alice.propose(9))
    for act in acts:
        with pytest.raises(CannotSign, match="a transfer is proposed"):
            act()
    with pytest.raises(CannotSign, match="who pays"):
        pair.alice.acknowledge(told)


@pytest.mark.parametrize("finals", [(1_000, 999), (-1, 2_001)])
def test_finals_that_are_none_are_the_callers_mistake(pair: Pair, finals: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="sum to 2000"):
        pair.alice.close_request(finals)


def test_an_offer_to_close_that_is_the_agents_own_or_late_is_not_answered(paid: Pair) -> None:
    paid.alice.take(paid.stage.send(ALICE, "close_request", **paid.alice.close_request()))
    (own,) = paid.stage.snapshot["close_requests"]

    with pytest.raises(CannotSign, match="not offered by the other"):
        paid.alice.close(own)
    paid.tell()
    paid.pay(ALICE, 1)
    with pytest.raises(CannotSign, match="offered at nonce 3, and 4"):
        paid.bob.close(own)


# A server that lies.


LIES: dict[str, Json] = {
    "another channel": {"channel_id": OTHER_ID},
    "swapped keys": {"public_key_a": SIGNERS[BOB.id].public_key, "public_key_b": SIGNERS[ALICE.id].public_key},
    "another key of the other": {"public_key_b": SIGNERS[CAROL.id].public_key},
    "another party": {"agent_b_id": CAROL.id},
    "swapped parties": {"agent_a_id": BOB.id, "agent_b_id": ALICE.id},
    "another deployment": {"signing_domain": "another.test"},
    "altered balances": {"balance_a": 825, "balance_b": 1_175},
    "altered balances, deposited": {"balance_a": 926, "deposit_a": 1_001},
    "more money than there is": {"balance_b": 2_075},
    "a deposit that both signed otherwise": {"deposit_a": 1_001, "deposit_b": 999},
    "a nonce that was used": {"last_nonce": 2, "next_nonce": 3},
    "a next nonce that was used": {"next_nonce": 3},
    "no transfer at all": {"last_transfer": None, "deposited_since_a": 925, "deposited_since_b": 1_075},
    "a loss that nobody signed": {"state_lost": {"nonce": 9}},
    "finals that are not the balances": {
        "status": "closed",
        "cause": "force_close",
        "final_balance_a": 0,
        "final_balance_b": 2_000,
    },
    "finals that do not sum": {
        "status": "closed",
        "cause": "operator",
        "final_balance_a": 0,
        "final_balance_b": 1_999,
    },
    "a close that nobody signed": {
        "status": "closed",
        "cause": "joint_close",
        "final_balance_a": 0,
        "final_balance_b": 2_000,
    },
    "money that is no integer": {"balance_a": 925.0},
    "a name that would be two lines": {"channel_id": "one\ntwo"},
    "no nonce": {"last_nonce": None},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_nothing_is_taken_from_a_server_that_tells_something_else(paid: Pair, lie: Json) -> None:
    before = paid.path(ALICE).read_bytes(), paid.alice.channel

    with pytest.raises(LyingServer):
        paid.alice.take({**paid.stage.snapshot, **lie})

    assert (paid.path(ALICE).read_bytes(), paid.alice.channel) == before
    assert paid.alice.propose(1)["nonce"] == 4


FIRST_LIES: dict[str, Json] = {
    "a key that is none": {"public_key_b": "none"},
    "a channel that is two lines": {"channel_id": "one\ntwo"},
    "keys that are swapped": LIES["swapped keys"],
    "a party that is not this one": {"agent_a_id": CAROL.id},
    "a channel with oneself": {"agent_b_id": ALICE.id, "public_key_b": SIGNERS[ALICE.id].public_key},
    "another deployment": {"signing_domain": "another.test"},
}


@pytest.mark.parametrize("lie", FIRST_LIES.values(), ids=FIRST_LIES.keys())
def test_a_lie_at_the_opening_is_noticed_as_well(paid: Pair, tmp_path: Path, lie: Json) -> None:
    keeper = ChannelKeeper(SIGNERS[ALICE.id], agent_id=ALICE.id, path=tmp_path / "fresh")

    with pytest.raises(LyingServer):
        keeper.take({**paid.stage.snapshot, **lie})

    assert not (tmp_path / "fresh").exists()


TRANSFER_LIES: dict[str, Json] = {
    "another nonce": {"nonce": 4},
    "another amount": {"amount": 4},
    "no amount": {"amount": 0},
    "another payer": {"from_agent_id": BOB.id},
    "a payer who is no party": {"from_agent_id": CAROL.id},
    "other balances": {"balance_a": 924, "balance_b": 1_076},
    "a task": {"task_id": TASK_ID},
    "no signature of the opener": {"signature_a": "A" * 86 + "=="},
    "no signature of the counterparty": {"signature_b": "A" * 86 + "=="},
}


@pytest.mark.parametrize("lie", TRANSFER_LIES.values(), ids=TRANSFER_LIES.keys())
def test_a_last_transfer_that_was_not_signed_so_is_noticed(paid: Pair, lie: Json) -> None:
    snapshot = paid.stage.snapshot
    balances: Json = {name: lie[name] for name in ("balance_a", "balance_b") if name in lie}

    for keeper in (paid.alice, paid.bob):
        with pytest.raises(LyingServer):
            keeper.take({**snapshot, **balances, "last_transfer": {**snapshot["last_transfer"], **lie}})


@pytest.mark.parametrize("upto", [0, 1, 2])
def test_a_server_that_has_gone_back_is_not_followed(paid: Pair, tmp_path: Path, upto: int) -> None:
    (tmp_path / "earlier").mkdir()
    earlier = replayed(tmp_path / "earlier", paid, upto)

    for keeper in (paid.alice, paid.bob):
        for claimed in (earlier, {**earlier, "last_nonce": 3, "next_nonce": 4}, {**earlier, "last_nonce": 9}):
            with pytest.raises(LyingServer):
                keeper.take({**claimed, "next_nonce": claimed["last_nonce"] + 1})
        assert keeper.propose(1)["nonce"] == 4


def test_a_deposit_that_is_gone_again_is_noticed(paid: Pair) -> None:
    before = paid.stage.snapshot
    paid.stage.send(ALICE, "deposit", amount=50)
    paid.tell()

    with pytest.raises(LyingServer, match="lost deposits"):
        paid.bob.take(before)


PROPOSAL_LIES: dict[str, Json] = {
    "other balances": {"balance_a": 905, "balance_b": 1_095},
    "balances that do not follow": {"balance_a": 916, "balance_b": 1_084},
    "another amount": {"amount": 11},
    "a nonce that was used": {"nonce": 3},
    "a nonce that is not the next": {"nonce": 5},
    "a payer who is no party": {"from_agent_id": CAROL.id},
    "another task": {"task_id": TASK_ID},
    "another signature": {"signature": "A" * 86 + "=="},
    "no signature": {"signature": None},
}


@pytest.mark.parametrize("lie", PROPOSAL_LIES.values(), ids=PROPOSAL_LIES.keys())
def test_a_proposal_that_was_not_made_is_not_acknowledged(paid: Pair, lie: Json) -> None:
    told = proposed(paid)

    with pytest.raises(LyingServer):
        paid.bob.acknowledge({**told, **lie})
    with pytest.raises(LyingServer):
        paid.bob.take({**paid.stage.snapshot, "pending_proposal": {**told, **lie}})

    assert paid.bob.acknowledge(told)["nonce"] == 4


def test_a_nonce_that_was_used_is_not_signed_for_a_transfer_that_its_payer_has_signed_anew(paid: Pair) -> None:
    now = paid.stage.snapshot
    terms: Json = {"from_agent_id": ALICE.id, "amount": 500}
    for nonce in (1, 3):
        balance_a, balance_b = paying.after(now, **terms)
        signature = paying.transfer_signature(now, ALICE.secret_key, **terms, nonce=nonce)
        made = {**terms, "nonce": nonce, "balance_a": balance_a, "balance_b": balance_b, "task_id": None}

        with pytest.raises(LyingServer, match=f"nonce {nonce} is proposed, but 4 is next"):
            paid.bob.acknowledge({**made, "signature": signature})


def test_an_offer_to_close_that_was_not_signed_is_not_answered(paid: Pair) -> None:
    forged = {
        "agent_id": BOB.id,
        "nonce": 3,
        "final_balance_a": 925,
        "final_balance_b": 1_075,
        "signature": paying.close_signature(paid.stage.snapshot, CAROL.secret_key, (925, 1_075)),
    }

    with pytest.raises(LyingServer, match="has not signed"):
        paid.alice.close(forged)


@pytest.mark.parametrize("payload", [{}, {"nonce": "four"}, {"channel": None}])
def test_an_event_that_cannot_be_is_not_taken(paid: Pair, payload: Json) -> None:
    with pytest.raises(LyingServer):
        paid.alice.hear("transfer_complete", payload)


# Crashes, backups, and what was lost.


def test_what_was_signed_before_a_crash_is_the_only_thing_that_is_signed_with_its_nonce_after_it(paid: Pair) -> None:
    written = paid.alice.propose(10)  # It crashes before it sends this.
    alice = paid.rejoined(ALICE)

    with pytest.raises(AlreadySigned):
        alice.propose(11)
    assert alice.propose(10) == written
    alice.take(paid.stage.send(ALICE, "propose_transfer", **written))
    alice.take(paid.stage.send(ALICE, "reject_transfer", reason="it is late", nonce=4))
    assert alice.propose(11)["nonce"] == 5


def test_a_signature_is_on_disk_before_it_is_given_away(paid: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_descriptor: int) -> None:
        raise OSError("no space left")

    before = paid.path(ALICE).read_bytes()
    monkeypatch.setattr(os, "fsync", fails)
    signing: Acts = (lambda: paid.alice.propose(10), paid.alice.close_request)
    for sign in signing:
        with pytest.raises(OSError, match="no space left"):
            sign()
    monkeypatch.undo()

    assert paid.path(ALICE).read_bytes() == before
    assert paid.rejoined(ALICE).propose(11)["nonce"] == 4


def test_a_crash_while_the_file_is_written_leaves_the_old_one(paid: Pair) -> None:
    paid.path(ALICE).with_name("alice.new").write_bytes(b'{"checksum": "half of')

    assert paid.rejoined(ALICE).propose(1)["nonce"] == 4


def test_an_agent_with_an_old_backup_is_brought_what_it_lacks_and_goes_on_at_the_next_nonce(paid: Pair) -> None:
    backup = paid.path(ALICE).read_bytes()
    paid.pay(ALICE, 40)
    paid.stage.send(BOB, "propose_transfer", **paid.bob.propose(1))
    paid.bob.take(paid.stage.send(BOB, "reject_transfer", reason="mine", nonce=5))
    paid.tell()
    paid.stage.send(BOB, "deposit", amount=500)
    paid.tell()
    paid.pay(BOB, 70)
    paid.path(ALICE).write_bytes(backup)

    alice = paid.keeper(ALICE)
    assert alice.known()["nonce"] == 3
    joined = paid.join(ALICE, alice)
    assert [state["nonce"] for state in joined["missing_transfers"]] == [4, 6]
    alice.take(joined)

    assert (alice.channel["balance_a"], alice.known()["nonce"]) == (955, 6)
    assert "missing_transfers" not in alice.channel
    assert alice.propose(1)["nonce"] == 7


def test_an_agent_that_has_lost_its_file_signs_nothing_else_with_the_nonce_that_it_has_proposed_at(paid: Pair) -> None:
    payload = paid.alice.propose(10)
    paid.stage.send(ALICE, "propose_transfer", **payload)
    paid.path(ALICE).unlink()

    alice = paid.rejoined(ALICE)

    assert alice.propose(10) == payload
    alice.take({**paid.stage.snapshot, "pending_proposal": None})  # A lie.
    with pytest.raises(AlreadySigned):
        alice.propose(11)


def test_an_agent_that_has_lost_its_file_signs_no_other_close_than_it_has_offered(paid: Pair) -> None:
    paid.stage.send(ALICE, "close_request", **paid.alice.close_request((900, 1_100)))
    paid.path(ALICE).unlink()
    alice = paid.rejoined(ALICE)

    with pytest.raises(AlreadySigned):
        alice.close_request()
    (offer,) = paid.stage.snapshot["close_requests"]
    with pytest.raises(LyingServer):
        paid.rejoined(BOB).take({**paid.stage.snapshot, "close_requests": [{**offer, "agent_id": BOB.id}]})


MISSING_LIES: dict[str, Callable[[list[Json]], list[Json]]] = {
    "one is left out": lambda states: [states[0], states[2]],
    "the last one is left out": lambda states: states[:2],
    "none is told": lambda _: [],
    "two are swapped": lambda states: [states[1], states[0], states[2]],
    "one is told twice": lambda states: [states[0], *states],
    "one names a task that would be two lines": lambda states: [{**states[0], "task_id": "one\ntwo"}, *states[1:]],
    "one has another amount": lambda states: [{**states[0], "amount": 99}, *states[1:]],
    "one has another signature": lambda states: [{**states[0], "signature_a": states[1]["signature_a"]}, *states[1:]],
}


@pytest.mark.parametrize("lie", MISSING_LIES.values(), ids=MISSING_LIES.keys())
def test_missing_states_have_to_be_all_of_them_and_to_follow(
    paid: Pair, lie: Callable[[list[Json]], list[Json]]
) -> None:
    paid.path(ALICE).unlink()
    alice = paid.keeper(ALICE)
    joined = paid.join(ALICE, alice)

    with pytest.raises(LyingServer):
        alice.take({**joined, "missing_transfers": lie(joined["missing_transfers"])})
    alice.take(joined)


def test_deposits_that_the_signed_states_deny_are_noticed(paid: Pair) -> None:
    paid.path(ALICE).unlink()
    alice = paid.keeper(ALICE)
    joined = paid.join(ALICE, alice)

    with pytest.raises(LyingServer, match="deposits are not what"):
        alice.take({**joined, "deposit_a": 1_001, "deposit_b": 999})


def test_more_missing_states_than_one_join_brings_are_brought_by_several(tmp_path: Path) -> None:
    pair = Pair(Stage(market=market_with(missing_transfers_max=2)), tmp_path)
    for amount in range(1, 6):
        pair.pay(ALICE, amount)
    pair.path(ALICE).unlink()
    alice, joins = pair.keeper(ALICE), 0

    while not alice.is_whole:
        alice.take(pair.join(ALICE, alice))
        joins += 1
        if not alice.is_whole:
            acts: Acts = (lambda: alice.propose(1), alice.close_request)
            for act in acts:
                with pytest.raises(CannotSign, match="join again"):
                    act()

    assert joins == 3
    assert alice.propose(1)["nonce"] == 6


def test_who_does_not_say_what_it_knows_is_asked_to(paid: Pair) -> None:
    backup = paid.path(ALICE).read_bytes()
    paid.pay(ALICE, 40)
    paid.pay(BOB, 10)
    paid.path(ALICE).write_bytes(backup)
    alice = paid.keeper(ALICE)

    with pytest.raises(CannotSign, match=r"join with known\(\)"):
        alice.take(paid.stage.send(ALICE, "join"))
    alice.take(paid.join(ALICE, alice))


# A server that was restored from an older copy.


@pytest.fixture
def frozen(paid: Pair, tmp_path: Path) -> Pair:
    """The server has lost the second and the third transfer, and Alice has told it so."""
    (tmp_path / "earlier").mkdir()
    earlier = Pair(Stage(), tmp_path / "earlier")
    earlier.pay(ALICE, 100)
    paid.stage = earlier.stage
    paid.alice.take(paid.join(ALICE, paid.alice))
    paid.bob.take(paid.join(BOB, paid.bob))
    return paid


def test_a_server_that_admits_a_loss_gets_nothing_signed_but_a_close(frozen: Pair) -> None:
    assert frozen.alice.channel["state_lost"]["nonce"] == 3
    acts: Acts = (
        lambda: frozen.alice.propose(1),
        lambda: frozen.bob.acknowledge(frozen.alice.channel["last_transfer"]),
    )
    for act in acts:
        with pytest.raises(CannotSign, match="lost states"):
            act()
    with pytest.raises(CannotSign, match="name the finals"):
        frozen.alice.close_request()

    frozen.stage.send(ALICE, "close_request", **frozen.alice.close_request((925, 1_075)))
    (request,) = frozen.stage.snapshot["close_requests"]
    frozen.bob.take(frozen.stage.send(BOB, "close", **frozen.bob.close(request, (925, 1_075))))

    assert frozen.stage.channel.final_balance_b == 1_075
    assert (frozen.bob.channel["status"], frozen.bob.known()["nonce"]) == ("closed", 3)


def test_after_a_loss_no_used_nonce_is_signed_again_though_the_server_denies_it(frozen: Pair) -> None:
    denied = {**frozen.stage.snapshot, "state_lost": None}

    for keeper in (frozen.alice, frozen.bob):
        with pytest.raises(LyingServer, match="the last transfer is not the one at nonce 3"):
            keeper.take(denied)


def test_a_loss_that_was_not_signed_by_both_is_a_lie(frozen: Pair) -> None:
    snapshot = frozen.stage.snapshot
    for lie in ({"amount": 6}, {"signature_b": snapshot["state_lost"]["signature_a"]}, {"task_id": "one\ntwo"}):
        with pytest.raises(LyingServer):
            frozen.alice.take({**snapshot, "state_lost": {**snapshot["state_lost"], **lie}})


# The file.


def spoilt(path: Path, change: Callable[[Json], object]) -> None:
    fields = json.loads(path.read_bytes())
    change(fields)
    path.write_text(json.dumps(fields), "utf-8")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "no text": lambda path: path.write_bytes(b"\xff\x00"),
    "something else": lambda path: path.write_text("[]", "utf-8"),
    "a lower nonce": lambda path: spoilt(path, lambda fields: fields["record"].update(last_nonce=2)),
    "a forgotten signature": lambda path: spoilt(path, lambda fields: fields["record"].update(signed=None)),
    "a nonce below zero": lambda path: spoilt(path, lambda fields: fields["record"].update(last_nonce=-1)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_is_a_clear_error(paid: Pair, damage: Callable[[Path], object]) -> None:
    damage(paid.path(ALICE))

    with pytest.raises(BrokenRecord, match=str(paid.path(ALICE))):
        paid.keeper(ALICE)


def test_the_file_is_for_one_agent_with_one_key(paid: Pair) -> None:
    for signer, agent_id in ((SIGNERS[BOB.id], BOB.id), (SIGNERS[CAROL.id], ALICE.id)):
        with pytest.raises(BrokenRecord, match="is the record of"):
            ChannelKeeper(signer, agent_id=agent_id, path=paid.path(ALICE))


def test_two_programs_cannot_sign_with_one_file(paid: Pair) -> None:
    second = paid.rejoined(ALICE)
    second.propose(10)

    with pytest.raises(BrokenRecord, match="somebody else"):
        paid.alice.propose(11)


def test_no_secret_stands_in_the_file_nor_in_what_is_shown(paid: Pair) -> None:
    paid.alice.propose(10)
    shown = repr(paid.alice) + str(paid.alice) + paid.path(ALICE).read_text("utf-8")

    assert f"{ALICE.id} in {paid.stage.channel.id} at nonce 3" in repr(paid.alice)
    assert "no channel yet" in repr(ChannelKeeper(SIGNERS[BOB.id], agent_id=BOB.id, path=paid.folder / "none"))
    for secret in (ALICE.secret_key.hex(), msgspec.json.encode(ALICE.secret_key).decode().strip('"')):
        assert secret not in shown
    assert (paid.path(ALICE).stat().st_mode & 0o777) == 0o600


def test_a_signer_signs_bytes_that_its_key_verifies() -> None:
    signer = SIGNERS[ALICE.id]
    message = close_message(signing_domain=DOMAIN, channel_id="c-1", nonce=0, final_balance_a=0, final_balance_b=1)

    verify_signature(
        public_key=parse_public_key(signer.public_key), message=message, signature=signer.signature(message)
    )


def test_what_the_server_refuses_is_refused_whatever_the_keeper_has_signed(pair: Pair) -> None:
    payload = pair.alice.propose(10)
    pair.stage.send(ALICE, "deposit", amount=1)

    with pytest.raises(Refusal, match="sign those of now"):
        pair.stage.send(ALICE, "propose_transfer", **payload)
    with pytest.raises(AlreadySigned):
        pair.alice.propose(11)


def test_the_same_payment_is_signed_anew_over_balances_that_a_deposit_has_raised_and_no_other_one(pair: Pair) -> None:
    payload = pair.alice.propose(10, memo="a page")
    pair.stage.send(BOB, "deposit", amount=1)
    pair.tell()

    with pytest.raises(AlreadySigned):
        pair.alice.propose(11)
    with pytest.raises(AlreadySigned):
        pair.alice.propose(10, TASK_ID)
    raised = pair.alice.propose(10, memo="a page")
    pair.alice.take(pair.stage.send(ALICE, "propose_transfer", **raised))

    assert (raised["nonce"], raised["amount"]) == (payload["nonce"], payload["amount"])
    assert pair.alice.record.payment is not None
    assert (pair.alice.record.payment.memo, pair.alice.record.payment.is_paid) == ("a page", None)


def test_what_has_become_of_the_own_payment_stays_known_after_restarts(pair: Pair) -> None:
    pair.pay(ALICE, 10)
    pair.pay(BOB, 5)
    assert pair.rejoined(ALICE).record.payment == pair.alice.record.payment
    assert pair.alice.record.payment is not None
    assert (pair.alice.record.payment.transfer.amount, pair.alice.record.payment.is_paid) == (10, True)

    proposed(pair, 7)
    pair.stage.send(BOB, "reject_transfer", reason="no")
    again = pair.rejoined(ALICE)

    assert again.record.payment is not None
    assert (again.record.payment.transfer.amount, again.record.payment.is_paid) == (7, False)


def test_a_payment_that_a_lost_record_does_not_know_is_found_where_it_waits(pair: Pair) -> None:
    proposed(pair, 7)
    pair.path(ALICE).unlink()

    again = pair.rejoined(ALICE)

    assert again.record.payment is not None
    assert (again.record.payment.transfer.amount, again.record.payment.is_paid) == (7, None)


def test_a_payment_that_was_never_sent_is_void_once_the_channel_has_ended(pair: Pair) -> None:
    pair.alice.propose(10)
    pair.bob.take(pair.stage.send(BOB, "close_request", **pair.bob.close_request()))
    request = as_told(pair.stage.told[-1].payload)
    pair.stage.send(ALICE, "close", **pair.alice.close(request))
    pair.tell()

    assert pair.alice.record.payment is not None
    assert pair.alice.record.payment.is_paid is False


def test_a_record_of_an_earlier_version_is_read(paid: Pair) -> None:
    file = json.loads(paid.path(ALICE).read_bytes())
    del file["record"]["payment"]
    file["checksum"] = canonical_digest(file["record"])
    paid.path(ALICE).write_text(json.dumps(file))

    assert paid.rejoined(ALICE).record.payment is None
