"""The one seam to `crypto`: everything that the client signs or verifies with comes through here."""

from crypto import (
    CryptoError,
    accept_message,
    canonical_digest,
    close_message,
    digest,
    format_public_key,
    key_proof_message,
    offer_message,
    parse_public_key,
    public_key_of,
    session_message,
    sign,
    transfer_message,
    verify_receipt,
    verify_signature,
)

__all__ = [
    "CryptoError",
    "accept_message",
    "canonical_digest",
    "close_message",
    "digest",
    "format_public_key",
    "key_proof_message",
    "offer_message",
    "parse_public_key",
    "public_key_of",
    "session_message",
    "sign",
    "transfer_message",
    "verify_receipt",
    "verify_signature",
]
