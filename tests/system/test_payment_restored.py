"""A server that was restored from an older copy, and clients that were: nothing is rolled back, nobody is fooled."""

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from crypto import parse_public_key, transfer_message, verify_signature
from tests import paying
from tests.system.harness import AgentAccount, Client, MarketProcess, Refused
from tests.system.payers import PURSE, Payers, Snapshot, topic_of

SHORT_WINDOWS = {"AGRENTING_LIMITS_WINDOW_MIN_S": "1", "AGRENTING_TIMER_POLL_S": "0.1"}
DAY_S = 86_400
Server = MarketProcess


class Town:
    """Alice, Bob and a server that loses its memory.

    Args:
        folder: Where data folders and backups go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Server(folder / "var", **SHORT_WINDOWS).start()
        assert self.server.operator_key is not None
        self.operator_key = self.server.operator_key
        self.pair = Payers(self.server)
        self.copy = folder / "copy.sqlite3"

    def back_up(self) -> None:
        """Keep a copy of what the server knows now."""
        self.server.here("backup", str(self.copy))

    def lose_memory(self) -> None:
        """End the server, and go on with one that knows what the copy does."""
        assert self.server.stop() == 0
        before, self.server = self.server, Server(self.folder / "restored", **SHORT_WINDOWS)
        self.server.here("restore", str(self.copy))
        shutil.copy(before.data_dir / "server.key", self.server.data_dir)
        self.server.start()
        self.pair.market, self.pair.nodes = self.server, (self.server,)

    @asynccontextmanager
    async def at_doors(self) -> AsyncIterator[Payers]:
        """Alice and Bob, with connections to the server as it is now; its books are in order when they leave."""
        async with self.pair as pair:
            yield pair
        found = self.server.here("doctor")
        assert found["ok"], found

    def end(self) -> list[dict[str, Any]]:
        """End the server; what it has logged."""
        assert self.server.stop() == 0
        return [json.loads(line) for line in self.server.log]


@pytest.fixture
def town(tmp_path: Path) -> Any:
    made = Town(tmp_path)
    yield made
    if made.server.process is not None:
        assert made.server.stop() == 0


async def pay(pair: Payers, channel: Snapshot, payer: AgentAccount, *amounts: int) -> Snapshot:
    """Transfers that are proposed and acknowledged; the channel after them."""
    now = await pair.see(channel)
    payee = pair.bob if payer is pair.alice else pair.alice
    for amount in amounts:
        now = await pair.post(payer, channel, "propose_transfer", pair.proposal(now, payer, amount))
        now = await pair.post(payee, channel, "acknowledge_transfer", pair.answer(now, payee))
    return dict(now)


async def void(pair: Payers, channel: Snapshot, payer: AgentAccount, amount: int) -> dict[str, Any]:
    """A transfer that is proposed and withdrawn; what was proposed."""
    now = await pair.post(payer, channel, "propose_transfer", pair.proposal(await pair.see(channel), payer, amount))
    await pair.post(payer, channel, "reject_transfer", {"reason": ""})
    return dict(now["pending_proposal"])


def countersigned(channel: Snapshot, proposed: Snapshot, payee: AgentAccount) -> Snapshot:
    """A proposal of A's as if it had been acknowledged: B has put its own signature under it."""
    answer = paying.acknowledgement(channel, payee.seed, proposed)
    return {**proposed, "signature_a": proposed["signature"], "signature_b": answer["signature"]}


async def reasons(*acts: Any) -> list[str]:
    """Why each of them was refused; `ok` for what was not."""
    said = []
    for act in acts:
        try:
            await act
            said.append("ok")
        except Refused as refused:
            said.append(refused.reason)
    return said


def verify(town: Town, name: str, content: bytes, channel: Snapshot) -> None:
    """A receipt or a history is good, and names the keys that are known."""
    file = town.folder / name
    file.write_bytes(content)
    keys = ("--opener-key", channel["public_key_a"], "--counterparty-key", channel["public_key_b"])
    checked = town.server.here("verify", str(file), *keys)
    assert checked["ok"], checked


def verify_papers(town: Town, channel: Snapshot) -> None:
    """The receipt of a closed channel and its whole history are good."""
    with town.server.rest(town.pair.bob.api_key) as rest:
        path = f"/api/v1/payment-channels/{channel['id']}"
        verify(town, "receipt.json", rest.get(f"{path}/receipt").content, channel)
        history = rest.get(f"{path}/history", headers={"accept": "application/jsonl"})
        verify(town, "history.jsonl", history.content, channel)


# A server that is behind its clients.


async def test_a_server_that_lost_a_state_freezes_the_channel_and_a_joint_close_settles_it(town: Town) -> None:
    async with town.at_doors() as pair:
        channel = await pair.open_channel()
        await pay(pair, channel, pair.alice, 100, 200)
        town.back_up()
        agreed = await pay(pair, channel, pair.alice, 1_000, 2_000)
    town.lose_memory()

    async with town.at_doors() as pair:
        topic = topic_of(channel)
        alice, bob = await pair.socket(pair.alice, topic), await pair.socket(pair.bob)
        found = await bob.join(topic, {"known": agreed["last_transfer"]})
        told = await alice.expect("state_lost", topic)
        now = await pair.see(channel)
        refused = await reasons(
            pair.post(pair.alice, now, "propose_transfer", pair.proposal(now, pair.alice, 1)),
            pair.post(pair.bob, now, "acknowledge_transfer", {"amount": 1, "nonce": 5, "signature": "A" * 86 + "=="}),
            pair.post(pair.bob, now, "reject_transfer", {"reason": ""}),
            pair.post(pair.alice, now, "deposit", {"amount": 1}),
            pair.post(pair.bob, now, "dispute", {"reason": "Mine.", "evidence": None}),
            pair.post(pair.alice, now, "force-close"),
            pair.post(pair.alice, now, "close", pair.closing(now, (0, 20_001))),
        )
        again = await alice.join(topic, {"known": agreed["last_transfer"]})
        closed = await pair.post(pair.alice, now, "close", pair.closing(now, (6_700, 13_300)))
        purses = await pair.purses()

    assert (found["state_lost"]["nonce"], found["state_lost"]["reported_by"]) == (4, pair.bob.id)
    assert {name: found["state_lost"][name] for name in ("signature_a", "signature_b", "balance_a", "balance_b")} == {
        name: agreed["last_transfer"][name] for name in ("signature_a", "signature_b", "balance_a", "balance_b")
    }
    assert (told["known_nonce"], told["channel"]["state_lost"]["nonce"]) == (4, 4)
    assert (found["status"], found["balance_a"], found["balance_b"]) == ("open", 9_700, 10_300)
    assert again["state_lost"] == found["state_lost"]
    assert refused == ["state_lost"] * 6 + ["sum_mismatch"]
    assert (closed["status"], closed["cause"]) == ("closed", "joint_close")
    assert purses == (PURSE - 3_300, PURSE + 3_300)
    verify_papers(town, channel)
    (line,) = [line for line in town.end() if line["level"] == "critical"]
    assert (line["event"], line["channel"], line["known_nonce"]) == ("channel_state_lost", channel["id"], 4)


async def test_an_operator_finds_what_is_frozen_and_decides_it(town: Town) -> None:
    async with town.at_doors() as pair:
        channel, other = await pair.open_channel(), await pair.open_channel()
        town.back_up()
        agreed = await pay(pair, channel, pair.bob, 4_000)
    town.lose_memory()

    async with town.at_doors() as pair:
        alice = await pair.socket(pair.alice)
        await alice.join(topic_of(channel), {"known": agreed["last_transfer"]})
        with town.server.rest(town.operator_key) as operator:
            path = f"/api/v1/admin/payment-channels/{channel['id']}"
            waiting = operator.get("/api/v1/admin/payment-channels").json()["data"]
            wrong = operator.post(f"{path}/decide", json={**finals(14_000, 6_001), "reason": "As both signed."})
            not_his = operator.post(
                f"/api/v1/admin/payment-channels/{other['id']}/decide", json={**finals(1, 19_999), "reason": "So."}
            )
            decided = operator.post(f"{path}/decide", json={**finals(14_000, 6_000), "reason": "As both signed."})
        told = await alice.expect("channel_closed")
        purses = await pair.purses()

    assert [(one["id"], one["state_lost"]["nonce"]) for one in waiting] == [(channel["id"], 1)]
    assert wrong.json()["error"]["code"] == "sum_mismatch"
    assert not_his.json()["error"]["code"] == "not_disputed"
    assert decided.json()["data"]["cause"] == told["cause"] == "operator"
    assert purses == (PURSE + 4_000, PURSE - 4_000)
    verify_papers(town, channel)


def finals(final_balance_a: int, final_balance_b: int) -> dict[str, int]:
    return {"final_balance_a": final_balance_a, "final_balance_b": final_balance_b}


async def test_a_force_close_by_forgotten_balances_does_not_pay_once_the_channel_is_frozen(town: Town) -> None:
    """Mallory is Alice: she has paid, the server has forgotten it, and she asks for her money."""
    async with town.at_doors() as pair:
        channel = await pair.open_channel(window_s=4)
        other = await pair.open_channel(window_s=5)
        town.back_up()
        agreed = await pay(pair, channel, pair.alice, 10_000)
    town.lose_memory()

    async with town.at_doors() as pair:
        bob = await pair.socket(pair.bob, topic_of(other))
        frozen = await force_closed_and_frozen(pair, bob, channel, agreed)
        await pair.post(pair.alice, other, "force-close")
        await bob.expect("channel_closed", topic_of(other))  # That window began later and is longer.
        now = await pair.see(channel)
        total = await pair.purses()
        closed = await pair.post(pair.bob, now, "close", pair.closing(now, (0, 20_000)))

    assert (frozen["status"], now["status"]) == ("closing", "closing")
    assert frozen["closing"] == now["closing"]
    assert now["state_lost"]["nonce"] == 1
    assert total == (PURSE, PURSE)
    assert closed["cause"] == "joint_close"
    verify_papers(town, channel)


async def force_closed_and_frozen(pair: Payers, bob: Client, channel: Snapshot, agreed: Snapshot) -> Snapshot:
    """Alice force-closes, and Bob comes back in time."""
    await pair.post(pair.alice, channel, "force-close")
    found: Snapshot = await bob.join(topic_of(channel), {"known": agreed["last_transfer"]})
    return found


@pytest.mark.parametrize("amount", [1_000, 7])
async def test_mallory_cannot_hide_a_lost_transfer_by_using_up_its_nonce(town: Town, amount: int) -> None:
    """Alice proposes the very same again, or another one, and withdraws it before Bob is back."""
    async with town.at_doors() as pair:
        channel = await pair.open_channel()
        await pay(pair, channel, pair.alice, 5)
        town.back_up()
        agreed = await pay(pair, channel, pair.alice, 1_000)
    town.lose_memory()

    async with town.at_doors() as pair:
        for spent in (amount, 1, 1):
            await void(pair, channel, pair.alice, spent)
        bob = await pair.socket(pair.bob)
        found = await bob.join(topic_of(channel), {"known": agreed["last_transfer"]})
        refused = await reasons(pair.post(pair.alice, channel, "force-close"))

    assert (found["state_lost"]["nonce"], found["last_nonce"]) == (2, 4)
    assert refused == ["state_lost"]


async def test_a_lost_transfer_that_is_proposed_anew_is_had_again_by_acknowledging_it(town: Town) -> None:
    async with town.at_doors() as pair:
        channel = await pair.open_channel()
        town.back_up()
        agreed = await pay(pair, channel, pair.alice, 1_000)
    town.lose_memory()

    async with town.at_doors() as pair:
        proposed = await pair.post(pair.alice, channel, "propose_transfer", pair.proposal(channel, pair.alice, 1_000))
        bob = await pair.socket(pair.bob)
        found = await bob.join(topic_of(channel), {"known": agreed["last_transfer"]})
        had = await pair.post(pair.bob, channel, "acknowledge_transfer", pair.answer(proposed, pair.bob))

    assert found["state_lost"] is None
    assert {**had["last_transfer"], "completed_at": None} == {**agreed["last_transfer"], "completed_at": None}


async def test_an_offline_channel_is_not_frozen_and_the_chain_handed_in_again_restores_it(town: Town) -> None:
    """Also in the window of a force-close that had begun before the backup."""
    async with town.at_doors() as pair:
        channel = await pair.open_channel(mode="offline", window_s=DAY_S)
        chain = pair.chain(channel, [10, -20, 3_000, 40])
        await pair.post(pair.bob, channel, "submit_transfers", {"transfers": chain[:2]})
        await pair.post(pair.alice, channel, "force-close")
        town.back_up()
        agreed = await pair.post(pair.bob, channel, "submit_transfers", {"transfers": chain[2:]})
    town.lose_memory()

    async with town.at_doors() as pair:
        bob = await pair.socket(pair.bob)
        found = await bob.join(topic_of(channel), {"known": agreed["last_transfer"]})
        restored = await pair.post(pair.bob, channel, "submit_transfers", {"transfers": chain})

    assert (found["state_lost"], found["status"], found["last_nonce"]) == (None, "closing", 2)
    assert (restored["applied"], restored["duplicates"]) == (2, 2)
    same = ("status", "balance_a", "balance_b", "last_nonce", "closing")
    assert {name: restored[name] for name in same} == {name: agreed[name] for name in same}
    assert not [line for line in town.end() if line["level"] == "critical"]


# A client that is behind its server.


async def test_a_client_that_was_restored_is_brought_the_signed_states_that_it_lacks(town: Town) -> None:
    async with town.at_doors() as pair:
        channel = await pair.open_channel()
        old = await pay(pair, channel, pair.alice, 10)
        await void(pair, channel, pair.alice, 5)
        await pay(pair, channel, pair.bob, 20)
        now = await pay(pair, channel, pair.alice, 30)
        alice = await pair.socket(pair.alice)
        topic = topic_of(channel)
        behind = await alice.join(topic, {"known": old["last_transfer"]})
        blank = await alice.join(topic, {"known": {"nonce": 0}})
        told_nonce = await alice.join(topic, {"known": {"nonce": 3}})
        stale = await reasons(
            pair.post(pair.alice, channel, "propose_transfer", pair.proposal(old, pair.alice, 30)),
            alice.join(topic, {"known": {"nonce": 5}}),
        )

    assert [transfer["nonce"] for transfer in behind["missing_transfers"]] == [3, 4]
    assert [transfer["nonce"] for transfer in blank["missing_transfers"]] == [1, 3, 4]
    assert [transfer["nonce"] for transfer in told_nonce["missing_transfers"]] == [4]
    assert blank["missing_transfers"][-1] == now["last_transfer"]
    for transfer in blank["missing_transfers"]:
        require_signatures(channel, transfer)
    for reply in (behind, blank, told_nonce):
        assert (reply["state_lost"], reply["missing_after"], reply["next_nonce"]) == (None, None, 5)
    assert stale == ["nonce_replayed", "invalid_payload"]


def require_signatures(channel: Snapshot, transfer: Snapshot) -> None:
    """Both have signed it."""
    names = ("nonce", "amount", "balance_a", "balance_b", "task_id")
    message = transfer_message(
        signing_domain=channel["signing_domain"],
        channel_id=channel["id"],
        payer_agent_id=transfer["from_agent_id"],
        **{name: transfer[name] for name in names},
    )
    for side in ("a", "b"):
        key = parse_public_key(channel[f"public_key_{side}"])
        verify_signature(public_key=key, message=message, signature=transfer[f"signature_{side}"])


async def test_mallory_cannot_freeze_a_channel_alone(town: Town) -> None:
    """Mallory is Bob, who is paid: whatever Alice has proposed here he may countersign, acknowledged or not."""
    async with town.at_doors() as pair:
        channel, other = await pair.open_channel(), await pair.open_channel()
        paid = await pay(pair, channel, pair.alice, 10)
        foreign = (await pay(pair, other, pair.alice, 10, 21))["last_transfer"]
        withdrawn = await void(pair, channel, pair.alice, 20)
        proposed = await pair.post(
            pair.alice, channel, "propose_transfer", pair.proposal(await pair.see(channel), pair.alice, 30)
        )
        pending = countersigned(channel, proposed["pending_proposal"], pair.bob)
        voided = countersigned(channel, withdrawn, pair.bob)
        bob, topic = await pair.socket(pair.bob), topic_of(channel)
        for known in (paid["last_transfer"], voided, pending):
            assert (await bob.join(topic, {"known": known}))["state_lost"] is None
        await pair.post(pair.bob, channel, "reject_transfer", {"reason": "mine", "nonce": 3})
        assert (await bob.join(topic, {"known": pending}))["state_lost"] is None
        refused = await reasons(
            bob.join(topic, {"known": foreign}),
            bob.join(topic, {"known": {**pending, "nonce": 4}}),
            bob.join(topic, {"known": {**pending, "amount": 31}}),
            bob.join(topic, {"known": {**paid["last_transfer"], "signature_a": pending["signature_a"], "amount": 9}}),
        )
        now = await pair.see(channel)

    assert refused == ["invalid_signature"] * 4
    assert (now["state_lost"], now["status"], now["last_nonce"]) == (None, "open", 3)
