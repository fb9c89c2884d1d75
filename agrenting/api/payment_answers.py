"""What the answers about payment channels look like, and the bodies that take money in both forms."""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from agrenting.api.answers import Duplicate, fields_of
from agrenting.api.money import Money
from channels.channel_steps import ChannelStep
from channels.fields import parse_money
from channels.payment import AcknowledgeTransfer, Close, ProposeTransfer, RequestClose
from channels.payment_disputes import DecideChannel
from channels.payment_opening import Acceptance, MakeDeposit, OpenChannel
from channels.payment_state import UNTOLD, Mode, PaymentChannel, SignedTransfer


class SignedState(SignedTransfer, frozen=True, kw_only=True):
    """A transfer that both have signed, with the balances after it."""


ChannelAnswer = msgspec.defstruct(
    "ChannelAnswer",
    [
        *fields_of(PaymentChannel, UNTOLD),
        ("channel_id", str),
        ("next_nonce", int),
        ("signing_domain", str),
        ("currency", str),
        ("exponent", int),
        ("duplicate", Duplicate, UNSET),
        ("outcome", dict[str, Any] | UnsetType, UNSET),
        ("applied", int | UnsetType, UNSET),
        ("duplicates", int | UnsetType, UNSET),
    ],
    namespace={
        "__doc__": "A payment channel, whole. `outcome` is what became of an event that is repeated; `applied` and"
        " `duplicates` count the transfers of a chain that were new and those that were not."
    },
    kw_only=True,
)


class StepAnswer(ChannelStep, frozen=True, kw_only=True):
    """One step of a channel's history."""


class OpenChannelBody(msgspec.Struct, frozen=True, kw_only=True):
    """A new payment channel.

    Args:
        deposit: The opener's own; at least 1 minor unit.
        mode: `online`: transfers are proposed and acknowledged here. `offline`: signed elsewhere and handed in.
        window_s: What a force-close waits, 24 hours to 7 days; 24 hours unless given.
    """

    counterparty_agent_id: str
    deposit: Money
    mode: Mode = Mode.ONLINE
    window_s: int | None = None

    def request(self, exponent: int) -> OpenChannel:
        """As the wire takes it."""
        return OpenChannel(
            counterparty_agent_id=self.counterparty_agent_id,
            deposit=parse_money(self.deposit, exponent=exponent, field="deposit"),
            mode=self.mode,
            window_s=self.window_s,
        )


class AcceptanceBody(msgspec.Struct, frozen=True, kw_only=True):
    """The acceptance of a channel; `deposit` is the counterparty's own, 0 unless given."""

    deposit: Money = 0

    def request(self, exponent: int) -> Acceptance:
        """As the wire takes it."""
        return Acceptance(deposit=parse_money(self.deposit, exponent=exponent, field="deposit"))


class DepositBody(msgspec.Struct, frozen=True, kw_only=True):
    """More money into one's own side; at least 1 minor unit."""

    amount: Money

    def request(self, exponent: int) -> MakeDeposit:
        """As the wire takes it."""
        return MakeDeposit(amount=parse_money(self.amount, exponent=exponent))


class ProposalBody(msgspec.Struct, frozen=True, kw_only=True):
    """A payment to the other party, signed. `memo`: at most 200 characters, not signed."""

    amount: Money
    nonce: int
    signature: str
    memo: str | None = None
    task_id: str | None = None

    def request(self, exponent: int) -> ProposeTransfer:
        """As the wire takes it."""
        amount = parse_money(self.amount, exponent=exponent)
        return ProposeTransfer(
            amount=amount, nonce=self.nonce, signature=self.signature, memo=self.memo, task_id=self.task_id
        )


class AcknowledgementBody(msgspec.Struct, frozen=True, kw_only=True):
    """The payee's signature over the same bytes as the proposal's."""

    amount: Money
    nonce: int
    signature: str

    def request(self, exponent: int) -> AcknowledgeTransfer:
        """As the wire takes it."""
        amount = parse_money(self.amount, exponent=exponent)
        return AcknowledgeTransfer(amount=amount, nonce=self.nonce, signature=self.signature)


class _Finals(msgspec.Struct, frozen=True, kw_only=True):
    """What each party is paid; together all that is locked."""

    final_balance_a: Money
    final_balance_b: Money

    def parsed(self, exponent: int) -> dict[str, int]:
        """Both in minor units."""
        names = ("final_balance_a", "final_balance_b")
        return {name: parse_money(getattr(self, name), exponent=exponent, field=name) for name in names}


class CloseBody(_Finals, frozen=True, kw_only=True):
    """A close that both parties have signed."""

    signature_a: str
    signature_b: str

    def request(self, exponent: int) -> Close:
        """As the wire takes it."""
        return Close(**self.parsed(exponent), signature_a=self.signature_a, signature_b=self.signature_b)


class CloseRequestBody(_Finals, frozen=True, kw_only=True):
    """A close that one has signed oneself."""

    signature: str

    def request(self, exponent: int) -> RequestClose:
        """As the wire takes it."""
        return RequestClose(**self.parsed(exponent), signature=self.signature)


class DecisionBody(_Finals, frozen=True, kw_only=True):
    """An operator's decision, and why, in 1-2,000 characters."""

    reason: str

    def request(self, exponent: int) -> DecideChannel:
        """As the handler takes it."""
        return DecideChannel(**self.parsed(exponent), reason=self.reason)


class HistoryEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The last line of an exported history: the platform's signature over all before it."""

    kind: str = "platform"
    steps: int
    digest: str
    public_key: str
    signature: str
