"""Ed25519 keys as text: raw public keys in base64, `did:key`, and secret seeds.

A public key is checked once, where it enters. Taken are only canonical encodings of points of the prime-order subgroup:
a point of small order verifies forged signatures, and a point with a part of small order verifies in one library and
not in the next, so that two honest parties could disagree about one signature.
"""

import hashlib
import re
from functools import lru_cache
from typing import Final

from nacl import bindings

from .encoding import decode_base58, decode_base64, encode_base58, encode_base64
from .errors import BadKey, BadSecretKey

KEY_SIZE: Final = 32
"""Bytes of a public key, and of a secret seed."""

KEYS_KEPT: Final = 4_096
"""How many parsed public keys are kept."""

_DID_PREFIX: Final = "did:key:z"  # z is multibase's sign for base58btc.
_MULTICODEC: Final = b"\xed\x01"  # ed25519-pub, 0xed, as a varint.
_DID_KEY: Final = re.compile(r"did:key:z([1-9A-HJ-NP-Za-km-z]{47})")  # 34 bytes that begin with 0xed have 47 digits.
_FINGERPRINT_DIGITS: Final = 16


@lru_cache(maxsize=KEYS_KEPT)
def parse_public_key(text: str) -> bytes:
    """Read a public key from base64 or from a `did:key`. The last ones are kept: a point's check costs a signature's.

    Args:
        text: 44 characters of standard padded base64, or `did:key:z6Mk…`.

    Returns:
        32 bytes.

    Raises:
        BadKey: It is neither; or no canonical encoding of a point; or the point has, or contains, small order.
    """
    if text.startswith("did:"):
        return public_key_from_did(text)
    public_key = decode_base64(text, size=KEY_SIZE)
    if public_key is None:
        raise BadKey("A public key is 32 bytes in standard padded base64 (44 characters), or a did:key.")
    return _require_safe_point(public_key)


def format_public_key(public_key: bytes) -> str:
    """The key in standard padded base64, 44 characters."""
    return encode_base64(_require_size(public_key))


def public_key_from_did(did: str) -> bytes:
    """Read a public key from a `did:key`.

    Args:
        did: `did:key:z` and 47 digits in base58btc, which hold the bytes ed 01 and the key. No fragment, no path.

    Returns:
        32 bytes.

    Raises:
        BadKey: It has another form or holds another kind of key; or the point is refused as by `parse_public_key`.

    Source: the did:key method, version 0.7; multicodec table, ed25519-pub.
    """
    match = _DID_KEY.fullmatch(did)
    # One byte more than the key and its prefix: 47 digits can hold numbers just above 34 bytes.
    content = decode_base58(match[1], size=1 + len(_MULTICODEC) + KEY_SIZE) if match else b""
    if not content.startswith(b"\x00" + _MULTICODEC):
        raise BadKey("A did:key of an Ed25519 key is `did:key:z6Mk` and 44 more digits in base58btc.")
    return _require_safe_point(content[1 + len(_MULTICODEC) :])


def did_from_public_key(public_key: bytes) -> str:
    """The key as a `did:key`, 56 characters."""
    return _DID_PREFIX + encode_base58(_MULTICODEC + _require_size(public_key))


def fingerprint(public_key: bytes) -> str:
    """The first 16 hex digits of the key's SHA-256, for people to recognise it by. Too short to decide anything on."""
    return hashlib.sha256(_require_size(public_key)).hexdigest()[:_FINGERPRINT_DIGITS]


def generate_secret_key() -> bytes:
    """A new secret seed, 32 bytes from libsodium's generator."""
    return bindings.randombytes(KEY_SIZE)


def parse_secret_key(text: str) -> bytes:
    """Read a secret seed.

    Args:
        text: 44 characters of standard padded base64.

    Returns:
        32 bytes.

    Raises:
        BadSecretKey: It has another form. The sentence does not repeat the text.
    """
    secret_key = decode_base64(text, size=KEY_SIZE)
    if secret_key is None:
        raise BadSecretKey("A secret key is 32 bytes in standard padded base64 (44 characters).")
    return secret_key


def format_secret_key(secret_key: bytes) -> str:
    """The seed in standard padded base64, 44 characters."""
    return encode_base64(_require_size(secret_key))


def public_key_of(secret_key: bytes) -> bytes:
    """The public key that belongs to a secret seed."""
    return bindings.crypto_sign_seed_keypair(_require_size(secret_key))[0]


def _require_safe_point(public_key: bytes) -> bytes:
    if not bindings.crypto_core_ed25519_is_valid_point(public_key):
        raise BadKey("These 32 bytes are no Ed25519 key: off the curve, not in canonical form, or of small order.")
    return public_key


def _require_size(key: bytes) -> bytes:
    if len(key) != KEY_SIZE:
        raise ValueError(f"A key has {KEY_SIZE} bytes, not {len(key)}.")
    return key
