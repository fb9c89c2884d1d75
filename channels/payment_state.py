"""What a payment channel is: its parties, balances and signed states, and how both parties and a receipt see it."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

import msgspec

from channels.channel_steps import ChannelStep
from channels.errors import Conflict, not_found
from channels.handlers import Context
from channels.limits import Market
from channels.task_state import Task
from crypto import parse_public_key

CLOCK: Final = "payment_clock"
"""The one timer of a channel: for the first thing of it that is due."""


class Phase(StrEnum):
    """Where a channel stands; DECLINED, EXPIRED and CLOSED are final."""

    PENDING = "pending"
    OPEN = "open"
    CLOSING = "closing"
    DISPUTED = "disputed"
    CLOSED = "closed"
    DECLINED = "declined"
    EXPIRED = "expired"


FINAL: Final = frozenset({Phase.CLOSED, Phase.DECLINED, Phase.EXPIRED})


class Mode(StrEnum):
    """How transfers come about: by propose and acknowledge here, or signed elsewhere and handed in."""

    ONLINE = "online"
    OFFLINE = "offline"


class Cause(StrEnum):
    """What ended a channel."""

    JOINT_CLOSE = "joint_close"
    FORCE_CLOSE = "force_close"
    DISPUTE_TIMEOUT = "dispute_timeout"
    OPERATOR = "operator"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    CONTACT_REVOKED = "contact_revoked"
    BANNED = "banned"


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer that its payer has signed; the balances are those that it would make."""

    nonce: int
    amount: int
    from_agent_id: str
    to_agent_id: str
    balance_a: int
    balance_b: int
    task_id: str | None
    memo: str | None
    signature: str
    proposed_at: datetime
    expires_at: datetime


class SignedTransfer(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer that both parties have signed; the balances are those after it."""

    nonce: int
    amount: int
    from_agent_id: str
    to_agent_id: str
    balance_a: int
    balance_b: int
    task_id: str | None
    signature_a: str
    signature_b: str
    completed_at: datetime


class CloseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A close that one party has signed. It is good until the nonce moves."""

    agent_id: str
    nonce: int
    final_balance_a: int
    final_balance_b: int
    signature: str
    requested_at: datetime


class Closing(msgspec.Struct, frozen=True, kw_only=True):
    """A force-close: the balances are paid out at `ends_at`. `by` is None where a ban did it."""

    by: str | None
    began_at: datetime
    ends_at: datetime


class Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute under way; without another end the balances are paid out at `ends_at`."""

    agent_id: str
    reason: str
    evidence: Any
    opened_at: datetime
    ends_at: datetime


class StateLost(msgspec.Struct, frozen=True, kw_only=True):
    """A doubly signed state that this server does not have, though it must once have had it."""

    nonce: int
    amount: int
    from_agent_id: str
    balance_a: int
    balance_b: int
    task_id: str | None
    signature_a: str
    signature_b: str
    reported_by: str
    reported_at: datetime


class PaymentChannel(msgspec.Struct, frozen=True, kw_only=True):
    """One channel. balance_a + balance_b = all that was deposited, always; it lies in the channel's lock account.

    Args:
        agent_a_id: The opener.
        agent_b_id: The counterparty.
        public_key_a, public_key_b: The keys that sign here, as they were at the opening.
        window_s: What a force-close waits.
        deposit_a, deposit_b: All that each has deposited, in minor units.
        deposited_since_a, deposited_since_b: Of that, what came after the last doubly signed transfer.
        before_deposit: The balances before the latest deposit, as long as the nonce has not moved since.
        last_nonce: The last consumed one.
        max_price: The most that A may deposit in all, where the contact of the two is narrowed.
        disputes_used: Who has disputed; each may once.
        is_revoked: The two may not trade any more: what there is may be handed in, disputed and closed.
        expires_at: Of a channel that nobody has accepted.
        steps: How many the history has.
        clock_at: When the channel's timer is armed for.
        reason: Free text of who declined or decided.
    """

    id: str
    mode: Mode
    window_s: int
    agent_a_id: str
    agent_b_id: str
    public_key_a: str
    public_key_b: str
    status: Phase = Phase.PENDING
    deposit_a: int
    deposit_b: int = 0
    deposited_since_a: int
    deposited_since_b: int = 0
    before_deposit: tuple[int, int] | None = None
    balance_a: int
    balance_b: int = 0
    last_nonce: int = 0
    pending_proposal: Proposal | None = None
    last_transfer: SignedTransfer | None = None
    close_requests: tuple[CloseRequest, ...] = ()
    closing: Closing | None = None
    dispute: Dispute | None = None
    disputes_used: tuple[str, ...] = ()
    state_lost: StateLost | None = None
    is_revoked: bool = False
    max_price: int | None = None
    created_at: datetime
    expires_at: datetime
    accepted_at: datetime | None = None
    closed_at: datetime | None = None
    cause: Cause | None = None
    reason: str | None = None
    final_balance_a: int | None = None
    final_balance_b: int | None = None
    close_signature_a: str | None = None
    close_signature_b: str | None = None
    steps: int = 0
    clock_at: datetime | None = None

    @property
    def topic(self) -> str:
        """Its topic."""
        return f"payment:{self.id}"

    @property
    def total(self) -> int:
        """All that is locked, in minor units."""
        return self.balance_a + self.balance_b

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.status in FINAL

    def side(self, agent_id: str) -> Literal["a", "b"]:
        """Which of the two an agent is."""
        return "a" if agent_id == self.agent_a_id else "b"

    def other(self, agent_id: str) -> str:
        """The other party."""
        return self.agent_b_id if agent_id == self.agent_a_id else self.agent_a_id

    def balance(self, agent_id: str) -> int:
        """An agent's side, in minor units."""
        return self.balance_a if agent_id == self.agent_a_id else self.balance_b

    def public_key(self, agent_id: str) -> bytes:
        """The key that an agent signs with here."""
        return parse_public_key(self.public_key_a if agent_id == self.agent_a_id else self.public_key_b)

    def paid(self, *, from_agent_id: str, amount: int) -> tuple[int, int]:
        """The two balances after a transfer."""
        moved = amount if from_agent_id == self.agent_b_id else -amount
        return self.balance_a + moved, self.balance_b - moved


UNTOLD: Final = frozenset({"before_deposit", "steps", "clock_at"})
"""What the parties need not know."""


class ChannelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an event of a channel is decided on.

    Args:
        channel: None where there is none of that id.
        used: The steps that have consumed the nonces that the event speaks of, in order.
        task: The task that a transfer names, proposed now or before; None where there is none of that id.
    """

    channel: PaymentChannel | None
    used: tuple[ChannelStep, ...] = ()
    task: Task | None = None

    def used_at(self, nonce: int | None) -> ChannelStep | None:
        """The step that has consumed a nonce, if the event speaks of it."""
        return next((step for step in self.used if step.nonce == nonce), None)


def snapshot(channel: PaymentChannel, market: Market) -> dict[str, Any]:
    """The whole channel as both parties see it: join reply, answer of every event, REST."""
    return {
        "channel_id": channel.id,
        **{name: getattr(channel, name) for name in channel.__struct_fields__ if name not in UNTOLD},
        "next_nonce": channel.last_nonce + 1,
        "signing_domain": market.signing_domain,
        "currency": market.currency,
        "exponent": market.exponent,
    }


def require_party(channel: PaymentChannel | None, context: Context) -> PaymentChannel:
    """The channel, if the sender is one of its two agents.

    Raises:
        NotFound: `not_found`.
    """
    if channel is None or context.sender.agent_id not in {channel.agent_a_id, channel.agent_b_id}:
        raise not_found("payment channel")
    return channel


def receipt_document(channel: PaymentChannel, market: Market) -> dict[str, Any]:
    """A closed channel as a receipt's document: all that is needed to verify it offline (crypto/SIGNING.md).

    Raises:
        Conflict: `not_closed`.
    """
    if channel.status is not Phase.CLOSED:
        raise Conflict("not_closed", "This payment channel has not been closed.", status=channel.status)
    close = None
    if channel.cause is Cause.JOINT_CLOSE:
        close = {
            "nonce": channel.last_nonce,
            "final_balance_a": channel.final_balance_a,
            "final_balance_b": channel.final_balance_b,
            "signature_a": channel.close_signature_a,
            "signature_b": channel.close_signature_b,
        }
    same = (
        *("mode", "agent_a_id", "agent_b_id", "public_key_a", "public_key_b", "deposit_a", "deposit_b", "last_nonce"),
        *("last_transfer", "deposited_since_a", "deposited_since_b", "balance_a", "balance_b", "cause", "reason"),
        *("final_balance_a", "final_balance_b", "closed_at"),
    )
    return {
        "channel_id": channel.id,
        **{name: getattr(channel, name) for name in same},
        "close": close,
        "currency": market.currency,
        "exponent": market.exponent,
        "opened_at": channel.created_at,
    }


def history_header(channel: PaymentChannel, market: Market) -> dict[str, Any]:
    """The first line of a channel's exported history (crypto/SIGNING.md)."""
    same = ("mode", "window_s", "agent_a_id", "agent_b_id", "public_key_a", "public_key_b")
    return {
        "kind": "payment_history",
        "id": channel.id,
        "signing_domain": market.signing_domain,
        "currency": market.currency,
        "exponent": market.exponent,
        **{name: getattr(channel, name) for name in same},
    }
