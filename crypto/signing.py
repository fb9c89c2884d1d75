"""Signing and verifying: the only file that calls libsodium's Ed25519 signatures.

One rule decides validity, everywhere: libsodium's strict one. Refused beyond RFC 8032 are an S that is not reduced
(else anyone could make a second signature out of one), and keys and points R of small order or not in canonical form.
The check is without the cofactor: the encoding of S·B − k·A must be R byte for byte.
"""

from functools import lru_cache
from typing import Final

from nacl import bindings
from nacl.exceptions import BadSignatureError

from .encoding import decode_base64, encode_base64
from .errors import BadSignature
from .keys import KEY_SIZE

SIGNATURE_SIZE: Final = 64
"""Bytes of a signature; 88 characters in base64."""

OUTCOMES_KEPT: Final = 16_384
"""How many outcomes of verifying are kept: eight of the longest chains that are handed in at once."""


def sign(secret_key: bytes, message: bytes) -> str:
    """Sign a message.

    Args:
        secret_key: The 32-byte seed.
        message: What a builder in messages.py made, never bytes from elsewhere.

    Returns:
        88 characters of standard padded base64.
    """
    _, expanded = bindings.crypto_sign_seed_keypair(secret_key)
    return encode_base64(bindings.crypto_sign(message, expanded)[:SIGNATURE_SIZE])


def verify_signature(*, public_key: bytes, message: bytes, signature: str) -> None:
    """Return if `signature` is the key's over the message.

    It costs about 40 µs, more than all other checks of an event together: make it the last one. Who asks the same again
    soon has the answer at once: the newest outcomes are kept, good and bad, by key, message and signature. So a long
    chain can be checked beside the database's writer, which others wait for, and once more inside it.

    Args:
        public_key: 32 bytes, as `parse_public_key` returned them.
        message: What a builder in messages.py made.
        signature: 88 characters of standard padded base64; any other text is refused, not repaired.

    Raises:
        BadSignature: It has another form, or does not verify.
    """
    if len(public_key) != KEY_SIZE:  # libsodium would read past the end of a shorter one.
        raise ValueError(f"A public key has {KEY_SIZE} bytes, not {len(public_key)}.")
    raw = decode_base64(signature, size=SIGNATURE_SIZE)
    if raw is None:
        raise BadSignature("A signature is 64 bytes in standard padded base64 (88 characters).")
    if not _is_valid(public_key, message, raw):
        raise BadSignature("The signature does not verify under this key over the expected bytes.")


@lru_cache(maxsize=OUTCOMES_KEPT)
def _is_valid(public_key: bytes, message: bytes, raw_signature: bytes) -> bool:
    """What libsodium says, which depends on nothing but the three. An exception would not be kept."""
    try:
        bindings.crypto_sign_open(raw_signature + message, public_key)
    except BadSignatureError:
        return False
    return True
