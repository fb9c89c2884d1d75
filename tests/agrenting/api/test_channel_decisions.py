"""What operators see of payment channels and decide: Alice and Bob dispute, Olga decides."""

import json

import pytest

from crypto import verify_history
from tests import paying
from tests.agrenting.api.market import Caller, Marketplace, Player
from tests.agrenting.api.payers import (
    CHANNELS,
    DEPOSIT,
    JSON_LINES,
    Json,
    accepted,
    at,
    close,
    freeze,
    money,
    pay,
    pending,
    require_sound,
)

ADMIN = f"/admin{CHANNELS}"
WHY = "The words were delivered."


@pytest.fixture
async def disputed(alice: Player, bob: Player) -> Json:
    """A channel that Alice has disputed after a transfer of 400."""
    channel = await accepted(alice, bob)
    await pay(channel, alice, bob, 400)
    after: Json = await alice.post(at(channel, "dispute"), {"reason": "bad words", "evidence": {"n": 1}})
    return after


def decision(final_a: int | str, final_b: int | str, reason: str = WHY) -> Json:
    return {"final_balance_a": final_a, "final_balance_b": final_b, "reason": reason}


async def test_what_waits_is_listed_oldest_first_page_by_page(
    market: Marketplace, olga: Caller, alice: Player, bob: Player
) -> None:
    assert await olga.get(ADMIN) == []
    made = [await accepted(alice, bob, deposit=0) for _ in range(5)]
    await pending(alice, bob)
    for channel in (made[0], made[2], made[4]):
        await bob.post(at(channel, "dispute"), {"reason": "no"})
    frozen = await freeze(market, made[1], alice, bob)
    await alice.post(at(made[3], "force-close"))

    seen: list[Json] = []
    query = {"limit": "3"}
    while True:
        page = await olga.page(ADMIN, params=query)
        seen += page["data"]
        if not page["metadata"]["has_more"]:
            break
        query["cursor"] = page["metadata"]["next_cursor"]

    assert [one["id"] for one in seen] == [made[number]["id"] for number in (0, 1, 2, 4)]
    assert seen[1]["state_lost"] == frozen["state_lost"]
    assert (seen[1]["status"], seen[1]["state_lost"]["nonce"], seen[1]["last_nonce"]) == ("open", 5, 5)


async def test_what_ends_waits_no_more(olga: Caller, alice: Player, bob: Player, disputed: Json) -> None:
    other = await accepted(alice, bob)
    await bob.post(at(other, "dispute"), {"reason": "no"})
    assert len(await olga.get(ADMIN)) == 2

    await alice.post(at(disputed, "withdraw_dispute"))
    await close(other, alice, bob)

    assert await olga.get(ADMIN) == []


async def test_an_operator_reads_any_channel_and_its_history(
    market: Marketplace, olga: Caller, alice: Player, disputed: Json
) -> None:
    path = f"{ADMIN}/{disputed['id']}"

    assert await olga.get(path) == await alice.get(at(disputed))
    steps = await olga.get(f"{path}/history")
    assert [step["kind"] for step in steps] == ["opened", "accepted", "transfer", "dispute"]
    assert steps[-1]["details"]["evidence"] == {"n": 1}
    page = await olga.page(f"{path}/history", params={"limit": "1", "after": "2"})
    assert ([one["number"] for one in page["data"]], page["metadata"]["next_cursor"]) == ([3], "3")
    answer = await olga.call("GET", f"{path}/history", headers=JSON_LINES)
    verify_history([json.loads(line) for line in answer.text.splitlines()], platform_key=market.server.public_key)


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/history"), ("POST", "/decide")])
async def test_what_is_unknown_is_not_found(olga: Caller, method: str, path: str) -> None:
    body = decision(1, 1) if method == "POST" else None

    assert (await olga.refused(method, f"{ADMIN}/nothing{path}", body)).why == (404, "not_found")


async def test_nobody_else_may(market: Marketplace, olga: Caller, alice: Player, bob: Player, disputed: Json) -> None:
    carol = await market.user("carol")
    path = f"{ADMIN}/{disputed['id']}"

    for who, code in ((alice, "user_required"), (bob, "user_required"), (carol, "operator_required")):
        for method, target in (("GET", ADMIN), ("GET", path), ("GET", f"{path}/history"), ("POST", f"{path}/decide")):
            assert (await who.refused(method, target, decision(1, 1) if method == "POST" else None)).why == (403, code)
    assert (await alice.get(at(disputed)))["status"] == "disputed"
    assert (await olga.refused("GET", at(disputed))).why == (403, "agent_required")


async def test_a_decision_pays_out_whoever_is_right(
    market: Marketplace, olga: Caller, alice: Player, bob: Player, disputed: Json
) -> None:
    path = f"{ADMIN}/{disputed['id']}/decide"

    decided = await olga.post(path, decision("0.009", 1_000))
    again = await olga.post(path, decision(9_000, 1_000))

    assert (decided["status"], decided["cause"], decided["reason"]) == ("closed", "operator", WHY)
    assert (decided["final_balance_a"], decided["final_balance_b"]) == (9_000, 1_000)
    assert again["duplicate"] is True
    assert (await money(alice), await money(bob)) == ((99_000, 0), (1_000, 0))
    refused = await olga.refused("POST", path, decision(10_000, 0))
    assert (refused.why, refused.details) == ((409, "terminal_state"), {"status": "closed"})
    last = (await bob.get(at(disputed, "history")))[-1]
    assert (last["agent_id"], last["details"]["reason"]) == (None, WHY)
    assert (await bob.get(at(disputed, "receipt")))["document"]["reason"] == WHY
    await require_sound(market, locked=0)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (decision(DEPOSIT, 1), "sum_mismatch"),
        (decision(DEPOSIT - 1, 0), "sum_mismatch"),
        (decision(DEPOSIT + 1, -1), "invalid_amount"),
        (decision(1.5, DEPOSIT), "invalid_payload"),  # type: ignore[arg-type] # No float is money.
        (decision(DEPOSIT, 0, ""), "invalid_payload"),
        (decision(DEPOSIT, 0, "x" * 2_001), "invalid_payload"),
        ({"final_balance_a": DEPOSIT, "final_balance_b": 0}, "invalid_payload"),
    ],
)
async def test_a_decision_that_cannot_be_is_refused(olga: Caller, disputed: Json, body: Json, code: str) -> None:
    path = f"{ADMIN}/{disputed['id']}"

    assert (await olga.refused("POST", f"{path}/decide", body)).why == (422, code)
    assert (await olga.get(path))["status"] == "disputed"


async def test_only_what_is_disputed_or_lost_is_decided(
    market: Marketplace, olga: Caller, alice: Player, bob: Player
) -> None:
    waiting, channel = await pending(alice, bob), await accepted(alice, bob)
    for one in (waiting, channel):
        refused = await olga.refused("POST", f"{ADMIN}/{one['id']}/decide", decision(DEPOSIT, 0))
        assert (refused.why, refused.details) == ((409, "not_disputed"), {"status": one["status"]})
    await freeze(market, channel, alice, bob)
    market.clock.advance(days=99)  # There is no time-out.
    await market.server.timers.run_due()

    decided = await olga.post(f"{ADMIN}/{channel['id']}/decide", decision(DEPOSIT - 300, 300))

    assert (decided["status"], decided["cause"]) == ("closed", "operator")
    assert await money(bob) == (300, 0)


async def test_a_dispute_whose_time_is_over_is_not_decided_any_more(
    market: Marketplace, olga: Caller, bob: Player, disputed: Json
) -> None:
    market.clock.advance(days=1)

    refused = await olga.refused("POST", f"{ADMIN}/{disputed['id']}/decide", decision(DEPOSIT, 0))

    assert (refused.why, refused.details) == ((409, "terminal_state"), {"status": "closed"})
    await market.server.timers.run_due()
    assert await money(bob) == (400, 0)


async def test_a_frozen_channel_takes_a_joint_close_and_nothing_else(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    channel = await accepted(alice, bob)
    frozen = await freeze(market, channel, alice, bob)
    for who, event, body in (
        (alice, "deposit", {"amount": 1}),
        (alice, "force-close", None),
        (bob, "dispute", {"reason": "no"}),
        (alice, "propose_transfer", paying.proposal(frozen, alice.seed, from_agent_id=alice.id, amount=1)),
    ):
        refused = await who.refused("POST", at(channel, event), body)
        assert (refused.why, refused.details) == ((409, "state_lost"), {"known_nonce": 5, "last_nonce": 5})

    closed = await close(channel, alice, bob, (DEPOSIT - 300, 300))

    assert (closed["cause"], closed["last_nonce"]) == ("joint_close", 5)
    await require_sound(market, locked=0)


async def test_decisions_are_idempotent_by_key(market: Marketplace, olga: Caller, bob: Player, disputed: Json) -> None:
    path, headers = f"{ADMIN}/{disputed['id']}/decide", {"idempotency-key": "d"}

    first = await olga.post(path, decision(DEPOSIT, 0), headers=headers)
    assert await olga.post(path, decision(DEPOSIT, 0), headers=headers) == first
    refused = await olga.refused("POST", path, decision(0, DEPOSIT), headers=headers)

    assert refused.why == (422, "idempotency_mismatch")
    assert await money(bob) == (0, 0)
