"""The vectors, and how the fields of each kind become the arguments of its builder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from crypto import (
    accept_message,
    close_message,
    key_proof_message,
    offer_message,
    receipt_message,
    session_message,
    transfer_message,
)

VECTORS: Final[dict[str, Any]] = json.loads((Path(__file__).parent / "vectors" / "signing.json").read_text("utf-8"))
CASES: Final[dict[str, dict[str, Any]]] = {case["name"]: case for case in VECTORS["cases"]}
REFUSED: Final[dict[str, dict[str, Any]]] = {case["name"]: case for case in VECTORS["must_be_refused"]}
SECRET_KEYS: Final = {name: bytes.fromhex(key["secret_seed_hex"]) for name, key in VECTORS["keys"].items()}

BUILDERS: Final[dict[str, tuple[Callable[..., bytes], str]]] = {
    "negotiation.session": (
        session_message,
        "session_id client_agent_id provider_agent_id capability base_max terms_digest",
    ),
    "negotiation.offer": (offer_message, "session_id agent_id round_number amount answered_digest"),
    "negotiation.accept": (accept_message, "session_id agent_id amount client_offer_digest provider_offer_digest"),
    "payment.transfer": (transfer_message, "channel_id nonce payer_agent_id amount balance_a balance_b task_id"),
    "payment.close": (close_message, "channel_id nonce final_balance_a final_balance_b"),
    "key.proof": (key_proof_message, "owner_id agent_id challenge"),
    "platform.receipt": (receipt_message, "kind document_id document_digest"),
}
"""Each kind's builder, and its arguments in the order of the fields."""

INTEGERS: Final = {
    *("base_max", "round_number", "amount", "nonce"),
    *("balance_a", "balance_b", "final_balance_a", "final_balance_b"),
}


def build_message(kind: str, domain: str, fields: list[str]) -> bytes:
    """The bytes of any kind from the texts of its fields."""
    builder, names = BUILDERS[kind]
    arguments = {
        name: int(field) if name in INTEGERS else None if field == "-" else field
        for name, field in zip(names.split(), fields, strict=True)
    }
    return builder(signing_domain=domain, **arguments)
