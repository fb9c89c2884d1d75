"""Transfers that were signed elsewhere: a gapless chain, verified one by one, applied whole or not at all."""

from typing import Any

import msgspec

from channels.channel_steps import ChannelStep
from channels.errors import Conflict, Invalid
from channels.fields import invalid_payload
from channels.handlers import Context, Decision
from channels.payment_moves import Moved, by_the_clock, decided, transferred
from channels.payment_proofs import TASK_ID, is_signed_transfer, transfer_terms
from channels.payment_rules import require_live, require_mode
from channels.payment_state import ChannelFacts, Mode, PaymentChannel, SignedTransfer, require_party, snapshot
from channels.told import Broadcast

Content = tuple[int, str, str | None]
"""What tells one transfer at a nonce from another: amount, payer and task."""


class DoublySigned(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer with the signatures of both. The balances follow from the chain."""

    amount: int
    nonce: int
    from_agent_id: str
    signature_a: str
    signature_b: str
    task_id: str | None = None

    @property
    def content(self) -> Content:
        """What it says beside its nonce."""
        return self.amount, self.from_agent_id, self.task_id


class SubmitTransfers(msgspec.Struct, frozen=True, kw_only=True):
    """Doubly signed transfers in the order of their nonces, without gaps; 1 to 1,000."""

    transfers: tuple[DoublySigned, ...]


def submit_transfers(facts: ChannelFacts, request: SubmitTransfers, context: Context) -> Decision:
    """Hand in transfers that both have signed elsewhere; either party may, also after a revocation.

    Those that were applied before are passed over.

    Raises:
        NotFound: `not_found`.
        Conflict: `terminal_state`, `channel_not_open`, `wrong_mode`; `nonce_replayed`: another transfer was applied
            at a nonce, with its index.
        Invalid: `invalid_payload`: none, or more than 1,000; `bad_transfer` with the index of the first that is not
            good, and the cause.
    """
    channel = require_party(facts.channel, context)
    moved = by_the_clock(channel, context)
    require_live(moved.channel)
    require_mode(moved.channel, Mode.OFFLINE)
    after, count = handed_in(moved, facts, request.transfers, context)
    reply = {"applied": count, "duplicates": len(request.transfers) - count}
    if count:
        told = {
            "channel_id": channel.id,
            "agent_id": context.sender.agent_id,
            "applied": count,
            "channel": snapshot(after.channel, context.market),
        }
        after = after.telling(Broadcast(channel.topic, "transfers_submitted", told))
    return decided(channel, after, context, **reply)


def handed_in(
    moved: Moved, facts: ChannelFacts, transfers: tuple[DoublySigned, ...], context: Context
) -> tuple[Moved, int]:
    """The channel after a chain, and how many of its transfers were new.

    Args:
        moved: The channel before, live and offline.
        facts: With the steps that have used the nonces of the chain.
        transfers: The chain.
        context: Who hands it in, and when.

    Raises:
        Conflict: `nonce_replayed`.
        Invalid: `invalid_payload`, `bad_transfer`.
    """
    most = context.market.limits.transfers_per_frame_max
    if not 1 <= len(transfers) <= most:
        raise invalid_payload(
            "transfers", f"1 to {most} transfers are handed in at once; send a longer chain in parts."
        )
    used = {step.last_nonce: _content_of(step) for step in facts.used}
    count = 0
    for index, transfer in enumerate(transfers):
        if transfer.nonce <= moved.channel.last_nonce:
            if used.get(transfer.nonce) != transfer.content:
                raise Conflict(
                    "nonce_replayed",
                    f"Another transfer has used nonce {transfer.nonce}; {moved.channel.last_nonce + 1} is next.",
                    index=index,
                    expected_nonce=moved.channel.last_nonce + 1,
                )
            continue
        signed = _verified(moved.channel, transfer, index, context)
        used[transfer.nonce] = transfer.content
        count += 1
        moved = _applied(moved, signed, context)
    return moved, count


def _applied(moved: Moved, signed: SignedTransfer, context: Context) -> Moved:
    by = context.sender.require_agent()
    return moved.then(lambda it: transferred(it, signed, context, by=by))


def _content_of(step: ChannelStep) -> Content:
    details = step.details
    return details["amount"], details["from_agent_id"], details["task_id"]


def _verified(channel: PaymentChannel, transfer: DoublySigned, index: int, context: Context) -> SignedTransfer:
    """The next transfer of a chain, once all of it is checked.

    Raises:
        Invalid: `bad_transfer`.
    """
    expected_nonce = channel.last_nonce + 1
    if transfer.nonce != expected_nonce:
        raise _bad(index, "nonce_gap", f"nonce {expected_nonce} is next, not {transfer.nonce}", expected_nonce)
    if transfer.from_agent_id not in {channel.agent_a_id, channel.agent_b_id}:
        raise _bad(index, "not_a_party", "its payer is not a party of the channel", expected_nonce)
    if transfer.amount < 1:
        raise _bad(index, "amount_out_of_range", "a transfer is at least 1 minor unit", expected_nonce)
    has = channel.balance(transfer.from_agent_id)
    if transfer.amount > has:
        cause = "insufficient_channel_balance"
        raise _bad(index, cause, f"its payer has {has} in the channel", expected_nonce, balance=has)
    if transfer.task_id is not None and not TASK_ID.fullmatch(transfer.task_id):
        raise _bad(index, "invalid_task_id", "a task id is a UUID in lower case", expected_nonce)
    terms = transfer_terms(
        channel,
        nonce=transfer.nonce,
        amount=transfer.amount,
        from_agent_id=transfer.from_agent_id,
        task_id=transfer.task_id,
    )
    signatures = ((channel.agent_a_id, transfer.signature_a), (channel.agent_b_id, transfer.signature_b))
    for agent_id, signature in signatures:
        if not is_signed_transfer(channel, agent_id, terms=terms, signature=signature, market=context.market):
            side = channel.side(agent_id)
            raise _bad(
                index,
                "invalid_signature",
                f"signature_{side} does not verify over the balances after it",
                expected_nonce,
                balance_a=terms.balance_a,
                balance_b=terms.balance_b,
            )
    return SignedTransfer(
        **msgspec.structs.asdict(terms),
        to_agent_id=channel.other(transfer.from_agent_id),
        signature_a=transfer.signature_a,
        signature_b=transfer.signature_b,
        completed_at=context.now,
    )


def _bad(index: int, cause: str, why: str, expected_nonce: int, **more: Any) -> Invalid:
    return Invalid(
        "bad_transfer",
        f"Transfer {index} of the chain is not good: {why}. Nothing was applied.",
        index=index,
        cause=cause,
        expected_nonce=expected_nonce,
        **more,
    )
