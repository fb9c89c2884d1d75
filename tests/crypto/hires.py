"""Honest receipts of any task that Alice has hired Bob for."""

import json
from collections.abc import Sequence
from typing import Any, Final

from crypto import NO_CHUNKS, canonical_digest, checksum_of, next_digest

from .bargains import platform_signs
from .roles import ALICE, BOB, DOMAIN, SESSION_ID

Json = dict[str, Any]

TASK_ID: Final = "33333333-3333-4333-8333-333333333333"
CHANNEL_ID: Final = "22222222-2222-4222-8222-222222222222"
INPUT: Final = (b"hello ", b"world")
OUTPUT: Final = (b"hallo ", b"welt")
AT: Final = "2026-11-01T12:00:00Z"
LATER: Final = "2026-11-01T12:30:00.5Z"


def stream(chunks: Sequence[bytes] = (), *, is_closed: bool = False) -> Json:
    """A stream as a receipt sums it up."""
    digest = NO_CHUNKS
    for seq, chunk in enumerate(chunks):
        digest = next_digest(digest, seq=seq, chunk=chunk)
    checksum = checksum_of(chunks)
    return {
        "chunks": checksum.count,
        "total_size": checksum.size,
        "digest": digest,
        "complete": is_closed,
        "checksum": checksum.hexdigest() if is_closed else None,
    }


def settlement(decision: str, decided_by: str, **changed: object) -> Json:
    reason = "It is half of it." if decided_by == "operator" else None
    made = {"decision": decision, "decided_by": decided_by, "reason": reason, "disputed_at": LATER, "settled_at": LATER}
    return {**made, **changed}


def task(*, streams: Json | None = None, **changed: object) -> Json:
    """The receipt of a task that was completed and paid, or of what the changes make of it."""
    document = {
        "task_id": TASK_ID,
        "client_agent_id": ALICE.agent_id,
        "provider_agent_id": BOB.agent_id,
        "capability": "translate",
        "negotiation_session_id": SESSION_ID,
        "status": "completed",
        "price": 1250,
        "fee_bps": 500,
        "escrow_status": "released",
        "to_client": 0,
        "to_provider": 1188,
        "fee": 62,
        "settlement": None,
        "channel_id": None,
        "stream_price": None,
        "paid": 0,
        "units": None,
        "paid_up_to": None,
        "streams": streams or {"input": stream(INPUT, is_closed=True), "output": stream(OUTPUT, is_closed=True)},
        "input_digest": canonical_digest({"languages": ["en", "de"]}),
        "result_given": True,
        "result_digest": canonical_digest({"words": 2}),
        "currency": "USD",
        "exponent": 6,
        "created_at": AT,
        "started_at": AT,
        "ended_at": LATER,
        **changed,
    }
    receipt = {"kind": "task", "id": TASK_ID, "signing_domain": DOMAIN, "document": document}
    return platform_signs(json.loads(json.dumps(receipt)))


UNDELIVERED: Final[Json] = {"result_given": False, "result_digest": None}
REFUNDED: Final[Json] = {"escrow_status": "refunded", "to_client": 1250, "to_provider": 0, "fee": 0, **UNDELIVERED}
FREE: Final[Json] = {"price": 0, "escrow_status": "none", "to_provider": 0, "fee": 0}
BEGUN: Final[Json] = {"input": stream(INPUT), "output": stream(OUTPUT)}
UNUSED: Final[Json] = {"input": stream(INPUT), "output": stream()}
PER_CHUNK: Final[Json] = {"amount": 40, "per": "chunk", "unit_bytes": None, "credit": 2}
PER_BYTES: Final[Json] = {"amount": 40, "per": "bytes", "unit_bytes": 8, "credit": 1}
STREAMED: Final[Json] = {**FREE, "negotiation_session_id": None, "channel_id": CHANNEL_ID}

HONEST: Final[dict[str, Json]] = {
    "completed": task(),
    "completed without output": task(streams=UNUSED),
    "completed without a result": task(**UNDELIVERED),
    "completed with a result of fractions": task(result_digest=None),
    "free": task(**FREE),
    "failed": task(status="failed", streams=BEGUN, **REFUNDED),
    "cancelled": task(status="cancelled", streams=UNUSED, started_at=None, **REFUNDED),
    "settled for the client": task(
        status="failed",
        settlement=settlement("client", "operator"),
        **{**REFUNDED, "result_given": True},
    ),
    "settled at once": task(
        status="failed", settlement=settlement("client", "automatic"), streams=UNUSED, started_at=AT, **REFUNDED
    ),
    "settled by the clock for the client": task(
        status="failed", settlement=settlement("client", "default"), streams=BEGUN, **REFUNDED
    ),
    "settled by the clock for the provider": task(settlement=settlement("provider", "default"), **UNDELIVERED),
    "settled for the provider": task(settlement=settlement("provider", "operator"), streams=BEGUN, **UNDELIVERED),
    "split": task(
        settlement=settlement("split", "operator"), escrow_status="split", to_client=416, to_provider=793, fee=41
    ),
    "paid by the chunk": task(
        **{**STREAMED, **UNDELIVERED},
        status="cancelled",
        streams=BEGUN,
        stream_price=PER_CHUNK,
        paid=79,
        units=3,
        paid_up_to=1,
    ),
    "paid by bytes": task(**STREAMED, stream_price=PER_BYTES, paid=80, units=2, paid_up_to=2),
}
