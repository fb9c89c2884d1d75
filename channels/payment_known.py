"""What a client says that it knows of a payment channel: what it lacks, and what this server may have lost.

A server that was restored from an older copy meets clients with newer, doubly signed states. Such a state proves the
loss, unless it may be what was proposed here, which whoever is to be paid can sign by itself.
"""

from datetime import datetime
from typing import Annotated, Any

import msgspec

from channels.channel_steps import ChannelStep, StepKind
from channels.errors import Invalid
from channels.fields import invalid_payload
from channels.handlers import Context
from channels.ledger import MONEY_MAX
from channels.payment_proofs import TASK_ID, TransferTerms, is_signed_transfer
from channels.payment_state import ChannelFacts, Mode, PaymentChannel, Proposal, StateLost

Nonce = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The newest state that a client knows. `nonce` alone is enough to be brought what came after it.

    With the rest, a `last_transfer` as the client has kept it, it proves a state that the server may have lost.
    """

    nonce: Nonce
    amount: int | None = None
    from_agent_id: str | None = None
    balance_a: int | None = None
    balance_b: int | None = None
    task_id: str | None = None
    signature_a: str | None = None
    signature_b: str | None = None


def lost_state(
    channel: PaymentChannel, loaded: PaymentChannel, facts: ChannelFacts, known: Known, context: Context
) -> StateLost | None:
    """What a client proves that this server has lost; None where it has lost nothing, or cannot tell.

    What was proposed here may come back doubly signed by whoever was to be paid, so it proves nothing. An offline
    channel is always behind its clients: they hand their transfers in.

    Args:
        channel: As the clock has left it.
        loaded: As it was before that: it still has the proposal that expires in this very decision.
        facts: What has used up the nonce that is known.
        known: What the client sends.
        context: The market.

    Raises:
        Invalid: `invalid_payload`, `invalid_signature`.
    """
    if channel.is_final or (channel.state_lost is not None and known.nonce <= channel.last_nonce):
        return None
    proof = _proof_of(channel, known)
    if proof is None:
        if known.nonce > channel.last_nonce:
            raise invalid_payload(
                "known", "A state that is newer than the server's needs both its signatures, as in last_transfer."
            )
        return None
    terms, signature_a, signature_b = proof
    if terms in _seen_at(loaded, facts, terms.nonce, restores=context.market.restores):
        return None
    for agent_id, signature in ((channel.agent_a_id, signature_a), (channel.agent_b_id, signature_b)):
        if not is_signed_transfer(channel, agent_id, terms=terms, signature=signature, market=context.market):
            raise Invalid(
                "invalid_signature",
                f"signature_{channel.side(agent_id)} of what is known does not verify.",
                last_nonce=channel.last_nonce,
                balance_a=channel.balance_a,
                balance_b=channel.balance_b,
            )
    if channel.mode is Mode.OFFLINE:
        return None
    return StateLost(
        **msgspec.structs.asdict(terms),
        signature_a=signature_a,
        signature_b=signature_b,
        reported_by=context.sender.require_agent(),
        reported_at=context.now,
    )


def _proof_of(channel: PaymentChannel, known: Known) -> tuple[TransferTerms, str, str] | None:
    """What a client knows as a transfer with two signatures; None where it has not sent all of it, or it cannot be."""
    amount, balance_a, balance_b = known.amount, known.balance_a, known.balance_b
    signature_a, signature_b, from_agent_id = known.signature_a, known.signature_b, known.from_agent_id
    if amount is None or balance_a is None or balance_b is None or signature_a is None or signature_b is None:
        return None
    if from_agent_id not in {channel.agent_a_id, channel.agent_b_id}:
        return None
    if not all(0 <= number <= MONEY_MAX for number in (amount, balance_a, balance_b)):
        return None
    if known.nonce < 1 or (known.task_id is not None and not TASK_ID.fullmatch(known.task_id)):
        return None
    assert from_agent_id is not None, "it is one of the two"
    terms = TransferTerms(
        nonce=known.nonce,
        amount=amount,
        from_agent_id=from_agent_id,
        balance_a=balance_a,
        balance_b=balance_b,
        task_id=known.task_id,
    )
    return terms, signature_a, signature_b


def _seen_at(
    channel: PaymentChannel, facts: ChannelFacts, nonce: int, *, restores: tuple[datetime, ...]
) -> tuple[TransferTerms, ...]:
    """What this server has had at a nonce, executed, voided or pending."""
    seen: list[TransferTerms] = []
    if channel.pending_proposal is not None and channel.pending_proposal.nonce == nonce:
        seen.append(terms_of(channel.pending_proposal))
    step = facts.used_at(nonce)
    if step is not None and not _may_cover_a_loss(step, channel, restores=restores):
        seen.append(_terms_of_step(step, channel))
    return tuple(seen)


def _may_cover_a_loss(step: ChannelStep, channel: PaymentChannel, *, restores: tuple[datetime, ...]) -> bool:
    """Whether a voided nonce may have been a transfer before the market was restored from a backup.

    Its payer could propose the very same transfer again and withdraw it, before who was paid is back. So it is not
    taken for something that never was, in channels that are older than that.
    """
    if step.kind is not StepKind.VOIDED:
        return False
    return any(channel.created_at <= restored_at <= step.at for restored_at in restores)


def terms_of(proposal: Proposal) -> TransferTerms:
    """A proposed transfer as it is signed."""
    return TransferTerms(**{name: getattr(proposal, name) for name in TransferTerms.__struct_fields__})


def _terms_of_step(step: ChannelStep, channel: PaymentChannel) -> TransferTerms:
    details = step.details
    made = (step.balance_a, step.balance_b)
    if step.kind is StepKind.VOIDED:
        before = msgspec.structs.replace(channel, balance_a=step.balance_a, balance_b=step.balance_b)
        made = before.paid(from_agent_id=details["from_agent_id"], amount=details["amount"])
    return TransferTerms(
        nonce=details["nonce"],
        amount=details["amount"],
        from_agent_id=details["from_agent_id"],
        balance_a=made[0],
        balance_b=made[1],
        task_id=details["task_id"],
    )


def missing_states(facts: ChannelFacts, known: Known, context: Context) -> dict[str, Any]:
    """The signed states after the one that a client knows, and where to go on if there are more of them."""
    most = context.market.limits.missing_transfers_max
    newer = [step for step in facts.used if step.last_nonce > known.nonce]
    return {
        "missing_transfers": [signed_state(step) for step in newer[:most] if step.kind is StepKind.TRANSFER],
        "missing_after": newer[most - 1].last_nonce if len(newer) > most else None,
    }


def signed_state(step: ChannelStep) -> dict[str, Any]:
    """A transfer of the history in the form of `last_transfer`."""
    details = {name: value for name, value in step.details.items() if name != "memo"}
    return {**details, "balance_a": step.balance_a, "balance_b": step.balance_b, "completed_at": step.at}
