"""What parties of a payment channel sign, made from the channel as they are told it, for tests at every level.

`channel` is the snapshot that a join, an event's reply or a REST call answers, as JSON.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from crypto import close_message, sign, transfer_message

Snapshot = Mapping[str, Any]


def after(channel: Snapshot, *, from_agent_id: str, amount: int) -> tuple[int, int]:
    """The balances that a transfer makes of a channel's."""
    moved = amount if from_agent_id == channel["agent_b_id"] else -amount
    return channel["balance_a"] + moved, channel["balance_b"] - moved


def transfer_signature(
    channel: Snapshot,
    seed: bytes,
    *,
    from_agent_id: str,
    amount: int,
    nonce: int | None = None,
    task_id: str | None = None,
    balances: tuple[int, int] | None = None,
) -> str:
    """One party's signature over a transfer: by default the next one, over the balances that it makes."""
    balance_a, balance_b = after(channel, from_agent_id=from_agent_id, amount=amount) if balances is None else balances
    message = transfer_message(
        signing_domain=channel["signing_domain"],
        channel_id=channel["channel_id"],
        nonce=channel["last_nonce"] + 1 if nonce is None else nonce,
        payer_agent_id=from_agent_id,
        amount=amount,
        balance_a=balance_a,
        balance_b=balance_b,
        task_id=task_id,
    )
    return sign(seed, message)


def proposal(
    channel: Snapshot, seed: bytes, *, from_agent_id: str, amount: int, task_id: str | None = None
) -> dict[str, Any]:
    """The payload of `propose_transfer`, for the next nonce."""
    return {
        "amount": amount,
        "nonce": channel["last_nonce"] + 1,
        "signature": transfer_signature(channel, seed, from_agent_id=from_agent_id, amount=amount, task_id=task_id),
        **({} if task_id is None else {"task_id": task_id}),
    }


def acknowledgement(channel: Snapshot, seed: bytes, proposed: Snapshot) -> dict[str, Any]:
    """The payload of `acknowledge_transfer`: over the bytes of what was proposed, as it was relayed."""
    signature = transfer_signature(
        channel,
        seed,
        from_agent_id=proposed["from_agent_id"],
        amount=proposed["amount"],
        nonce=proposed["nonce"],
        task_id=proposed["task_id"],
        balances=(proposed["balance_a"], proposed["balance_b"]),
    )
    return {"amount": proposed["amount"], "nonce": proposed["nonce"], "signature": signature}


def close_signature(channel: Snapshot, seed: bytes, finals: tuple[int, int], *, nonce: int | None = None) -> str:
    """One party's signature over a close, by default at the last nonce."""
    message = close_message(
        signing_domain=channel["signing_domain"],
        channel_id=channel["channel_id"],
        nonce=channel["last_nonce"] if nonce is None else nonce,
        final_balance_a=finals[0],
        final_balance_b=finals[1],
    )
    return sign(seed, message)


def close(channel: Snapshot, seed_a: bytes, seed_b: bytes, finals: tuple[int, int] | None = None) -> dict[str, Any]:
    """The payload of `close`, by default over the balances."""
    shares = (channel["balance_a"], channel["balance_b"]) if finals is None else finals
    return {
        "final_balance_a": shares[0],
        "final_balance_b": shares[1],
        "signature_a": close_signature(channel, seed_a, shares),
        "signature_b": close_signature(channel, seed_b, shares),
    }


def chain(
    channel: Snapshot, seed_a: bytes, seed_b: bytes, amounts: Iterable[int], *, first_nonce: int | None = None
) -> list[dict[str, Any]]:
    """Doubly signed transfers that follow a channel: a positive amount is paid by A, a negative one by B."""
    now = {**channel}
    if first_nonce is not None:
        now["last_nonce"] = first_nonce - 1
    transfers: list[dict[str, Any]] = []
    for amount in amounts:
        payer = now["agent_a_id"] if amount > 0 else now["agent_b_id"]
        terms: dict[str, Any] = {"from_agent_id": payer, "amount": abs(amount)}
        balance_a, balance_b = after(now, **terms)
        transfers.append(
            {
                **terms,
                "nonce": now["last_nonce"] + 1,
                "task_id": None,
                "signature_a": transfer_signature(now, seed_a, **terms),
                "signature_b": transfer_signature(now, seed_b, **terms),
            }
        )
        now |= {"balance_a": balance_a, "balance_b": balance_b, "last_nonce": now["last_nonce"] + 1}
    return transfers
