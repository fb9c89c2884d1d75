"""Disputes of tasks by REST: Alice disputes, Olga decides, Bob's reputation follows, and the books balance."""

import base64
import hashlib
from typing import Any

import pytest

from agrenting.db import ledger
from agrenting.db.transaction import WriterTx
from tests import paying
from tests.agrenting.api.market import PRICE, Caller, Marketplace, Player
from tests.agrenting.api.payers import accepted, at, propose

Json = dict[str, Any]

FEE = 50
WITH = 100_000
HOUR_S, WEEK_S = 3_600, 604_800
WORDS = b"hallo welt"


async def hired(alice: Player, bob: Player, **changed: Any) -> str:
    """A task at the list price; its path."""
    body = {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE, **changed}
    task = await alice.post("/tasks", body)
    return f"/tasks/{task['id']}"


async def delivered(alice: Player, bob: Player) -> str:
    """A task whose output is verified."""
    path = await hired(alice, bob)
    await bob.post(f"{path}/output_stream", {"chunk": WORDS.decode(), "seq": 0})
    checksum = hashlib.sha256(WORDS).hexdigest()
    await bob.post(f"{path}/output_complete", {"checksum": checksum, "total_size": len(WORDS)})
    return path


async def completed(alice: Player, bob: Player, **changed: Any) -> str:
    """A task that is completed, and whose price is held."""
    path = await hired(alice, bob, **changed)
    await bob.post(f"{path}/complete", {"result": 1})
    return path


async def disputed(alice: Player, bob: Player) -> str:
    """A task that Alice disputes after one chunk."""
    path = await hired(alice, bob)
    await bob.post(f"{path}/output_stream", {"chunk": "hallo", "seq": 0})
    await alice.post(f"{path}/dispute", {"reason": "bad words"})
    return path


async def run_timers(market: Marketplace, seconds: float) -> None:
    market.clock.advance(seconds=seconds)
    await market.server.timers.run_due()


async def doctor(market: Marketplace) -> list[str]:
    return await market.server.database.read(ledger.doctor)


async def standing(market: Marketplace, agent: Player) -> tuple[int, int, int]:
    """Completed, failed, and hundredths of reputation, as strangers find them."""
    card = await market.with_key(agent.api_key).get(f"/agents/{agent.id}")
    return card["tasks_completed"], card["tasks_failed"], round(card["reputation"] * 100)


async def money(market: Marketplace, alice: Player, bob: Player) -> tuple[int, int]:
    """What both can spend; the books balance."""
    assert await doctor(market) == []
    balances = [await who.get("/ledger/balance") for who in (alice, bob)]
    return balances[0]["available"], balances[1]["available"]


class TestHolding:
    async def test_the_price_of_a_completed_task_is_still_escrow(
        self, market: Marketplace, olga: Caller, alice: Player, bob: Player
    ) -> None:
        path = await completed(alice, bob)

        balance = await alice.get("/ledger/balance")
        assert (balance["available"], balance["escrow"], balance["total"]) == (WITH - PRICE, PRICE, WITH)
        assert (await olga.get("/admin/ledger"))["escrow"] == PRICE
        assert await doctor(market) == []

        released = await alice.post(f"{path}/release")

        assert released["escrow_status"] == "released"
        assert (await alice.get("/ledger/balance"))["escrow"] == 0
        assert await money(market, alice, bob) == (WITH - PRICE, PRICE - FEE)
        assert (await alice.post(f"{path}/release"))["duplicate"] is True

    async def test_the_clock_releases_it(self, market: Marketplace, alice: Player, bob: Player) -> None:
        path = await completed(alice, bob)

        await run_timers(market, HOUR_S)

        assert (await alice.get(path))["escrow_status"] == "released"
        assert await money(market, alice, bob) == (WITH - PRICE, PRICE - FEE)

    async def test_neither_can_be_deleted_meanwhile(self, market: Marketplace, alice: Player, bob: Player) -> None:
        path = await completed(alice, bob)
        owner = market.with_key(market.user_keys["bob"])

        assert (await owner.refused("DELETE", f"/agents/{bob.id}")).why == (409, "agent_in_use")
        await alice.post(f"{path}/dispute", {"reason": "bad words"})
        assert (await owner.refused("DELETE", f"/agents/{bob.id}")).why == (409, "agent_in_use")

    async def test_streams_are_kept_for_a_week(self, market: Marketplace, alice: Player, bob: Player) -> None:
        path = await delivered(alice, bob)
        await bob.post(f"{path}/complete", {})
        await alice.post(f"{path}/release")
        query = {"direction": "output"}
        assert len(await alice.get(f"{path}/chunks", params=query)) == 1

        await run_timers(market, WEEK_S)

        page = await alice.page(f"{path}/chunks", params=query)
        assert (page["data"], page["metadata"]["has_more"]) == ([], False)

    @pytest.mark.parametrize(("seconds", "why"), [(-1, 422), (WEEK_S + 1, 422)])
    async def test_is_within_a_week(self, alice: Player, bob: Player, seconds: int, why: int) -> None:
        body = {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE, "hold_seconds": seconds}

        assert (await alice.refused("POST", "/tasks", body)).why == (why, "hold_out_of_range")


class TestDisputing:
    async def test_locks_the_price(self, market: Marketplace, alice: Player, bob: Player) -> None:
        path = await disputed(alice, bob)

        for who, event, body in ((alice, "release", None), (alice, "cancel", {}), (bob, "complete", {"result": 1})):
            assert (await who.refused("POST", f"{path}/{event}", body)).why == (423, "escrow_locked")
        assert await money(market, alice, bob) == (WITH - PRICE, 0)
        assert (await alice.get("/ledger/balance"))["escrow"] == PRICE

    async def test_is_refused_to_others_and_at_other_times(self, alice: Player, bob: Player, mallory: Player) -> None:
        path, body = await hired(alice, bob), {"reason": "bad words"}

        assert (await alice.refused("POST", f"{path}/dispute", body)).why == (409, "not_started")
        assert (await bob.refused("POST", f"{path}/dispute", body)).why == (403, "forbidden_role")
        assert (await mallory.refused("POST", f"{path}/dispute", body)).why == (404, "not_found")
        assert (await alice.refused("POST", f"{path}/release")).why == (409, "not_completed")

    async def test_after_the_hold_is_too_late(self, market: Marketplace, alice: Player, bob: Player) -> None:
        path = await completed(alice, bob)
        market.clock.advance(seconds=HOUR_S)

        assert (await alice.refused("POST", f"{path}/dispute", {"reason": "no"})).why == (410, "expired")

    async def test_of_nothing_gives_the_price_back_and_lowers_nobody(
        self, market: Marketplace, alice: Player, bob: Player
    ) -> None:
        path = await hired(alice, bob)
        await bob.post(f"{path}/progress", {"percent": 1})

        settled = await alice.post(f"{path}/dispute", {"reason": "nothing came"})

        assert (settled["status"], settled["settlement"]["decided_by"]) == ("failed", "automatic")
        assert await money(market, alice, bob) == (WITH, 0)
        assert await standing(market, bob) == (0, 0, 350)

    async def test_the_clock_decides_in_the_end(self, market: Marketplace, alice: Player, bob: Player) -> None:
        lost, won = await disputed(alice, bob), await delivered(alice, bob)
        await alice.post(f"{won}/dispute", {"reason": "bad words"})

        await run_timers(market, WEEK_S)

        assert [(await alice.get(path))["status"] for path in (lost, won)] == ["failed", "completed"]
        assert await money(market, alice, bob) == (WITH - PRICE, PRICE - FEE)
        assert sum((await standing(market, bob))[:2]) == 1, "one outcome for each client owner and day"


class TestDeciding:
    @pytest.mark.parametrize(
        ("body", "left", "stands"),
        [
            ({"decision": "client"}, (WITH, 0), (0, 1, 292 - 15)),
            ({"decision": "provider"}, (WITH - PRICE, PRICE - FEE), (1, 0, 375 + 10)),
            ({"decision": "split", "client_bps": 3_333}, (WITH - PRICE + 333, 667 - 33), (1, 0, 375 - 5)),
        ],
        ids=["client", "provider", "split"],
    )
    @pytest.mark.parametrize("was_completed", [False, True])
    async def test_moves_money_and_reputation(  # noqa: PLR0917 - pytest hands in what it names
        self,
        market: Marketplace,
        olga: Caller,
        alice: Player,
        bob: Player,
        body: Json,
        left: tuple[int, int],
        stands: tuple[int, int, int],
        *,
        was_completed: bool,
    ) -> None:
        if was_completed:
            path = await completed(alice, bob)
            assert await standing(market, bob) == (1, 0, 375)
            await alice.post(f"{path}/dispute", {"reason": "bad words"})
        else:
            path = await disputed(alice, bob)

        settled = await olga.post(f"/admin{path}/decide", {**body, "reason": "So be it."})

        assert (settled["settlement"]["decided_by"], settled["settlement"]["reason"]) == ("operator", "So be it.")
        assert await alice.get(path) == settled
        assert await money(market, alice, bob) == left
        assert await standing(market, bob) == stands
        again = await olga.post(f"/admin{path}/decide", {**body, "reason": "So be it."})
        assert again == {**settled, "duplicate": True}
        assert await standing(market, bob) == stands

    async def test_corrects_only_what_was_counted(
        self, market: Marketplace, olga: Caller, alice: Player, bob: Player
    ) -> None:
        """The second of a day was passed over at its end, so its loss, another day, is no failure of that day."""
        first, second = await completed(alice, bob), await completed(alice, bob, hold_seconds=WEEK_S)
        await alice.post(f"{first}/release")
        await alice.post(f"{second}/dispute", {"reason": "bad words"})
        await run_timers(market, 2 * 86_400)

        await olga.post(f"/admin{second}/decide", {"decision": "client", "reason": "So be it."})

        assert await standing(market, bob) == (1, 0, 375 - 15)
        assert await doctor(market) == []

    async def test_what_waits_is_listed_oldest_first(self, olga: Caller, alice: Player, bob: Player) -> None:
        paths = [await disputed(alice, bob) for _ in range(3)]
        await hired(alice, bob)
        await olga.post(f"/admin{paths[1]}/decide", {"decision": "client", "reason": "So be it."})

        first = await olga.page("/admin/tasks", params={"limit": "1"})
        rest = await olga.page("/admin/tasks", params={"cursor": first["metadata"]["next_cursor"]})

        assert [f"/tasks/{task['id']}" for task in first["data"] + rest["data"]] == [paths[0], paths[2]]
        assert rest["metadata"]["has_more"] is False

    async def test_an_operator_reads_the_task_and_what_came(self, olga: Caller, alice: Player, bob: Player) -> None:
        path = await disputed(alice, bob)
        await bob.post(f"{path}/output_stream", {"chunk": "!", "seq": 2})

        assert await olga.get(f"/admin{path}") == await alice.get(path)
        query = {"direction": "output", "limit": "1"}
        first = await olga.page(f"/admin{path}/chunks", params=query)
        last = await olga.page(f"/admin{path}/chunks", params={**query, "from": first["metadata"]["next_cursor"]})
        shown = [(chunk["seq"], base64.b64decode(chunk["chunk"])) for chunk in first["data"] + last["data"]]
        assert shown == [(0, b"hallo"), (2, b"!")]
        assert last["metadata"]["has_more"] is False

    async def test_what_is_not_disputed_is_not_decided(
        self, market: Marketplace, olga: Caller, alice: Player, bob: Player
    ) -> None:
        body = {"decision": "client", "reason": "So be it."}
        path = await hired(alice, bob)
        assert (await olga.refused("POST", f"/admin{path}/decide", body)).why == (409, "not_disputed")
        assert (await olga.refused("POST", "/admin/tasks/nothing/decide", body)).why == (404, "not_found")
        for address in ("/admin/tasks/nothing", "/admin/tasks/nothing/chunks?direction=output"):
            assert (await olga.refused("GET", address)).why == (404, "not_found")
        path = await disputed(alice, bob)
        refused = await olga.refused("POST", f"/admin{path}/decide", {**body, "decision": "split"})
        assert (refused.why, [*refused.details]) == ((422, "invalid_payload"), ["/client_bps"])
        market.clock.advance(seconds=WEEK_S)
        assert (await olga.refused("POST", f"/admin{path}/decide", body)).why == (410, "expired")

    async def test_only_operators_decide(self, alice: Player, bob: Player) -> None:
        path = await disputed(alice, bob)

        for who in (alice, bob):
            refused = await who.refused("POST", f"/admin{path}/decide", {"decision": "client", "reason": "Mine."})
            assert refused.why[0] == 403
            assert (await who.refused("GET", "/admin/tasks")).why[0] == 403


class TestBanning:
    @pytest.mark.parametrize("banned", ["client", "provider"])
    async def test_disputes_what_was_delivered(
        self, market: Marketplace, olga: Caller, alice: Player, bob: Player, banned: str
    ) -> None:
        running, done, begun = await delivered(alice, bob), await completed(alice, bob), await hired(alice, bob)
        await bob.post(f"{begun}/output_stream", {"chunk": "hal", "seq": 0})

        await olga.post(f"/admin/agents/{(alice if banned == 'client' else bob).id}/ban")

        tasks = [await olga.get(f"/admin{path}") for path in (running, done, begun)]
        after = "completed" if banned == "client" else "disputed"
        assert [task["status"] for task in tasks] == ["disputed", after, "cancelled"]
        assert (tasks[0]["dispute"]["opened_by"], tasks[0]["dispute"]["reason"]) == (None, "banned")
        assert await doctor(market) == []

        await run_timers(market, WEEK_S)

        tasks = [await olga.get(f"/admin{path}") for path in (running, done, begun)]
        assert [task["escrow_status"] for task in tasks] == ["released", "released", "refunded"]
        assert await doctor(market) == []


class TestStreamPrice:
    async def test_output_is_paid_over_a_channel_as_it_streams(
        self, market: Marketplace, alice: Player, bob: Player
    ) -> None:
        channel = await accepted(alice, bob)
        path = await self.streaming(alice, bob, channel)
        task_id = path.removeprefix("/tasks/")
        await bob.post(f"{path}/output_stream", {"chunk": "eins", "seq": 0})
        refused = await bob.refused("POST", f"{path}/output_stream", {"chunk": "zwei", "seq": 1})
        assert (refused.why, refused.details["due"]) == ((409, "payment_due"), PRICE)

        proposed = await propose(channel, alice, PRICE, task_id=task_id)
        body = paying.acknowledgement(proposed, bob.seed, proposed["pending_proposal"])
        await bob.post(at(channel, "acknowledge_transfer"), body)

        stored = await bob.post(f"{path}/output_stream", {"chunk": "zwei", "seq": 1})
        assert (stored["units"], stored["paid_up_to"]) == (2, 1)
        shown = await alice.get(path)
        assert (shown["paid"], shown["stream_price"]["amount"], shown["escrow_status"]) == (PRICE, PRICE, "none")
        assert await doctor(market) == []

    async def test_the_amount_is_money_in_both_forms(self, alice: Player, bob: Player) -> None:
        channel = await accepted(alice, bob)

        path = await self.streaming(alice, bob, channel, amount="0.001")

        assert (await alice.get(path))["stream_price"]["amount"] == 1_000
        body = self.body(bob, channel, amount="0.0000001")
        refused = await alice.refused("POST", "/tasks", body)
        assert (refused.why, [*refused.details]) == ((422, "invalid_amount"), ["/stream_price/amount"])

    async def test_needs_an_open_channel_of_the_two(self, alice: Player, bob: Player) -> None:
        channel = await accepted(alice, bob)
        unknown = await alice.refused("POST", "/tasks", self.body(bob, {"id": "nothing"}))
        await alice.post(at(channel, "force-close"))

        assert unknown.why == (404, "not_found")
        assert (await alice.refused("POST", "/tasks", self.body(bob, channel))).why == (409, "channel_not_open")

    async def test_ends_with_the_contact(self, market: Marketplace, alice: Player, bob: Player) -> None:
        channel = await accepted(alice, bob)
        path = await self.streaming(alice, bob, channel)
        held = await hired(alice, bob)
        for begun in (path, held):
            await bob.post(f"{begun}/progress", {"percent": 1})
        handle = (await bob.get("/agent/me"))["handle"]

        await alice.post("/agent/contacts/block", {"handle": handle})

        assert [(await alice.get(one))["status"] for one in (path, held)] == ["cancelled", "in_progress"]
        assert await doctor(market) == []

    async def test_the_doctor_finds_what_was_not_paid(self, market: Marketplace, alice: Player, bob: Player) -> None:
        path = await self.streaming(alice, bob, await accepted(alice, bob))

        await spoil(market, path, "$.paid", 5)

        (found,) = await doctor(market)
        assert "is paid 5 as it streams" in found

    @staticmethod
    def body(bob: Player, channel: Json, *, amount: int | str = PRICE) -> Json:
        price = {"amount": amount, "per": "chunk"}
        return {
            "provider_agent_id": bob.id,
            "capability": "translate",
            "channel_id": channel["id"],
            "stream_price": price,
        }

    async def streaming(self, alice: Player, bob: Player, channel: Json, *, amount: int | str = PRICE) -> str:
        task = await alice.post("/tasks", self.body(bob, channel, amount=amount))
        return f"/tasks/{task['id']}"


async def spoil(market: Marketplace, path: str, field: str, value: object) -> None:
    """Change a task's row behind the server's back."""

    def write(tx: WriterTx) -> None:
        tx.run(
            "UPDATE tasks SET state = json_set(state, :field, :value) WHERE id = :id",
            field=field,
            value=value,
            id=path.removeprefix("/tasks/"),
        )

    await market.server.database.write(write)


class TestTheDoctor:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("$.escrow_status", "released"),
            ("$.settlement.to_client", 334),
            ("$.settlement.fee", 34),
            ("$.settlement.decision", "client"),
            ("$.settlement.decided_by", "default"),
            ("$.is_countable", 0),
        ],
    )
    async def test_finds_a_spoilt_settlement(  # noqa: PLR0917 - pytest hands in what it names
        self, market: Marketplace, olga: Caller, alice: Player, bob: Player, field: str, value: object
    ) -> None:
        path = await disputed(alice, bob)
        await olga.post(f"/admin{path}/decide", {"decision": "split", "client_bps": 3_333, "reason": "So be it."})
        assert await doctor(market) == []

        await spoil(market, path, field, value)

        assert len(await doctor(market)) == 1

    @pytest.mark.parametrize(("field", "value"), [("$.escrow_status", "released"), ("$.price", PRICE - 1)])
    async def test_finds_a_spoilt_hold(
        self, market: Marketplace, alice: Player, bob: Player, field: str, value: object
    ) -> None:
        path = await completed(alice, bob)

        await spoil(market, path, field, value)

        assert await doctor(market)
