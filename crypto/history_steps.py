"""The steps of a payment channel's history, read one after the other: what each makes of the channel before it.

    opened ─► accepted ─► deposit, transfer, voided, close_request, force_close, revoked, dispute, … ─► closed
       └────► declined, cancelled, expired

What the parties have signed is made anew and verified; what they have not signed (deposits, that a window ran out, an
operator's decision, times) must at least fit to the rest. A server that has lost its channel's newest states, a
`state_lost`, may have lost the acceptance too: such a channel can be closed all the same.

Source: the rules of payment channels, and SIGNING.md ("Histories").
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .channel_parties import (
    CAUSE,
    DISPUTE_TIMEOUT,
    FORCE_CLOSE,
    JOINT_CLOSE,
    OFFLINE,
    OPERATOR,
    Parties,
    Party,
    Transfer,
    read_amount,
)
from .errors import NonceOutOfOrder, ReceiptError
from .evidence import ID, NAME, TEXT, TIME, Fields, choice
from .messages import INTEGER_MAX
from .nonces import require_next_nonce

_STEP_MEMBERS: Final = frozenset(
    ("number", "kind", "at", "agent_id", "balance_a", "balance_b", "last_nonce", "details")
)
_VOID_REASON: Final = choice(
    *("rejected", "withdrawn", "expired", "dispute", "force_close", "contact_revoked", "banned", "state_lost")
)

_TO_PENDING: Final = frozenset({"accepted", "declined", "cancelled", "expired"})
"""What happens only to a channel that was opened and not yet accepted."""

_TO_LOST: Final = frozenset({"close_request", "closed"})
"""What happens also to a channel whose acceptance the server has lost."""

_BEFORE_ACCEPTED: Final = {False: _TO_PENDING | {"opened", "state_lost", "revoked"}}
_BEFORE_ACCEPTED[True] = _BEFORE_ACCEPTED[False] | _TO_LOST
"""What happens to a channel before it is accepted, by whether the server has lost states of it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step, as far as it is the same for all kinds.

    Args:
        place: `Line 7`.
        agent: Who did it; None for the clock and for operators.
    """

    place: str
    kind: str
    agent: Party | None
    details: Fields

    def refusal(self, sentence: str, *, check: str) -> ReceiptError:
        """A flaw of this step."""
        return ReceiptError(f"{self.place}: {sentence}", check=check)


class ChannelHistory:
    """A channel as the steps up to here have made it. Its size does not depend on how many they are.

    Args:
        parties: Its two parties.
        mode: `online` or `offline`.
    """

    def __init__(self, parties: Parties, *, mode: str) -> None:
        self.parties = parties
        self.mode = mode
        self.steps = 0
        self.transfers = 0
        self.voided = 0
        self.last_nonce = 0
        self.ending: str | None = None
        self._balance_a = 0
        self._balance_b = 0
        self._is_accepted = False
        self._is_lost = False
        self._is_closing = False
        self._disputer: Party | None = None
        self._disputes_used: set[Party] = set()

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the steps so far prove."""
        unsigned = (
            "What was deposited, the times, and that a window had run out or an operator has decided rest on the "
            "platform's word."
        )
        signed = (
            f"{self.transfers} transfers are signed by both parties over the balances that they made; {self.voided} "
            "more were voided, as signed by their payers. Each has used up one nonce; the last one is "
            f"{self.last_nonce}."
        )
        order = f"{self.steps} steps, numbered without a gap, each follow from those before them."
        return (order, signed, self.ending or self._unended, unsigned)

    @property
    def _unended(self) -> str:
        return (
            f"The channel has not ended in this history: the balances are {self._balance_a} and {self._balance_b}, and "
            "what came later is not shown."
        )

    def add(self, value: object, *, line: int) -> None:
        """Check the next step.

        Args:
            value: What a JSON parser made of its line.
            line: Its number; the header is line 1.

        Raises:
            ReceiptError: `shape`, `number`, `order`, `identity`, `nonce`, `balances`, `sum`, `payout`,
                `transfer_signature`, `close_signature`.
        """
        place = f"Line {line}"
        fields = Fields(value, pointer=place, names=_STEP_MEMBERS)
        if read_amount(fields, "number") != self.steps + 1:
            raise ReceiptError(f"{place}/number: expected is step {self.steps + 1}.", check="number")
        fields.text("at", TIME)
        kind = fields.text("kind", NAME)
        rule = _RULES.get(kind)
        if rule is None:
            raise ReceiptError(f"{place}/kind: expected is a kind of step that is known here.", check="shape")
        details = Fields(fields.member("details"), pointer=f"{place}/details", names=rule.members)
        step = Step(place, kind, self._read_agent(fields), details)
        self._require_agent(step, rule)
        self._require_order(step)
        rule.follow(self, step)
        self._require_as_stated(fields)
        self.steps += 1

    def _read_agent(self, fields: Fields) -> Party | None:
        agent_id = fields.optional_text("agent_id", ID)
        return None if agent_id is None else self.parties.find(agent_id, pointer=f"{fields.pointer}/agent_id")

    def _require_agent(self, step: Step, rule: "_Rule") -> None:
        role = "nobody" if step.agent is None else step.agent.role
        if role not in rule.by:
            raise step.refusal(f"a step {step.kind} is never by {role}.", check="identity")

    def _require_order(self, step: Step) -> None:
        """Return if a step of that kind may come now."""
        kind = step.kind
        if self.ending is not None:
            raise step.refusal("the channel has ended before.", check="order")
        if (kind == "opened") != (self.steps == 0):
            raise step.refusal("a history begins with the step opened, which comes but once.", check="order")
        if self._is_accepted and kind in _TO_PENDING:
            raise step.refusal("the channel has been accepted before.", check="order")
        if not self._is_accepted and kind not in _BEFORE_ACCEPTED[self._is_lost]:
            raise step.refusal("the channel has not been accepted yet.", check="order")

    def _require_as_stated(self, fields: Fields) -> None:
        """Return if the step says of the channel what has come of it here."""
        for name, expected, check in (
            ("balance_a", self._balance_a, "balances"),
            ("balance_b", self._balance_b, "balances"),
            ("last_nonce", self.last_nonce, "nonce"),
        ):
            if read_amount(fields, name) != expected:
                raise ReceiptError(f"{fields.pointer}/{name}: these steps make it {expected}.", check=check)

    # -------------------------------------------------------------------------------------------- deposits and refunds

    def open(self, step: Step) -> None:
        """`opened`: the opener's deposit."""
        self._balance_a = read_amount(step.details, "deposit", minimum=1)

    def accept(self, step: Step) -> None:
        """`accepted`: the counterparty's deposit."""
        self._is_accepted = True
        self._deposit(step, "deposit", self.parties.counterparty)

    def deposit(self, step: Step) -> None:
        """`deposit`: more of either party."""
        assert step.agent is not None, "the rule of a deposit asks for a party"
        if self.mode == OFFLINE:
            raise step.refusal("in offline mode nothing is deposited later.", check="order")
        self._deposit(step, "amount", step.agent, minimum=1)

    def refund(self, step: Step) -> None:
        """`declined`, `cancelled`, `expired`: it never opened."""
        if step.kind == "declined":
            step.details.text("reason", TEXT)
        self.ending = (
            f"The channel has never opened ({step.kind}): {self._balance_a} minor units went back to the opener."
        )

    def _deposit(self, step: Step, name: str, party: Party, *, minimum: int = 0) -> None:
        amount = read_amount(step.details, name, minimum=minimum)
        if self._total + amount > INTEGER_MAX:
            raise step.refusal(f"a channel holds at most {INTEGER_MAX} minor units.", check="sum")
        if party.agent_id == self.parties.opener.agent_id:
            self._balance_a += amount
        else:
            self._balance_b += amount

    @property
    def _total(self) -> int:
        return self._balance_a + self._balance_b

    # ------------------------------------------------------------------------------------------------------- transfers

    def transfer(self, step: Step) -> None:
        """`transfer`: signed by both over the balances after it."""
        transfer = self._read_transfer(step)
        self.parties.require_transfer_signed_by_both(transfer, step.details)
        self._balance_a, self._balance_b = transfer.balance_a, transfer.balance_b
        self.transfers += 1

    def void(self, step: Step) -> None:
        """`voided`: signed by the payer over the balances that it would have made; they stay what they were."""
        if self.mode == OFFLINE:
            raise step.refusal("in offline mode nothing is voided.", check="order")
        step.details.text("reason", _VOID_REASON)
        step.details.optional_text("text", TEXT)
        transfer = self._read_transfer(step)
        payer = self.parties.find(transfer.payer_agent_id, pointer=step.place)
        self.parties.require_transfer_signed(transfer, payer, step.details, "signature")
        self.voided += 1

    def _read_transfer(self, step: Step) -> Transfer:
        """The transfer that uses up the next nonce, with the balances that it makes."""
        details = step.details
        nonce = read_amount(details, "nonce")
        try:
            require_next_nonce(last=self.last_nonce, offered=nonce)
        except NonceOutOfOrder as error:
            raise ReceiptError(f"{details.pointer}/nonce: {error}", check="nonce") from error
        payer_agent_id = self.parties.read_payer(details)
        amount = read_amount(details, "amount", minimum=1)
        details.optional_text("memo", TEXT)
        is_paid_by_a = payer_agent_id == self.parties.opener.agent_id
        if amount > (self._balance_a if is_paid_by_a else self._balance_b):
            raise ReceiptError(f"{details.pointer}/amount: the payer has less.", check="balances")
        moved = -amount if is_paid_by_a else amount
        self.last_nonce = nonce
        return Transfer(
            nonce=nonce,
            payer_agent_id=payer_agent_id,
            amount=amount,
            balance_a=self._balance_a + moved,
            balance_b=self._balance_b - moved,
            task_id=details.optional_text("task_id", ID),
        )

    def lose_state(self, step: Step) -> None:
        """`state_lost`: a transfer that both have signed and this history lacks. Its balances are of a lost past.

        The nonces up to it count as used, so that nothing that was signed with them serves again.
        """
        details = step.details
        payer = self.parties.find(details.text("from_agent_id", ID), pointer=f"{details.pointer}/from_agent_id")
        lost = Transfer(
            nonce=read_amount(details, "nonce", minimum=1),
            payer_agent_id=payer.agent_id,
            amount=read_amount(details, "amount"),
            balance_a=read_amount(details, "balance_a"),
            balance_b=read_amount(details, "balance_b"),
            task_id=details.optional_text("task_id", ID),
        )
        self.parties.require_transfer_signed_by_both(lost, details)
        self.last_nonce = max(self.last_nonce, lost.nonce)
        self._is_lost = True

    # -------------------------------------------------------------------------------------------------------- disputes

    def dispute(self, step: Step) -> None:
        """`dispute`: one at a time, and one of each party."""
        assert step.agent is not None, "the rule of a dispute asks for a party"
        step.details.text("reason", TEXT)
        step.details.text("ends_at", TIME)
        if self._disputer is not None or step.agent in self._disputes_used:
            raise step.refusal("a dispute is under way, or this party's only one is used.", check="order")
        self._disputer = step.agent
        self._disputes_used.add(step.agent)

    def resume(self, step: Step) -> None:
        """`dispute_withdrawn`, `dispute_settled`: by who has opened it."""
        if self._disputer is None or step.agent != self._disputer:
            raise step.refusal("no dispute of this party is under way.", check="order")
        if step.kind == "dispute_settled" and self.mode != OFFLINE:
            raise step.refusal("only in offline mode evidence settles a dispute.", check="order")
        self._disputer = None

    # --------------------------------------------------------------------------------------------------------- the end

    def note(self, step: Step) -> None:
        """`revoked`: nothing of the channel changes."""

    def request_close(self, step: Step) -> None:
        """`close_request`: signed by who asks, at the last nonce."""
        assert step.agent is not None, "the rule of a close_request asks for a party"
        if read_amount(step.details, "nonce") != self.last_nonce:
            raise step.refusal(f"the last consumed nonce is {self.last_nonce}.", check="nonce")
        finals = self._read_finals(step)
        self.parties.require_close_signed(step.agent, step.details, "signature", nonce=self.last_nonce, finals=finals)

    def force_close(self, step: Step) -> None:
        """`force_close`: its window begins, once."""
        step.details.text("ends_at", TIME)
        if self._is_closing:
            raise step.refusal("the channel is being closed already.", check="order")
        self._is_closing = True

    def close(self, step: Step) -> None:
        """`closed`: paid out as both have signed, by the balances, or as an operator has decided."""
        details = step.details
        cause = details.text("cause", CAUSE)
        self._require_cause(step, cause)
        finals = self._read_finals(step)
        if cause == JOINT_CLOSE:
            self.parties.require_close_signed_by_both(details, nonce=self.last_nonce, finals=finals)
        elif details.member("signature_a") is not None or details.member("signature_b") is not None:
            raise step.refusal("only a joint close has signatures.", check="payout")
        elif cause != OPERATOR and finals != (self._balance_a, self._balance_b):
            raise step.refusal("without a close that both have signed, the balances are paid out.", check="payout")
        self.ending = (
            f"The channel has ended ({cause}), {'signed by both' if cause == JOINT_CLOSE else 'signed by neither'}: "
            f"{finals[0]} minor units for the opener, {finals[1]} for the counterparty."
        )

    def _require_cause(self, step: Step, cause: str) -> None:
        if (cause == OPERATOR) != (step.details.optional_text("reason", TEXT) is not None):
            raise step.refusal("a reason is there where an operator has decided.", check="payout")
        is_disputed = self._disputer is not None
        can_be = {
            JOINT_CLOSE: True,
            FORCE_CLOSE: self._is_closing and not is_disputed,
            DISPUTE_TIMEOUT: is_disputed,
            OPERATOR: is_disputed or self._is_lost,
        }
        if not can_be[cause]:
            raise step.refusal(f"no step before has led to {cause}.", check="order")

    def _read_finals(self, step: Step) -> tuple[int, int]:
        finals = (read_amount(step.details, "final_balance_a"), read_amount(step.details, "final_balance_b"))
        if sum(finals) != self._total:
            raise step.refusal(f"the final balances must sum to {self._total}.", check="sum")
        return finals


_Follow = Callable[[ChannelHistory, Step], None]


@dataclass(frozen=True, slots=True)
class _Rule:
    """What holds for the steps of one kind.

    Args:
        follow: What such a step makes of the channel.
        by: Who does it; `nobody` is the clock or an operator.
        members: Of its details.
    """

    follow: _Follow
    by: frozenset[str]
    members: frozenset[str]


def _rule(follow: _Follow, by: str, members: str = "") -> _Rule:
    return _Rule(follow, frozenset(by.split()), frozenset(members.split()))


_PARTY: Final = "opener counterparty"
_ANYBODY: Final = f"{_PARTY} nobody"
_TRANSFER: Final = "nonce amount from_agent_id to_agent_id task_id memo"
_FINALS: Final = "final_balance_a final_balance_b"

_RULES: Final = {
    "opened": _rule(ChannelHistory.open, "opener", "deposit"),
    "accepted": _rule(ChannelHistory.accept, "counterparty", "deposit"),
    "declined": _rule(ChannelHistory.refund, "counterparty nobody", "reason"),
    "cancelled": _rule(ChannelHistory.refund, "opener"),
    "expired": _rule(ChannelHistory.refund, "nobody"),
    "deposit": _rule(ChannelHistory.deposit, _PARTY, "amount"),
    "transfer": _rule(ChannelHistory.transfer, _PARTY, f"{_TRANSFER} signature_a signature_b"),
    "voided": _rule(ChannelHistory.void, _ANYBODY, f"{_TRANSFER} signature reason text"),
    "close_request": _rule(ChannelHistory.request_close, _PARTY, f"nonce {_FINALS} signature"),
    "force_close": _rule(ChannelHistory.force_close, _ANYBODY, "ends_at"),
    "revoked": _rule(ChannelHistory.note, "nobody"),
    "dispute": _rule(ChannelHistory.dispute, _PARTY, "reason evidence ends_at"),
    "dispute_withdrawn": _rule(ChannelHistory.resume, _PARTY),
    "dispute_settled": _rule(ChannelHistory.resume, _PARTY),
    "state_lost": _rule(
        ChannelHistory.lose_state,
        _PARTY,
        "nonce amount from_agent_id balance_a balance_b task_id signature_a signature_b",
    ),
    "closed": _rule(ChannelHistory.close, _ANYBODY, f"cause {_FINALS} signature_a signature_b reason"),
}
"""Every kind of step."""
