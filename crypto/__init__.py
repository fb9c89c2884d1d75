"""Crypto proves it: keys, the bytes that are signed, signatures, nonces, checksums, receipts and histories.

Nothing here reads a clock, a file or a socket, and nothing knows of topics or tables; SIGNING.md specifies the same for
other languages.
"""

from .canonical import canonical_digest, canonical_json
from .checksums import NO_CHUNKS, StreamChecksum, checksum_of, next_digest
from .errors import (
    BadDocument,
    BadKey,
    BadSecretKey,
    BadSignature,
    ChecksumMismatch,
    CryptoError,
    NonceGap,
    NonceOutOfOrder,
    NonceReplayed,
    ReceiptError,
    SizeMismatch,
)
from .histories import HistoryDigest, verify_history
from .keys import (
    did_from_public_key,
    fingerprint,
    format_public_key,
    format_secret_key,
    generate_secret_key,
    parse_public_key,
    parse_secret_key,
    public_key_from_did,
    public_key_of,
)
from .messages import (
    accept_message,
    close_message,
    digest,
    key_proof_message,
    offer_message,
    receipt_message,
    session_message,
    transfer_message,
)
from .nonces import require_next_nonce
from .receipts import ReceiptReport, verify_receipt
from .signing import sign, verify_signature
from .stream_files import verify_chunks, verify_stream

__all__ = [
    "NO_CHUNKS",
    "BadDocument",
    "BadKey",
    "BadSecretKey",
    "BadSignature",
    "ChecksumMismatch",
    "CryptoError",
    "HistoryDigest",
    "NonceGap",
    "NonceOutOfOrder",
    "NonceReplayed",
    "ReceiptError",
    "ReceiptReport",
    "SizeMismatch",
    "StreamChecksum",
    "accept_message",
    "canonical_digest",
    "canonical_json",
    "checksum_of",
    "close_message",
    "did_from_public_key",
    "digest",
    "fingerprint",
    "format_public_key",
    "format_secret_key",
    "generate_secret_key",
    "key_proof_message",
    "next_digest",
    "offer_message",
    "parse_public_key",
    "parse_secret_key",
    "public_key_from_did",
    "public_key_of",
    "receipt_message",
    "require_next_nonce",
    "session_message",
    "sign",
    "transfer_message",
    "verify_chunks",
    "verify_history",
    "verify_receipt",
    "verify_signature",
    "verify_stream",
]
