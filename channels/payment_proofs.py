"""What is signed in a payment channel, and the refusal of what is not.

The signature is looked at last, because it is dearest. One that does not verify is tried against the state before: an
agent that has signed for that is told that it is late (`stale_state`), not that its key is wrong.
"""

import re
from typing import Any, Final

import msgspec

from channels.errors import Conflict, Invalid
from channels.limits import Market
from channels.payment_state import PaymentChannel
from crypto import BadSignature, close_message, transfer_message, verify_signature

TASK_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""A task id as it may be signed: a UUID in lower case."""


class TransferTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What the bytes of a transfer say beside the channel."""

    nonce: int
    amount: int
    from_agent_id: str
    balance_a: int
    balance_b: int
    task_id: str | None


def transfer_terms(
    channel: PaymentChannel, *, nonce: int, amount: int, from_agent_id: str, task_id: str | None
) -> TransferTerms:
    """The next transfer of a channel as it is signed: with the balances that it makes."""
    balance_a, balance_b = channel.paid(from_agent_id=from_agent_id, amount=amount)
    return TransferTerms(
        nonce=nonce,
        amount=amount,
        from_agent_id=from_agent_id,
        balance_a=balance_a,
        balance_b=balance_b,
        task_id=task_id,
    )


def require_transfer_signature(
    channel: PaymentChannel, agent_id: str, *, terms: TransferTerms, signature: str, market: Market
) -> None:
    """Refuse a transfer that the agent's key has not signed.

    Raises:
        Conflict: `stale_state`: it was signed before the latest deposit.
        Invalid: `invalid_signature`. Both say what is expected.
    """
    if is_signed_transfer(channel, agent_id, terms=terms, signature=signature, market=market):
        return
    expected = {"expected_nonce": terms.nonce, "balance_a": terms.balance_a, "balance_b": terms.balance_b}
    if channel.before_deposit is not None:
        balance_a, balance_b = channel.before_deposit
        before = msgspec.structs.replace(channel, balance_a=balance_a, balance_b=balance_b)
        earlier = transfer_terms(
            before,
            nonce=terms.nonce,
            amount=terms.amount,
            from_agent_id=terms.from_agent_id,
            task_id=terms.task_id,
        )
        if min(earlier.balance_a, earlier.balance_b) >= 0 and is_signed_transfer(
            channel, agent_id, terms=earlier, signature=signature, market=market
        ):
            raise Conflict(
                "stale_state", "This was signed over the balances before a deposit; sign those of now.", **expected
            )
    raise Invalid(
        "invalid_signature", "The transfer's signature does not verify over the balances after it.", **expected
    )


def is_signed_transfer(
    channel: PaymentChannel, agent_id: str, *, terms: TransferTerms, signature: str, market: Market
) -> bool:
    """Whether an agent of the channel has signed a transfer."""
    message = transfer_message(
        signing_domain=market.signing_domain,
        channel_id=channel.id,
        nonce=terms.nonce,
        payer_agent_id=terms.from_agent_id,
        amount=terms.amount,
        balance_a=terms.balance_a,
        balance_b=terms.balance_b,
        task_id=terms.task_id,
    )
    return _is_signed(channel, agent_id, message, signature)


def require_close_signature(
    channel: PaymentChannel, agent_id: str, *, finals: tuple[int, int], signature: str, market: Market
) -> None:
    """Refuse a close that the agent's key has not signed.

    Args:
        channel: Its last consumed nonce is what a close is signed with.
        agent_id: Of one of the parties.
        finals: Of A and B.
        signature: 88 characters.
        market: The signing domain.

    Raises:
        Conflict: `stale_state`: it was signed for the nonce before.
        Invalid: `invalid_signature`, with the side. Both say what is expected.
    """
    if _is_signed(channel, agent_id, _close_bytes(channel, channel.last_nonce, finals, market), signature):
        return
    expected: dict[str, Any] = {
        "agent_id": agent_id,
        "last_nonce": channel.last_nonce,
        "balance_a": channel.balance_a,
        "balance_b": channel.balance_b,
    }
    earlier = channel.last_nonce - 1
    if earlier >= 0 and _is_signed(channel, agent_id, _close_bytes(channel, earlier, finals, market), signature):
        raise Conflict("stale_state", f"This close was signed for nonce {earlier}; sign the last one.", **expected)
    raise Invalid(
        "invalid_signature",
        f"The signature of party {channel.side(agent_id).upper()} does not verify over the close at the last nonce.",
        **expected,
    )


def _close_bytes(channel: PaymentChannel, nonce: int, finals: tuple[int, int], market: Market) -> bytes:
    final_balance_a, final_balance_b = finals
    return close_message(
        signing_domain=market.signing_domain,
        channel_id=channel.id,
        nonce=nonce,
        final_balance_a=final_balance_a,
        final_balance_b=final_balance_b,
    )


def _is_signed(channel: PaymentChannel, agent_id: str, message: bytes, signature: str) -> bool:
    try:
        verify_signature(public_key=channel.public_key(agent_id), message=message, signature=signature)
    except BadSignature:
        return False
    return True
