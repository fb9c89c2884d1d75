"""A payment channel as its two agents play with it, honestly unless a test says otherwise.

A `Play` is a `Stage` (payment_stage.py: one channel with its steps, its ledger and its timer) that

    keeps      what was decided last, in `last`: reply, changes and broadcasts, as the handler made them
    loads      just what the server's loader of that name would load, also for what is malformed
    signs      `proposal`, `closing`, `chain`, … are payloads of the channel as it stands
    moves      `propose`, `pay`, `hand_in`, `close`, `dispute`, … are whole honest moves
    refuses    `refused(who, event, …)` is the refusal, and requires that nothing has changed
    is there   `in_phase("closing")` is a channel that has come to that phase; PHASES has them all

Alice opens and is A, Bob is the counterparty and B; each has put 1,000 in. Time stands still until `wait`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
import pytest

from channels.changes import Mail, Spend
from channels.channel_steps import ChannelStep
from channels.errors import Refusal
from channels.handlers import Decision, Handler
from channels.identity import Identity
from channels.ledger import Entry
from channels.limits import Market
from channels.payment_disputes import DecideChannel, decide_channel
from channels.payment_opening import AcceptanceFacts
from channels.payment_state import Cause, ChannelFacts, Mode
from channels.task_state import Task
from channels.told import Broadcast
from tests import paying
from tests.channels.payment_stage import DAY_S, Json, Stage
from tests.channels.roles import ALICE, BOB, FRESH_ID, MARKET, Player, as_told, context

GARBAGE = "not a signature"
FORGED = "A" * 86 + "=="
"""Of the form of a signature, of nobody."""

OLGA = Identity(kind="user", user_id="olga", handle="olga", key_id="k", is_operator=True)
ONLINE: Final = Mode.ONLINE
OFFLINE: Final = Mode.OFFLINE


class Play(Stage):
    """A channel that Alice opens with Bob, who accepts it unless `counter_deposit` is None.

    Args:
        mode: Of the channel.
        window_s: Of a force-close.
        deposit: Alice's, in minor units.
        counter_deposit: Bob's.
        market: Its limits.
        channel_id: Of the channel.
    """

    def __init__(
        self,
        *,
        mode: Mode = ONLINE,
        window_s: int = DAY_S,
        deposit: int = 1_000,
        counter_deposit: int | None = 1_000,
        market: Market = MARKET,
        channel_id: str = FRESH_ID,
    ) -> None:
        self.last = Decision()
        self.tasks: dict[str, Task] = {}
        super().__init__(
            mode=mode,
            window_s=window_s,
            deposit=deposit,
            counter_deposit=counter_deposit,
            market=market,
            channel_id=channel_id,
        )

    # What is sent

    def act(self, who: Player, event: str, /, **payload: Any) -> Decision:
        """What is decided on an event, and carried out; a refusal is raised."""
        self.send(who, event, **payload)
        return self.last

    def refused(self, who: Player, event: str, /, **payload: Any) -> Refusal:
        """The refusal of an event, which must leave everything as it is."""
        return self.refuses(lambda: self.send(who, event, **payload))

    def refuses(self, act: Callable[[], object]) -> Refusal:
        """The refusal of what somebody does, which must leave everything as it is."""
        before = self.everything()
        with pytest.raises(Refusal) as caught:
            act()
        assert self.everything() == before, "a refusal changes nothing"
        return caught.value

    def repeats(self, who: Player, event: str, /, **payload: Any) -> Json:
        """The reply to a duplicate, which must leave everything as it is."""
        before = self.everything()
        reply = self.send(who, event, **payload)
        assert self.everything() == before, "a duplicate changes nothing"
        assert (self.last.state, self.last.changes, self.last.broadcasts) == (None, (), ())
        outcome = {name: told for name, told in reply.items() if name == "outcome"}
        assert reply == {**self.snapshot, **outcome, "duplicate": True}
        return reply

    # What was decided last

    def told_last(self) -> list[Broadcast]:
        """The broadcasts of the last decision."""
        return [told for told in self.last.broadcasts if isinstance(told, Broadcast)]

    def told_once(self) -> Broadcast:
        """The only broadcast of the last decision."""
        (told,) = self.told_last()
        return told

    def entries(self) -> list[tuple[str, dict[str, int]]]:
        """The ledger entries of the last decision: kind, and what each account gets."""
        return [
            (entry.kind, {posting.account: posting.amount for posting in entry.postings})
            for entry in self.last.changes
            if isinstance(entry, Entry)
        ]

    def spent(self) -> list[int]:
        """What the last decision counts against the sender's caps."""
        return [change.amount for change in self.last.changes if isinstance(change, Spend)]

    def mail(self) -> list[Mail]:
        """What the last decision puts into mailboxes."""
        return [change for change in self.last.changes if isinstance(change, Mail)]

    def kinds(self) -> list[str]:
        """The kinds of all steps so far."""
        return [step.kind.value for step in self.steps]

    @property
    def step(self) -> ChannelStep:
        """The newest step."""
        return self.steps[-1]

    # What is signed

    def proposal(self, who: Player = ALICE, amount: int = 10, *, task_id: str | None = None) -> Json:
        return paying.proposal(self.snapshot, who.secret_key, from_agent_id=who.id, amount=amount, task_id=task_id)

    def acknowledgement(self, who: Player = BOB) -> Json:
        """Of what is pending."""
        return paying.acknowledgement(self.snapshot, who.secret_key, self.snapshot["pending_proposal"])

    def closing(self, finals: tuple[int, int] | None = None) -> Json:
        return paying.close(self.snapshot, ALICE.secret_key, BOB.secret_key, finals)

    def close_request(self, who: Player = ALICE, finals: tuple[int, int] | None = None) -> Json:
        signed = self.closing(finals)
        return {
            "final_balance_a": signed["final_balance_a"],
            "final_balance_b": signed["final_balance_b"],
            "signature": signed["signature_a" if who is ALICE else "signature_b"],
        }

    def chain(self, *amounts: int, first_nonce: int | None = None) -> list[Json]:
        """Doubly signed transfers: positive amounts are paid by Alice, negative ones by Bob."""
        keys = (ALICE.secret_key, BOB.secret_key)
        return paying.chain(self.snapshot, *keys, amounts, first_nonce=first_nonce)

    def lost_state(self, amount: int = 30, *, nonce: int | None = None) -> Json:
        """A doubly signed state that the channel has never had: Alice has paid Bob `amount`."""
        (transfer,) = self.chain(amount, first_nonce=nonce)
        balances = paying.after(self.snapshot, from_agent_id=transfer["from_agent_id"], amount=abs(amount))
        return {**transfer, "balance_a": balances[0], "balance_b": balances[1]}

    # Whole moves

    def propose(self, who: Player = ALICE, amount: int = 10, **more: Any) -> Json:
        return self.send(who, "propose_transfer", **self.proposal(who, amount), **more)

    def acknowledge(self) -> Json:
        payee = BOB if self.snapshot["pending_proposal"]["from_agent_id"] == ALICE.id else ALICE
        return self.send(payee, "acknowledge_transfer", **self.acknowledgement(payee))

    def pay(self, who: Player = ALICE, amount: int = 10) -> Json:
        self.propose(who, amount)
        return self.acknowledge()

    def hand_in(self, *amounts: int, who: Player = ALICE) -> Json:
        return self.send(who, "submit_transfers", transfers=self.chain(*amounts))

    def close(self, finals: tuple[int, int] | None = None) -> Json:
        return self.send(ALICE, "close", **self.closing(finals))

    def dispute(self, who: Player = BOB, *, evidence: Any = None) -> Json:
        return self.send(who, "dispute", reason="wrong", evidence=evidence)

    def decide(self, final_balance_a: int, final_balance_b: int, *, reason: str = "So be it.") -> Json:
        """What Olga, an operator, decides."""
        request = DecideChannel(final_balance_a=final_balance_a, final_balance_b=final_balance_b, reason=reason)
        facts = ChannelFacts(channel=self.channel)
        return self.carry_out(lambda _: decide_channel(facts, request, context(OLGA, market=self.market, now=self.now)))

    def freeze(self, who: Player = BOB) -> Json:
        """Join with a state that the server must have lost."""
        return self.send(who, "join", known=self.lost_state())

    # How it is done

    def _carry_out(self, decision: Decision) -> None:
        super()._carry_out(decision)
        self.last = decision

    def _load(self, handler: Handler, request: Any) -> ChannelFacts | AcceptanceFacts:
        limits = self.market.limits
        match handler.loads:
            case "payment_proposing":
                facts = self._facts((request.nonce,))
                return msgspec.structs.replace(facts, task=self.tasks.get(request.task_id))
            case "payment_join" if request.known is not None:
                most = limits.missing_transfers_max + 2
                facts = self._facts(range(max(request.known.nonce, 1), self.channel.last_nonce + 1))
                return msgspec.structs.replace(facts, used=facts.used[:most])
            case "payment_handing_in" if len(request.transfers) > limits.transfers_per_frame_max:
                return self._facts(())
            case "payment_disputing":
                return self._facts(_nonces_of(request.evidence))
            case _:
                return super()._load(handler, request)


def _nonces_of(evidence: Any) -> Iterable[int]:
    transfers = evidence.get("transfers") if isinstance(evidence, dict) else None
    found = [one.get("nonce") for one in transfers if isinstance(one, dict)] if isinstance(transfers, list) else []
    return [nonce for nonce in found if isinstance(nonce, int)]


def offline(**fields: Any) -> Play:
    """A channel whose transfers are signed elsewhere."""
    return Play(mode=OFFLINE, **fields)


def proposed(payer: Player = ALICE, amount: int = 10) -> Play:
    """A channel in which a transfer is pending."""
    play = Play()
    play.propose(payer, amount)
    return play


def _pending(mode: Mode) -> Play:
    return Play(mode=mode, counter_deposit=None)


def _open(mode: Mode) -> Play:
    return Play(mode=mode)


def _closing(mode: Mode) -> Play:
    play = Play(mode=mode)
    play.send(ALICE, "force_close")
    return play


def _disputed(mode: Mode) -> Play:
    play = Play(mode=mode)
    play.dispute(BOB)
    return play


def _closed(mode: Mode) -> Play:
    play = Play(mode=mode)
    play.close()
    return play


def _declined(mode: Mode) -> Play:
    play = _pending(mode)
    play.send(BOB, "decline", reason="no")
    return play


def _expired(mode: Mode) -> Play:
    play = _pending(mode)
    play.wait(DAY_S)
    return play


def _frozen(mode: Mode) -> Play:
    assert mode is ONLINE, "offline channels never freeze"
    play = Play(mode=mode)
    play.freeze()
    return play


def _revoked(mode: Mode) -> Play:
    play = Play(mode=mode)
    play.revoke(Cause.CONTACT_REVOKED)
    return play


PHASES: Mapping[str, Callable[[Mode], Play]] = {
    "pending": _pending,
    "open": _open,
    "closing": _closing,
    "disputed": _disputed,
    "closed": _closed,
    "declined": _declined,
    "expired": _expired,
    "frozen": _frozen,
    "revoked": _revoked,
}
"""How a channel comes to each phase. `frozen` (online alone) and `revoked` are open ones."""

FINAL = ("closed", "declined", "expired")


def in_phase(phase: str, *, mode: Mode = ONLINE) -> Play:
    """A channel in that phase, where the other one is disputed by Bob and closing by Alice."""
    return PHASES[phase](mode)


def payload_of(told: Broadcast) -> Json:
    """What is told, as it arrives."""
    payload: Json = as_told(told.payload)
    return payload
