"""A payment channel over real sockets, from its opening to its receipt, and whatever may happen to it between."""

import json
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import paying
from tests.system.harness import AgentAccount, Client, MarketProcess, Refused
from tests.system.payers import PURSE, Payers, Snapshot, files_of, refused, topic_of


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    """One server for all of it, whose books are in order at the end."""
    market = MarketProcess(tmp_path_factory.mktemp("payments") / "var").start()
    yield market
    assert market.cli("doctor")["ok"]
    assert market.stop() == 0


@pytest.fixture
async def pair(running: MarketProcess, request: pytest.FixtureRequest) -> AsyncIterator[Payers]:
    """An Alice and a Bob of the test's own; the books are in order after it."""
    number = str(request.session.items.index(request.node))
    async with Payers(running, suffix=number) as payers:
        yield payers
    assert running.here("doctor")["ok"]


def keys_of(pair: Payers, channel: Snapshot) -> dict[str, str]:
    """The keys that a document must name, as known from elsewhere."""
    meta = httpx.get(f"{pair.market.url}/api/v1/meta", timeout=30).json()["data"]
    return {
        "--platform-key": meta["platform"]["public_key"],
        "--opener-key": channel["public_key_a"],
        "--counterparty-key": channel["public_key_b"],
    }


async def told(events: str, *sockets: Client) -> list[Any]:
    """What each socket is told, which must be the same."""
    heard = [await socket.expect(events) for socket in sockets]
    assert all(one == heard[0] for one in heard)
    return heard


Party = tuple[AgentAccount, Client]


async def opened_and_accepted(pair: Payers, alice: Client, bob: Client) -> Snapshot:
    """A channel that was announced to Bob, and whose acceptance to Alice."""
    channel = await pair.open_channel(deposit=10_000, counter=None)
    announced = await bob.expect("new_message")
    assert (announced["type"], announced["from_agent_id"]) == ("payment_channel", pair.alice.id)
    assert announced["payload"] == {
        "channel_id": channel["id"],
        "topic": topic_of(channel),
        "status": "pending",
        "agent_a_id": pair.alice.id,
        "agent_a_handle": pair.alice.handle,
        "deposit": 10_000,
        "mode": "online",
        "window_s": 86_400,
        "expires_at": channel["expires_at"],
    }
    assert await alice.join(topic_of(channel)) == channel
    accepted: Snapshot = await pair.post(pair.bob, channel, "accept", {"deposit": 500})
    answer = await alice.expect("new_message")
    said = (answer["type"], answer["payload"]["status"], answer["payload"]["deposit"])
    assert said == ("payment_channel", "open", 500)
    updated = await alice.expect("channel_updated")
    assert (updated["change"], updated["channel"]) == ("accepted", accepted)
    assert await bob.join(topic_of(channel)) == accepted
    return accepted


async def pay(
    pair: Payers, now: Snapshot, payer: Party, payee: Party, *, amount: int, task_id: str | None = None
) -> Snapshot:
    """A transfer from its proposal to its end, as both are told of it."""
    topic, memo = topic_of(now), f"No. {now['next_nonce']} ü"
    asked = {**pair.proposal(now, payer[0], amount, task_id=task_id), "memo": memo}
    proposed = await payer[1].push(topic, "propose_transfer", asked)
    relayed = await payee[1].expect("propose_transfer")
    assert relayed == {"channel_id": now["id"], **proposed["pending_proposal"]}
    assert (relayed["memo"], relayed["task_id"], relayed["nonce"]) == (memo, task_id, now["next_nonce"])
    answer = paying.acknowledgement(now, payee[0].seed, relayed)
    done: Snapshot = await payee[1].push(topic, "acknowledge_transfer", answer)
    (complete, _) = await told("transfer_complete", payer[1], payee[1])
    assert complete == {"channel_id": now["id"], **done["last_transfer"]}
    assert complete["signature_a" if payer[0] is pair.alice else "signature_b"] == relayed["signature"]
    balances = paying.after(now, from_agent_id=payer[0].id, amount=amount)
    assert (done["balance_a"], done["balance_b"], done["last_nonce"]) == (*balances, now["next_nonce"])
    return done


async def close_jointly(pair: Payers, now: Snapshot, alice: Client, bob: Client, finals: tuple[int, int]) -> Snapshot:
    """Alice asks, and Bob closes with what she has signed."""
    topic = topic_of(now)
    names = dict(zip(("final_balance_a", "final_balance_b"), finals, strict=True))
    asked = {**names, "signature": paying.close_signature(now, pair.alice.seed, finals)}
    await alice.push(topic, "close_request", asked)
    request = await bob.expect("close_request")
    assert {**asked, "nonce": now["last_nonce"], "agent_id": pair.alice.id}.items() <= request.items()
    own = paying.close_signature(now, pair.bob.seed, finals)
    closed: Snapshot = await bob.push(
        topic, "close", {**names, "signature_a": request["signature"], "signature_b": own}
    )
    (end, _) = await told("channel_closed", alice, bob)
    assert (end["cause"], end["final_balance_a"], end["final_balance_b"]) == ("joint_close", *finals)
    assert end["channel"] == closed == await alice.join(topic)
    return closed


async def test_the_whole_life_of_a_channel(pair: Payers, tmp_path: Path) -> None:
    alice = await pair.socket(pair.alice, f"messages:{pair.alice.id}")
    bob = await pair.socket(pair.bob, f"messages:{pair.bob.id}")
    hired = {"provider_agent_id": pair.bob.id, "capability": "translate", "max_price": 1_000}
    task = await pair.call(pair.alice, "POST", "tasks", hired)
    await bob.expect("new_message")
    now = await opened_and_accepted(pair, alice, bob)
    topic, (client, provider) = topic_of(now), ((pair.alice, alice), (pair.bob, bob))

    now = await pay(pair, now, client, provider, amount=1_000, task_id=task["id"])
    now = await pay(pair, now, provider, client, amount=1_500)
    now = await pay(pair, now, client, provider, amount=8_000)
    assert (now["balance_a"], now["balance_b"]) == (2_500, 8_000)

    pending = await bob.push(topic, "propose_transfer", pair.proposal(now, pair.bob, 5))
    await alice.expect("propose_transfer")
    rejected = await alice.push(topic, "reject_transfer", {"reason": "Too little.", "nonce": 4})
    said = await bob.expect("reject_transfer")
    assert (said["nonce"], said["agent_id"], said["reason"]) == (4, pair.alice.id, "rejected")
    assert (said["text"], said["next_nonce"]) == ("Too little.", 5)
    answer = pair.answer(pending, pair.alice)
    await refused(alice.push(topic, "acknowledge_transfer", answer), "nonce_replayed", expected_nonce=5)

    await bob.push(topic, "propose_transfer", pair.proposal(rejected, pair.bob, 6))
    await alice.expect("propose_transfer")
    withdrawn = await bob.push(topic, "reject_transfer", {})
    said = await alice.expect("reject_transfer")
    assert (said["reason"], said["nonce"], withdrawn["last_nonce"]) == ("withdrawn", 5, 5)
    assert (withdrawn["balance_a"], withdrawn["balance_b"]) == (2_500, 8_000)

    raised = await pair.post(pair.alice, now, "deposit", {"amount": 500})
    (change, _) = await told("channel_updated", alice, bob)
    assert (change["change"], change["channel"]) == ("deposit", raised)
    assert (raised["balance_a"], raised["balance_b"], raised["last_nonce"]) == (3_000, 8_000, 5)

    closed = await close_jointly(pair, raised, alice, bob, (4_000, 7_000))
    assert await pair.purses() == (PURSE - 10_500 + 4_000, PURSE - 500 + 7_000)
    receipt, history = files_of(pair, closed, tmp_path)
    pins = [part for pin in keys_of(pair, closed).items() for part in pin]
    verdict = pair.market.cli("verify", str(receipt), str(history), *pins)
    assert [document["ok"] for document in verdict["documents"]] == [True, True]
    assert [document["unproven"] for document in verdict["documents"]] == [[], []]
    kinds = [json.loads(line)["kind"] for line in history.read_bytes().splitlines()]
    assert kinds == [
        *("payment_history", "opened", "accepted", "transfer", "transfer", "transfer", "voided", "voided"),
        *("deposit", "close_request", "closed", "platform"),
    ]
    history.write_bytes(history.read_bytes().replace(b'"amount":8000', b'"amount":8001'))
    assert not pair.market.cli("verify", str(history), check=False)["ok"]


async def test_a_channel_comes_to_an_end_before_it_is_open(pair: Payers) -> None:
    alice = await pair.socket(pair.alice, f"messages:{pair.alice.id}")
    declined = await pair.open_channel(counter=None)
    await alice.join(topic_of(declined))
    end = await pair.post(pair.bob, declined, "decline", {"reason": "Not with you."})
    assert (end["status"], end["cause"], end["reason"]) == ("declined", "declined", "Not with you.")
    assert (await alice.expect("channel_updated"))["change"] == "declined"
    answer = await alice.expect("new_message")
    assert (answer["payload"]["status"], answer["payload"]["reason"]) == ("declined", "Not with you.")

    cancelled = await pair.open_channel(counter=None)
    await refused(pair.post(pair.bob, cancelled, "cancel"), "forbidden_role", role="opener")
    await refused(pair.post(pair.alice, cancelled, "accept", {}), "forbidden_role", role="counterparty")
    end = await pair.post(pair.alice, cancelled, "cancel")
    assert (end["status"], end["cause"]) == ("declined", "cancelled")
    await refused(pair.post(pair.bob, cancelled, "accept", {}), "terminal_state", status="declined")
    assert await pair.purses() == (PURSE, PURSE)


async def test_strangers_and_users_are_told_of_no_channel(pair: Payers) -> None:
    channel = await pair.open_channel()
    mallory_user = pair.market.user("mallory")
    mallory = pair.market.agent("mallory", "Snoop", deposit=5_000)
    socket = await pair.socket(mallory)

    for topic in (topic_of(channel), f"payment:{uuid.uuid4()}", "payment:nonsense"):
        with pytest.raises(Refused) as no:
            await socket.join(topic)
        sentence = "There is no such payment channel, or you may not see it."
        assert no.value.response == {"reason": "not_found", "message": sentence}
        await refused(socket.push(topic, "propose_transfer", pair.proposal(channel, mallory, 1)), "unmatched topic")
    for what in ("accept", "deposit", "force-close", "close", "submit_transfers", "dispute", "withdraw_dispute"):
        body = {
            "deposit": {"amount": 1},
            "close": pair.closing(channel),
            "submit_transfers": {"transfers": pair.chain(channel, [1])},
            "dispute": {"reason": "Mine."},
        }.get(what, {})
        await refused(pair.post(mallory, channel, what, body), "not_found", status=404)
    for path in ("", "/transfers", "/history", "/receipt"):
        await refused(pair.call(mallory, "GET", f"payment-channels/{channel['id']}{path}"), "not_found", status=404)
    assert await pair.call(mallory, "GET", "payment-channels") == []
    with pair.market.rest(mallory_user["api_key"]) as rest:
        assert rest.get(f"/api/v1/payment-channels/{channel['id']}").status_code == 403
    assert await pair.see(channel) == channel


async def test_refusals_say_what_was_expected_and_leave_the_channel_as_it_was(pair: Payers) -> None:
    channel = await pair.open_channel(deposit=1_000, counter=0)
    other = await pair.open_channel(deposit=1_000, counter=0)
    topic = topic_of(channel)
    alice, bob = await pair.socket(pair.alice, topic), await pair.socket(pair.bob, topic)
    good = pair.proposal(channel, pair.alice, 100)

    def push(socket: Client, event: str, **payload: Any) -> Any:
        return socket.push(topic, event, payload)

    expected = {"expected_nonce": 1, "balance_a": 900, "balance_b": 100}
    swapped = paying.transfer_signature(
        channel, pair.alice.seed, from_agent_id=pair.alice.id, amount=100, balances=(100, 900)
    )
    for refusal, fields, payload in [
        ("nonce_replayed", {"expected_nonce": 1}, {**good, "nonce": 0}),
        ("nonce_gap", {"expected_nonce": 1}, {**good, "nonce": 2}),
        ("amount_out_of_range", {"minimum": 1}, {**good, "amount": 0}),
        ("amount_out_of_range", {"minimum": 1}, {**good, "amount": -5}),
        ("insufficient_channel_balance", {"balance": 1_000, "required": 1_001}, {**good, "amount": 1_001}),
        ("invalid_signature", expected, {**good, "signature": pair.proposal(other, pair.alice, 100)["signature"]}),
        ("invalid_signature", expected, {**good, "signature": swapped}),
        ("invalid_signature", expected, {**good, "signature": "nonsense"}),
        ("not_found", {}, {**good, "task_id": str(uuid.uuid4())}),
        ("invalid_payload", {}, {**good, "memo": "m" * 201}),
        ("invalid_payload", {}, {"nonce": 1, "signature": good["signature"]}),
    ]:
        await refused(push(alice, "propose_transfer", **payload), refusal, **fields)
    await refused(
        push(bob, "propose_transfer", **{**good, "amount": 1}),
        "insufficient_channel_balance",
        balance=0,
        required=1,
    )
    await refused(push(alice, "submit_transfers", transfers=pair.chain(channel, [1])), "wrong_mode", mode="online")
    await refused(push(bob, "acknowledge_transfer", **good), "no_pending_transfer", expected_nonce=1)
    await refused(push(bob, "reject_transfer"), "no_pending_transfer", expected_nonce=1)
    await refused(push(alice, "withdraw_dispute"), "not_disputed", status="open")
    await refused(push(alice, "close", **pair.closing(channel, (1_000, 1))), "sum_mismatch", total=1_000)
    below = {**pair.closing(channel), "final_balance_a": 1_001, "final_balance_b": -1}
    await refused(push(alice, "close", **below), "amount_out_of_range", minimum=0)
    await refused(
        push(alice, "close", **{**pair.closing(channel), "signature_b": pair.closing(channel)["signature_a"]}),
        "invalid_signature",
        agent_id=pair.bob.id,
        last_nonce=0,
    )
    assert await alice.join(topic) == await bob.join(topic) == channel

    pending = await push(alice, "propose_transfer", **good)
    answer = pair.answer(pending, pair.bob)
    await refused(push(alice, "propose_transfer", **{**good, "amount": 1}), "transfer_pending", nonce=1)
    await refused(push(alice, "acknowledge_transfer", **answer), "forbidden_role", role="payee")
    mismatch = {"expected_nonce": 1, "expected_amount": 100}
    await refused(push(bob, "acknowledge_transfer", **{**answer, "amount": 99}), "proposal_mismatch", **mismatch)
    await refused(push(bob, "acknowledge_transfer", **{**answer, "nonce": 2}), "proposal_mismatch", **mismatch)
    await refused(push(bob, "reject_transfer", nonce=2), "proposal_mismatch", **mismatch)
    await refused(push(bob, "acknowledge_transfer", **good), "invalid_signature", **expected)
    await refused(push(alice, "close", **pair.closing(pending)), "transfer_pending", nonce=1)
    await refused(pair.post(pair.bob, channel, "deposit", {"amount": 1}), "transfer_pending", nonce=1)
    assert await alice.join(topic) == await bob.join(topic) == pending

    done = await push(bob, "acknowledge_transfer", **answer)
    again = await push(bob, "acknowledge_transfer", **answer)
    assert (again["duplicate"], again["outcome"]["status"]) == (True, "completed")
    repeated = await push(alice, "propose_transfer", **good)
    assert (repeated["duplicate"], repeated["outcome"]) == (True, again["outcome"])
    stale = pair.closing(channel)
    await refused(push(alice, "close", **stale), "stale_state", last_nonce=1)
    assert await alice.join(topic) == await bob.join(topic) == done

    early = pair.proposal(done, pair.alice, 10)
    raised = await pair.post(pair.bob, channel, "deposit", {"amount": 7})
    await refused(
        push(alice, "propose_transfer", **early), "stale_state", expected_nonce=2, balance_a=890, balance_b=117
    )
    assert await alice.join(topic) == await bob.join(topic) == raised


async def test_every_socket_of_an_agent_is_told(pair: Payers) -> None:
    channel = await pair.open_channel()
    topic = topic_of(channel)
    first, second = [await pair.socket(pair.alice, topic) for _ in range(2)]
    third, fourth = [await pair.socket(pair.bob, topic) for _ in range(2)]

    pending = await first.push(topic, "propose_transfer", pair.proposal(channel, pair.alice, 10))
    await told("propose_transfer", third, fourth)
    await second.refute("propose_transfer")  # What an agent has done is relayed to the other one alone.
    done = await fourth.push(topic, "acknowledge_transfer", pair.answer(pending, pair.bob))
    heard = await told("transfer_complete", first, second, third, fourth)
    assert heard[0]["nonce"] == 1

    await third.push(topic, "propose_transfer", pair.proposal(done, pair.bob, 10))
    await told("propose_transfer", first, second)
    await pair.post(pair.alice, channel, "force-close")
    heard = await told("transfer_voided", first, second, third, fourth)
    assert (heard[0]["reason"], heard[0]["nonce"]) == ("force_close", 2)
    heard = await told("channel_updated", first, second, third, fourth)
    assert heard[0]["change"] == "force_close"

    now = await pair.see(channel)
    await third.push(topic, "dispute", {"reason": "Where is it?"})
    await told("dispute", first, second, third, fourth)
    await third.push(topic, "withdraw_dispute")
    await told("withdraw_dispute", first, second, third, fourth)
    await second.push(topic, "close", pair.closing(now))
    heard = await told("channel_closed", first, second, third, fourth)
    assert heard[0]["cause"] == "joint_close"


async def test_a_lost_state_freezes_the_channel_until_it_is_settled(pair: Payers) -> None:
    """What both have signed here was never handed in, as if the server had been restored from an older copy."""
    channels = [await pair.open_channel() for _ in range(2)]
    for number, channel in enumerate(channels):
        topic = topic_of(channel)
        alice, bob = await pair.socket(pair.alice, topic), await pair.socket(pair.bob, topic)
        (signed,) = pair.chain(channel, [100])
        known = {**signed, "balance_a": 9_900, "balance_b": 10_100}
        await refused(alice.join(topic, {"known": {**known, "signature_b": "no"}}), "invalid_signature", last_nonce=0)
        await alice.join(topic)

        frozen = await bob.join(topic, {"known": known})
        said = await alice.expect("state_lost")

        assert (said["known_nonce"], said["last_nonce"]) == (1, 1)
        assert frozen["state_lost"]["nonce"] == 1
        lost = {"known_nonce": 1, "last_nonce": 1}
        await refused(
            alice.push(topic, "propose_transfer", pair.proposal(channel, pair.alice, 1)), "state_lost", **lost
        )
        await refused(bob.push(topic, "dispute", {"reason": "Mine."}), "state_lost", **lost)
        await refused(pair.post(pair.alice, channel, "force-close"), "state_lost", **lost)
        await refused(pair.post(pair.alice, channel, "deposit", {"amount": 1}), "state_lost", **lost)
        if number:
            assert pair.market.operator_key is not None
            with pair.market.rest(pair.market.operator_key) as rest:
                waiting = rest.get("/api/v1/admin/payment-channels").json()["data"]
                assert [one["id"] for one in waiting] == [channel["id"]]
                decided = {"final_balance_a": 9_900, "final_balance_b": 10_100, "reason": "Both have signed it."}
                path = f"/api/v1/admin/payment-channels/{channel['id']}/decide"
                assert rest.post(path, json=decided).status_code == 200
        else:
            await bob.push(topic, "close", pair.closing(frozen, (9_900, 10_100)))
        heard = await told("channel_closed", alice, bob)
        assert (heard[0]["cause"], heard[0]["final_balance_b"]) == ("operator" if number else "joint_close", 10_100)
    assert await pair.purses() == (PURSE - 200, PURSE + 200)


async def test_who_joins_is_brought_what_it_lacks(pair: Payers) -> None:
    channel = await pair.open_channel()
    topic = topic_of(channel)
    alice, bob = await pair.socket(pair.alice, topic), await pair.socket(pair.bob, topic)
    now, states = channel, []
    for amount in (1, 2, 3, 4):
        pending = await alice.push(topic, "propose_transfer", pair.proposal(now, pair.alice, amount))
        if amount == 3:
            now = await bob.push(topic, "reject_transfer")
        else:
            now = await bob.push(topic, "acknowledge_transfer", pair.answer(pending, pair.bob))
            states.append(now["last_transfer"])

    again = await pair.socket(pair.bob)
    joined = await again.join(topic, {"known": {"nonce": 1}})
    assert (joined["missing_transfers"], joined["missing_after"]) == (states[1:], None)
    joined = await alice.join(topic, {"known": {**_known(states[-1])}})
    assert (joined["missing_transfers"], joined["state_lost"], joined["next_nonce"]) == ([], None, 5)


def _known(transfer: Snapshot) -> Snapshot:
    return {name: value for name, value in transfer.items() if name not in {"to_agent_id", "completed_at"}}
