"""What is on record of a payment channel, by REST: signed states, the history as pages and as a file, the receipt."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pytest

from agrenting.api import payment_channels
from agrenting.db import channel_steps
from crypto import ReceiptError, canonical_digest, format_public_key, public_key_of, verify_history, verify_receipt
from tests import paying
from tests.agrenting.api.market import Marketplace, Player
from tests.agrenting.api.payers import (
    DEPOSIT,
    JSON_LINES,
    Json,
    accepted,
    at,
    close,
    hand_in,
    money,
    pay,
    pending,
    propose,
)

T = TypeVar("T")

AS_FILE = {"accept": "application/agrenting-receipt+json"}


@pytest.fixture
async def channel(alice: Player, bob: Player) -> Json:
    """An open online channel with Alice's 10,000 in it."""
    return await accepted(alice, bob)


@pytest.fixture
async def offline(alice: Player, bob: Player) -> Json:
    """The same, for transfers that are signed elsewhere."""
    return await accepted(alice, bob, mode="offline")


async def all_of(who: Player, path: str, *, limit: int) -> list[Json]:
    """Every item, page by page, by the next page's `after`."""
    seen: list[Json] = []
    query = {"limit": str(limit)}
    while True:
        page = await who.page(path, params=query)
        assert page["metadata"]["limit"] == limit
        seen += page["data"]
        if not page["metadata"]["has_more"]:
            assert page["metadata"]["next_cursor"] is None
            return seen
        query["after"] = page["metadata"]["next_cursor"]


async def file_of(who: Player, channel: Json) -> list[Json]:
    """The lines of a history's file."""
    answer = await who.call("GET", at(channel, "history"), headers=JSON_LINES)
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == "application/jsonl"
    assert answer.headers["content-disposition"] == f'attachment; filename="payment-channel-{channel["id"]}.jsonl"'
    assert answer.text.endswith("\n")
    return [json.loads(line) for line in answer.text.splitlines()]


def keys(market: Marketplace, alice: Player, bob: Player) -> dict[str, bytes]:
    """Whom a history is to name."""
    return {
        "platform_key": market.server.public_key,
        "opener_key": public_key_of(alice.seed),
        "counterparty_key": public_key_of(bob.seed),
    }


# Signed states.


async def test_signed_states_come_in_order_without_those_that_were_voided(
    alice: Player, bob: Player, channel: Json
) -> None:
    paid = await pay(channel, alice, bob, 100)
    await propose(channel, alice, 50)
    await bob.post(at(channel, "reject_transfer"), {"reason": "no"})
    for amount in (10, 20):
        await pay(channel, alice, bob, amount)

    states = await all_of(bob, at(channel, "transfers"), limit=2)

    assert [(one["nonce"], one["amount"]) for one in states] == [(1, 100), (3, 10), (4, 20)]
    assert states[0] == paid["last_transfer"]
    first = await alice.page(at(channel, "transfers"), params={"limit": "2"})
    assert [one["nonce"] for one in first["data"]] == [1]  # Of two nonces one was voided.
    assert first["metadata"] == {"has_more": True, "limit": 2, "next_cursor": "2"}
    assert [one["nonce"] for one in await alice.get(at(channel, "transfers"), params={"after": "3"})] == [4]
    assert await alice.get(at(channel, "transfers"), params={"after": "4"}) == []


@pytest.mark.parametrize("path", ["transfers", "history"])
@pytest.mark.parametrize(
    "query", [{"after": "-1"}, {"after": str(2**53)}, {"after": "x"}, {"limit": "0"}, {"limit": "101"}]
)
async def test_pages_that_cannot_be_are_refused(alice: Player, channel: Json, path: str, query: dict[str, str]) -> None:
    assert (await alice.refused("GET", at(channel, path), params=query)).why == (422, "invalid_payload")


# Histories.


async def test_a_history_has_every_step_in_order(market: Marketplace, alice: Player, bob: Player) -> None:
    channel = await pending(alice, bob)
    await bob.post(at(channel, "accept"))
    await alice.post(at(channel, "deposit"), {"amount": 5})
    await pay(channel, alice, bob, 100)
    await propose(channel, alice, 50, memo="more")
    market.clock.advance(minutes=5)  # It expires.
    fresh = await bob.get(at(channel))
    body = {"final_balance_a": DEPOSIT + 5, "final_balance_b": 0}
    signature = paying.close_signature(fresh, alice.seed, (DEPOSIT + 5, 0))
    await alice.post(at(channel, "close_request"), {**body, "signature": signature})
    await bob.post(at(channel, "dispute"), {"reason": "no", "evidence": [1]})
    await bob.post(at(channel, "withdraw_dispute"))
    await bob.post(at(channel, "force-close"))
    await close(channel, alice, bob)

    steps = await all_of(alice, at(channel, "history"), limit=3)

    kinds = (
        *("opened", "accepted", "deposit", "transfer", "voided", "close_request", "dispute", "dispute_withdrawn"),
        *("force_close", "closed"),
    )
    assert [(one["number"], one["kind"]) for one in steps] == list(enumerate(kinds, 1))
    voided, closed = steps[4], steps[-1]
    assert (voided["agent_id"], voided["last_nonce"], voided["at"]) == (None, 2, "2030-01-01T12:05:00Z")
    assert (voided["details"]["reason"], voided["details"]["memo"], voided["details"]["amount"]) == (
        "expired", "more", 50,
    )  # fmt: skip
    assert (closed["agent_id"], closed["details"]["cause"], closed["details"]["final_balance_b"]) == (
        alice.id, "joint_close", 100,
    )  # fmt: skip
    assert {one["balance_a"] + one["balance_b"] for one in steps[2:]} == {DEPOSIT + 5}
    assert await bob.get(at(channel, "history"), params={"after": "10"}) == []
    lines = await file_of(bob, channel)
    assert lines[1:-1] == steps
    report = verify_history(lines, **keys(market, alice, bob))
    assert (report.kind, report.id, report.unproven) == ("payment_history", channel["id"], ())


async def test_the_file_of_a_channel_that_has_not_begun_verifies(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    channel = await pending(alice, bob)

    lines = await file_of(alice, channel)

    assert [line["kind"] for line in lines] == ["payment_history", "opened", "platform"]
    assert (lines[0]["signing_domain"], lines[0]["mode"], lines[-1]["steps"]) == (alice.domain, "online", 1)
    assert lines[-1]["public_key"] == format_public_key(market.server.public_key)
    verify_history(lines, **keys(market, alice, bob))


@pytest.mark.parametrize("flaw", ["dropped", "altered", "swapped", "cut"])
async def test_a_file_that_was_touched_does_not_verify(alice: Player, bob: Player, channel: Json, flaw: str) -> None:
    for amount in (1, 2):
        await pay(channel, alice, bob, amount)
    lines = await file_of(bob, channel)

    if flaw == "dropped":
        del lines[3]
    elif flaw == "altered":
        lines[2]["at"] = "2031-01-01T12:00:00Z"
    elif flaw == "swapped":
        lines[3], lines[4] = lines[4], lines[3]
    else:
        del lines[-2]

    with pytest.raises(ReceiptError):
        verify_history(lines)


async def test_a_file_of_thousands_of_steps_is_that_of_when_it_was_asked_for(
    market: Marketplace, alice: Player, bob: Player, offline: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        offline = await hand_in(offline, alice, bob, *([2, -1] * 500))
    before = 2 + 2_000
    next_steps, asked = payment_channels._next_steps, 0  # noqa: SLF001 - between two of its reads the channel goes on
    read = market.server.engine.read

    async def meanwhile(question: Callable[[Any], T]) -> T:
        """Before each part of the file is read, three more transfers are handed in."""
        nonlocal asked, offline
        if isinstance(question, partial) and question.func is next_steps:
            asked += 1
            offline = await hand_in(offline, alice, bob, 1, 2, 3)
        return await read(question)

    monkeypatch.setattr(market.server.engine, "read", meanwhile)
    lines = await file_of(bob, offline)
    monkeypatch.undo()

    assert asked == 5  # 2,002 steps, of which 500 are read at once.
    assert (len(lines) - 2, lines[-1]["steps"], lines[-2]["number"]) == (before, before, before)
    verify_history(lines, **keys(market, alice, bob))
    later = await file_of(alice, offline)
    assert later[-1]["steps"] == before + 3 * asked
    assert later[1 : before + 1] == lines[1:-1]
    verify_history(later, **keys(market, alice, bob))
    pages = await all_of(alice, at(offline, "history"), limit=100)
    assert pages == later[1:-1]
    assert await money(bob) == (0, 1_000 + 6 * asked)


async def test_a_file_is_read_in_parts_and_sent_as_it_is_read(
    market: Marketplace, alice: Player, bob: Player, offline: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hand_in(offline, alice, bob, *([1] * 1_000))
    seen: list[int] = []
    history = channel_steps.history

    def noted(*args: Any, **options: Any) -> Any:
        found = history(*args, **options)
        seen.append(len(found))
        return found

    monkeypatch.setattr(channel_steps, "history", noted)
    await file_of(bob, offline)

    assert seen == [500, 500, 2]


# Receipts.


async def test_a_receipt_is_that_of_a_closed_channel_and_verifies(
    market: Marketplace, alice: Player, bob: Player, channel: Json
) -> None:
    await pay(channel, alice, bob, 700)
    refused = await bob.refused("GET", at(channel, "receipt"))
    await close(channel, alice, bob, (9_000, 1_000))

    receipt = await bob.get(at(channel, "receipt"))

    assert (refused.why, refused.details) == ((409, "not_closed"), {"status": "open"})
    document = receipt["document"]
    assert (receipt["kind"], receipt["id"], receipt["signing_domain"]) == (
        "payment_channel", channel["id"], alice.domain,
    )  # fmt: skip
    assert (document["cause"], document["close"]["nonce"], document["final_balance_b"]) == ("joint_close", 1, 1_000)
    assert (document["balance_a"], document["last_transfer"]["amount"]) == (DEPOSIT - 700, 700)
    assert canonical_digest(document)
    report = verify_receipt(receipt, **keys(market, alice, bob))
    assert report.unproven == ()
    bare = await bob.call("GET", at(channel, "receipt"), headers=AS_FILE)
    assert bare.json() == receipt
    assert bare.headers["content-disposition"] == f'attachment; filename="payment-channel-{channel["id"]}.json"'


async def test_a_receipt_of_a_force_close_names_no_close(
    market: Marketplace, alice: Player, bob: Player, channel: Json
) -> None:
    await alice.post(at(channel, "force-close"))
    assert (await bob.refused("GET", at(channel, "receipt"))).details == {"status": "closing"}
    market.clock.advance(days=1)
    await market.server.timers.run_due()

    receipt = await bob.get(at(channel, "receipt"))

    assert (receipt["document"]["cause"], receipt["document"]["close"]) == ("force_close", None)
    verify_receipt(receipt, **keys(market, alice, bob))


@pytest.mark.parametrize("event", ["decline", "cancel"])
async def test_what_never_opened_has_no_receipt(alice: Player, bob: Player, event: str) -> None:
    channel = await pending(alice, bob)
    await (alice if event == "cancel" else bob).post(at(channel, event))

    refused = await alice.refused("GET", at(channel, "receipt"))

    assert (refused.why, refused.details) == ((409, "not_closed"), {"status": "declined"})
    assert len(await file_of(alice, channel)) == 4  # Its history is there all the same.
