"""What the events of a payment channel have in common: the refusals of one that does not stand as it must."""

from typing import Final

from channels.errors import Conflict, Invalid
from channels.payment_state import Mode, PaymentChannel, Phase

LIVE: Final = frozenset({Phase.OPEN, Phase.CLOSING, Phase.DISPUTED})
"""What has been accepted and has not ended."""


def require_unfrozen(channel: PaymentChannel) -> None:
    """Refuse a channel that this server has lost states of.

    Raises:
        Conflict: `state_lost`, with the nonce that is known to have been signed.
    """
    if channel.state_lost is not None and not channel.is_final:
        raise Conflict(
            "state_lost",
            "This server has lost states of this channel. Close it jointly, or wait for the operator to decide.",
            known_nonce=channel.state_lost.nonce,
            last_nonce=channel.last_nonce,
        )


def require_open(channel: PaymentChannel) -> None:
    """Refuse a channel that is not open.

    Raises:
        Conflict: `terminal_state`, `channel_not_open`, with the status.
    """
    require_unended(channel)
    if channel.status is not Phase.OPEN:
        raise Conflict(
            "channel_not_open", f"This payment channel is not open, but {channel.status}.", status=channel.status
        )


def require_live(channel: PaymentChannel) -> None:
    """Refuse a channel that has not been accepted, or has ended.

    Raises:
        Conflict: `terminal_state`, `channel_not_open`, with the status.
    """
    require_unended(channel)
    if channel.status not in LIVE:
        raise Conflict("channel_not_open", "This payment channel has not been accepted yet.", status=channel.status)


def require_unended(channel: PaymentChannel) -> None:
    """Refuse a channel that has ended.

    Raises:
        Conflict: `terminal_state`, with the status.
    """
    if channel.is_final:
        raise Conflict(
            "terminal_state",
            f"This payment channel has ended: {channel.status}, {channel.cause}.",
            status=channel.status,
        )


def require_mode(channel: PaymentChannel, mode: Mode) -> None:
    """Refuse what belongs to the other mode.

    Raises:
        Conflict: `wrong_mode`, with the channel's own.
    """
    if channel.mode is mode:
        return
    how = (
        "propose and acknowledge transfers here"
        if channel.mode is Mode.ONLINE
        else "sign transfers between you and hand them in with submit_transfers"
    )
    raise Conflict("wrong_mode", f"This channel is {channel.mode}: {how}.", mode=channel.mode)


def require_tradable(channel: PaymentChannel) -> None:
    """Refuse a channel whose parties may not trade any more.

    Raises:
        Conflict: `contact_revoked`.
    """
    if channel.is_revoked:
        raise Conflict(
            "contact_revoked",
            "The contact of the two has ended: this channel can only be handed in to, disputed and closed.",
        )


def require_nothing_pending(channel: PaymentChannel) -> None:
    """Refuse while a transfer is proposed.

    Raises:
        Conflict: `transfer_pending`, with its nonce.
    """
    if channel.pending_proposal is not None:
        raise Conflict(
            "transfer_pending",
            "A transfer is proposed: acknowledge or reject it first.",
            nonce=channel.pending_proposal.nonce,
        )


def require_finals(channel: PaymentChannel, final_balance_a: int, final_balance_b: int) -> tuple[int, int]:
    """The final balances of both, in minor units, if they pay out all that is locked.

    Raises:
        Invalid: `amount_out_of_range`: one is below zero; `sum_mismatch`, with the total.
    """
    if min(final_balance_a, final_balance_b) < 0:
        raise Invalid("amount_out_of_range", "A final balance is at least 0.", minimum=0)
    if final_balance_a + final_balance_b != channel.total:
        raise Invalid("sum_mismatch", f"The final balances must sum to {channel.total}.", total=channel.total)
    return final_balance_a, final_balance_b


def require_amount(channel: PaymentChannel, agent_id: str, amount: int) -> None:
    """Refuse a transfer that its payer cannot make.

    Raises:
        Invalid: `amount_out_of_range`.
        Conflict: `insufficient_channel_balance`, with the payer's balance.
    """
    if amount < 1:
        raise Invalid("amount_out_of_range", "A transfer is at least 1 minor unit.", minimum=1)
    has = channel.balance(agent_id)
    if amount > has:
        raise Conflict(
            "insufficient_channel_balance", f"The payer has {has} in this channel.", balance=has, required=amount
        )
