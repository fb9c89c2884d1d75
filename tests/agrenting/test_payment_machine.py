"""Payment channels over real sockets, under honest and scrambled moves in any order, beside a model of their own.

Alice and Bob have two channels, several sockets each, and REST. After every step both are shown the same, which is what
the model says, and the ledger holds what is theirs; what is refused changes nothing. So what is paid out comes from
deposits, doubly signed transfers, a doubly signed close or an operator's decision, which the histories prove again.
"""

import asyncio
import copy
import itertools
import json
from collections import Counter
from typing import ClassVar

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from crypto import generate_secret_key, parse_public_key, verify_history, verify_receipt
from tests.agrenting.api.market import Player
from tests.agrenting.payment_hand import BY_REST, PAY, PICKS, PURSE, REST, SOCKETS, WISHES, Hand, Wish
from tests.agrenting.payment_model import DAY_S, FINAL, Ink, Json, Model, Move, Pair
from tests.agrenting.payment_wire import Wire
from tests.system.harness import Client, Refused

MOVES_BEFORE_LONG_WAITS, MOVES_BEFORE_BLOCK = 15, 30
"""What ends channels comes late, so that something has happened in them before."""

HOUR_S = 3_600

Outcome = tuple[bool | None, str]
"""Whether a move had an effect (None: its answer does not say), and what was answered, in one word."""


class PaymentMachine(RuleBasedStateMachine):
    """Two channels of Alice and Bob, who are honest or not."""

    wire: ClassVar[Wire]
    answers: ClassVar[Counter[str]]
    examples: ClassVar["itertools.count[int]"]

    def __init__(self) -> None:
        super().__init__()
        self.models: list[Model] = []
        self.snapshots: list[Json] = []
        self.sent: list[tuple[int, Move]] = []
        self.decisions: dict[str, Pair] = {}
        self.held: list[Json] = []
        self.has_blocked = False

    # How it begins and ends.

    @initialize(
        modes=st.sampled_from(
            [("online", "online"), ("online", "offline"), ("offline", "offline"), ("offline", "online")]
        ),
        windows=st.sampled_from([DAY_S, 3 * DAY_S]),
        deposit=st.sampled_from([5, 1_000, 1_000, 1_000]),
        counter=st.sampled_from([300, 300, 300, 300, 300, 0, None]),
    )
    def begin(self, modes: tuple[str, str], windows: int, deposit: int, counter: int | None) -> None:
        self.wire.run(self._begin(modes, windows, deposit, counter))

    async def _begin(self, modes: tuple[str, str], window_s: int, deposit: int, counter: int | None) -> None:
        market, number = self.wire.market, next(self.examples)
        for owner in ("alice", "bob"):
            await market.user(f"{owner}{number}")
        operator = await market.user(f"olga{number}", is_operator=True)
        self.operator_key = operator.headers["x-api-key"]
        alice = await market.agent(f"alice{number}", "Client", deposit=PURSE)
        bob = await market.agent(f"bob{number}", "Translator", deposit=PURSE, is_global=True)
        self.players: tuple[Player, Player] = (alice, bob)
        self.ink = Ink(alice.domain, (alice.id, bob.id), (alice.seed, bob.seed, generate_secret_key()))
        self.hand = Hand(self.ink, self.models)
        purses = [PURSE, PURSE]
        for mode in modes:
            body = {"counterparty_agent_id": bob.id, "deposit": deposit, "mode": mode, "window_s": window_s}
            channel = await alice.post("/payment-channels", body)
            self.models.append(Model(self.ink, channel, now=self.wire.clock(), purses=purses))
            self.snapshots.append(channel)
        await self._connect()
        if counter is not None:
            for number in (0, 1):
                await self._act_and_compare(
                    number, Move(who=1, event="accept", payload={"deposit": counter}, door=REST)
                )

    async def _connect(self) -> None:
        """Each agent's sockets, and one more that only listens."""
        keys = [player.api_key for player in self.players]
        self.sockets = [[await self.wire.open_socket(key) for _ in range(SOCKETS)] for key in keys]
        self.knowing = [await self.wire.open_socket(key) for key in keys]
        self.watching = [await self.wire.open_socket(key) for key in keys]
        clients = [*itertools.chain(*self.sockets), *self.watching]
        await asyncio.gather(*(client.join(_topic(model)) for client in clients for model in self.models))
        self.told_before = [len(model.completed) for model in self.models]
        self.ended_before = [model.status == "closed" for model in self.models]

    def teardown(self) -> None:
        if self.models:
            self.wire.run(self._end())

    async def _end(self) -> None:
        try:
            await self._require_held()
            for number, model in enumerate(self.models):
                await self._require_proved(number, model)
        finally:
            await self.wire.close_sockets()

    # What they do.

    @rule(wish=WISHES, is_answered=st.sampled_from([True, True, True, False]))
    def does(self, wish: Wish, *, is_answered: bool) -> None:
        """One of the two does something; or pays honestly, once what was pending is answered."""
        if wish.event == PAY:
            self._pay(wish, is_answered=is_answered)
        else:
            self._do(wish.number, self.hand.move(wish))

    @rule(wish=WISHES)
    def pays(self, wish: Wish) -> None:
        """An honest transfer, on its way more often than anything else."""
        self._pay(wish, is_answered=True)

    @rule(number=st.integers(0, 1), who=st.integers(0, 1), amount=st.sampled_from([1, 5, 100]), wish=WISHES)
    def deposits(self, number: int, who: int, amount: int, wish: Wish) -> None:
        """More money, and then something that was perhaps signed before it."""
        stale = self.hand.move(msgspec.structs.replace(wish, number=number, event=PAY, lie=""))
        self._do(number, Move(who=who, event="deposit", payload={"amount": amount}, door=REST))
        self._do(number, stale)

    @precondition(lambda self: len(self.sent) > MOVES_BEFORE_LONG_WAITS)
    @rule(wish=WISHES, is_withdrawn=st.booleans())
    def disputes(self, wish: Wish, *, is_withdrawn: bool) -> None:
        """Each may once; perhaps it is taken back, by somebody."""
        self._do(wish.number, self.hand.move(msgspec.structs.replace(wish, event="dispute")))
        if is_withdrawn:
            who = wish.who if wish.pick % 4 else 1 - wish.who
            self._do(wish.number, self.hand.move(msgspec.structs.replace(wish, event="withdraw_dispute", who=who)))

    def _pay(self, wish: Wish, *, is_answered: bool) -> None:
        honest = msgspec.structs.replace(wish, event=PAY, lie="", amount=abs(wish.amount) or 1)
        if self.models[wish.number].proposal is not None:
            self._answer(honest)
        self._do(wish.number, self.hand.move(honest))
        if is_answered and self.models[wish.number].is_online:
            self._answer(honest)

    def _answer(self, wish: Wish) -> None:
        """Who is to be paid acknowledges what is proposed, or seldom rejects it."""
        proposal = self.models[wish.number].proposal
        who = wish.who if proposal is None else 1 - proposal.payer
        event = "acknowledge_transfer" if wish.pick % 5 else "reject_transfer"
        self._do(wish.number, self.hand.move(msgspec.structs.replace(wish, event=event, who=who)))

    @rule(wishes=st.lists(WISHES, min_size=2, max_size=4), is_repeated=st.booleans())
    def storms(self, wishes: list[Wish], *, is_repeated: bool) -> None:
        """Several moves at once on one channel, by both, over all their doors; or the same one over each."""
        number = wishes[0].number
        moves = [self.hand.move(msgspec.structs.replace(wish, number=number)) for wish in wishes]
        if is_repeated:
            moves = [msgspec.structs.replace(moves[0], door=door) for door in self.hand.doors(moves[0])]
        self._storm(number, moves)

    @rule(wishes=st.lists(WISHES, min_size=2, max_size=2), amount=st.sampled_from([1, 5]))
    def both_propose_at_once(self, wishes: list[Wish], amount: int) -> None:
        """Each proposes to the other."""
        online = [number for number, model in enumerate(self.models) if model.is_online]
        for number in online[:1]:
            self._storm(
                number,
                [
                    self.hand.move(
                        msgspec.structs.replace(
                            wish, number=number, who=who, event="propose_transfer", lie="", amount=amount
                        )
                    )
                    for who, wish in enumerate(wishes)
                ],
            )

    @precondition(lambda self: self.sent)
    @rule(
        pick=PICKS,
        door=st.integers(0, REST),
        is_other=st.booleans(),
        is_elsewhere=st.sampled_from([False] * 3 + [True]),
    )
    def replays(self, pick: int, door: int, *, is_other: bool, is_elsewhere: bool) -> None:
        """Something that was sent before comes again, perhaps from the other one, or to the other channel."""
        number, move = self.sent[pick % len(self.sent)]
        who = 1 - move.who if is_other else move.who
        again = msgspec.structs.replace(move, who=who, door=REST if move.event in BY_REST else door)
        if move.event == "phx_join" or (move.event == "submit_transfers" and door == REST):
            again = msgspec.structs.replace(again, door=door % SOCKETS)
        self._do(1 - number if is_elsewhere else number, again)

    @rule(
        seconds=st.sampled_from([1, 1, 299, 299, 300, HOUR_S, DAY_S - 300, DAY_S, 3 * DAY_S]),
        then=st.sampled_from(["", "", "timers", "timers", "timers", "restart"]),
    )
    def waits(self, seconds: int, then: str) -> None:
        """Time passes; timers may be late, and the server may stop and start again."""
        is_early = len(self.sent) < MOVES_BEFORE_LONG_WAITS
        self.wire.clock.advance(seconds=min(seconds, HOUR_S) if is_early else seconds)
        for model in self.models:
            model.tick(self.wire.clock())
        if then == "restart":
            self.wire.restart()
            self.wire.run(self._connect())
        if then:
            self.wire.run_timers()

    @rule(number=st.integers(0, 1), pick=PICKS, is_wrong=st.booleans())
    def an_operator_decides(self, number: int, pick: int, *, is_wrong: bool) -> None:
        """Perhaps where there is nothing to decide."""
        model = self.models[number]
        finals = self.hand.finals(model, pick)
        body = {"final_balance_a": finals[0] + is_wrong, "final_balance_b": finals[1], "reason": "So be it."}
        operator = self.wire.market.with_key(self.operator_key)
        path = f"/admin/payment-channels/{model.id}/decide"
        answer = self.wire.run(operator.call("POST", path, json=body))
        was_final = model.finals is not None
        has_effect = model.decide((finals[0] + is_wrong, finals[1]))
        assert has_effect == (answer.status_code == 200 and not was_final), answer.text
        if has_effect:
            self.decisions[model.id] = finals

    @precondition(lambda self: len(self.sent) > MOVES_BEFORE_BLOCK and not self.has_blocked)
    @rule()
    def alice_blocks_bob(self) -> None:
        """Late, because much ends with it."""
        self.has_blocked = True
        alice, bob = self.players
        self.wire.run(alice.post("/agent/contacts/block", {"handle": bob.handle}))
        for model in self.models:
            model.revoke()

    # What always holds.

    @invariant()
    def both_see_the_same_which_is_as_it_should_be(self) -> None:
        if self.models:
            self.wire.run(self._look())

    async def _look(self) -> None:
        for number, model in enumerate(self.models):
            first, second = [await sockets[-1].join(_topic(model)) for sockets in self.sockets]
            assert first == second
            view = model.view()
            assert model.seen(first) == view
            if view == model.seen(self.snapshots[number]):
                assert first == self.snapshots[number], "what is refused, or was done before, changes nothing"
            assert first["balance_a"] + first["balance_b"] == first["deposit_a"] + first["deposit_b"]
            assert first["next_nonce"] == first["last_nonce"] + 1
            self.snapshots[number] = first
        await self._require_told()
        held = [self._held(who) for who in (0, 1)]
        if held != self.held:  # What the ledger holds besides would still be there at the end, and is found then.
            await self._require_held()
        self.held = held

    def _held(self, who: int) -> Json:
        """What one of the two has, outside of channels and in them."""
        locked = sum(model.locked[who] for model in self.models)
        available = self.models[0].purses[who]
        return {"available": available, "channels": locked, "escrow": 0, "total": available + locked}

    async def _require_held(self) -> None:
        for who, player in enumerate(self.players):
            assert (await player.get("/ledger/balance")).items() >= self._held(who).items()

    async def _require_told(self) -> None:
        """Who listens has heard of every transfer and of the close, once each, whatever went on around it."""
        for client in self.watching:
            await client.flush()
            for number, model in enumerate(self.models):
                heard = [(event, told) for topic, event, told in client.inbox if topic == _topic(model)]
                complete = [told["nonce"] for event, told in heard if event == "transfer_complete"]
                assert complete == model.completed[self.told_before[number] :]
                closed = [told["channel"]["status"] for event, told in heard if event == "channel_closed"]
                assert closed == ["closed"] * (model.status == "closed" and not self.ended_before[number])

    # How a move is made.

    def _do(self, number: int, move: Move) -> None:
        self.wire.run(self._act_and_compare(number, move))

    async def _act_and_compare(self, number: int, move: Move) -> None:
        """Make a move, and hold it against the model; if it has no effect, nothing has changed."""
        model = self.models[number]
        self.sent.append((number, move))
        nonce = model.last_nonce
        expected = model.apply(move)
        has_effect, word = await self._send(model, move)
        assert has_effect in {expected, None}, f"{move} was answered with {word}"
        grown = model.last_nonce - nonce
        assert grown in {0, 1} or move.event in {"submit_transfers", "dispute", "phx_join"}

    def _storm(self, number: int, moves: list[Move]) -> None:
        """Make moves at once; what comes of it is what would of them in one order or another."""
        model = self.models[number]
        self.sent += [(number, move) for move in moves]

        async def all_at_once() -> list[Outcome]:
            answers = await asyncio.gather(*(self._send(model, move) for move in moves))
            now = await self.sockets[0][0].join(_topic(model))
            return [*answers, (True, json.dumps(now))]

        *outcomes, (_, after) = self.wire.run(all_at_once())
        effects = [has_effect for has_effect, _ in outcomes]
        for order in itertools.permutations(range(len(moves))):
            shadow = self._shadow()
            foreseen = {index: shadow[number].apply(moves[index]) for index in order}
            if any(effect not in {foreseen[index], None} for index, effect in enumerate(effects)):
                continue
            if shadow[number].seen(json.loads(after)) == shadow[number].view():
                self.models[:] = shadow
                return
        raise AssertionError(f"no order explains {outcomes} of {moves}: {after}")

    def _shadow(self) -> list[Model]:
        """The models once more, to try something with; both share their purses, and the ink stays the same."""
        memo = {id(self.ink): self.ink}
        return copy.deepcopy(self.models, memo)

    async def _send(self, model: Model, move: Move) -> Outcome:
        """Send a move through its door."""
        try:
            if move.door == REST:
                reply = await self._by_rest(model, move)
            else:
                reply = await self._by_socket(model, move, self.sockets[move.who][move.door])
        except Refused as refused:
            self.answers[refused.reason] += 1
            return False, refused.reason
        if move.event == "phx_join":
            return None, "joined"
        is_idle = reply.get("duplicate") or reply.get("applied") == 0
        self.answers["duplicate" if is_idle else move.event] += 1
        return not is_idle, "duplicate" if is_idle else "ok"

    async def _by_socket(self, model: Model, move: Move, client: Client) -> Json:
        if move.event == "phx_join":  # One that is refused leaves the socket without the topic: so it has its own.
            reply: Json = await self.knowing[move.who].join(_topic(model), move.payload)
        else:
            reply = await client.push(_topic(model), move.event, move.payload)
        return reply

    async def _by_rest(self, model: Model, move: Move) -> Json:
        path = f"/payment-channels/{model.id}/{move.event.replace('force_', 'force-')}"
        answer = await self.players[move.who].call("POST", path, json=move.payload)
        if answer.is_error:
            error = answer.json()["error"]
            raise Refused({"reason": error["code"], **error.get("details", {})})
        reply: Json = answer.json()["data"]
        return reply

    # What is proved at the end.

    async def _require_proved(self, number: int, model: Model) -> None:
        """The history verifies, and what was paid out follows from what both have signed, or an operator has said."""
        channel = await self.players[0].get(f"/payment-channels/{model.id}")
        meta = await self.wire.market.anybody.get("/meta")
        keys = {
            "platform_key": parse_public_key(meta["platform"]["public_key"]),
            "opener_key": parse_public_key(channel["public_key_a"]),
            "counterparty_key": parse_public_key(channel["public_key_b"]),
        }
        path = f"/payment-channels/{model.id}"
        exported = await self.players[number].call("GET", f"{path}/history", headers={"accept": "application/jsonl"})
        lines = [json.loads(line) for line in exported.text.splitlines()]
        assert verify_history(lines, **keys).unproven == ()
        balances = self.ink.balances_after(model.id, lines[1:-1])
        if channel["status"] != "closed":
            refused = await self.players[0].refused("GET", f"{path}/receipt")
            assert refused.why == (409, "not_closed")
            assert channel["status"] not in FINAL or channel["final_balance_a"] == model.deposits[0]
            return
        accept = {"accept": "application/agrenting-receipt+json"}
        receipt = (await self.players[1].call("GET", f"{path}/receipt", headers=accept)).json()
        assert verify_receipt(receipt, **keys).unproven == ()
        finals = (channel["final_balance_a"], channel["final_balance_b"])
        match channel["cause"]:
            case "joint_close":
                message = self.ink.close(model.id, channel["last_nonce"], finals)
                assert self.ink.is_signed(0, message, channel["close_signature_a"])
                assert self.ink.is_signed(1, message, channel["close_signature_b"])
            case "operator":
                assert finals == self.decisions[model.id]
            case cause:
                assert cause in {"force_close", "dispute_timeout"}
                assert finals == balances


def _topic(model: Model) -> str:
    return f"payment:{model.id}"


CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
USUAL = {
    *("propose_transfer", "acknowledge_transfer", "submit_transfers", "duplicate", "bad_transfer", "nonce_replayed"),
    *("transfer_pending", "wrong_mode", "channel_not_open"),
}
"""Answers that so many moves get; where one is missing, the machine does not do what it is there for."""

SELDOM = {
    *("reject_transfer", "deposit", "close", "dispute", "withdraw_dispute", "force_close", "terminal_state"),
    *("invalid_signature", "no_pending_transfer", "insufficient_channel_balance", "amount_out_of_range"),
    *("contact_revoked", "state_lost", "forbidden_role", "dispute_used", "not_disputed"),
}
"""The same of very many moves."""


def run(*, examples: int, steps: int, answers_to_meet: set[str]) -> None:
    """Run the machine on one server; its books are in order at the end."""
    wire, answers = Wire(), Counter[str]()
    try:
        names = {"wire": wire, "answers": answers, "examples": itertools.count()}
        run_state_machine_as_test(
            type("OnThisWire", (PaymentMachine,), names),
            settings=settings(
                max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=CHECKS
            ),
        )
        assert wire.doctor() == []
    finally:
        wire.close()
    assert answers.keys() >= answers_to_meet


@pytest.mark.timeout(600)
def test_whatever_the_two_send_over_sockets_only_what_both_signed_is_paid() -> None:
    run(examples=12, steps=30, answers_to_meet=USUAL)


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_whatever_the_two_send_for_long_only_what_both_signed_is_paid() -> None:
    run(examples=150, steps=60, answers_to_meet=USUAL | SELDOM)
