"""New ids: UUID version 7 for rows that grow, so that indexes stay local, and random text for what grants access."""

import secrets
import threading
import time

_lock = threading.Lock()
_last = 0

RANDOM_BITS = 62
SEQUENCE_BITS = 12


def new_id() -> str:
    """A UUID version 7, lower case; later ones of one process compare greater.

    Source: RFC 9562, 5.7, with the sub-millisecond bits as a counter (method 1).
    """
    global _last  # noqa: PLW0603 - the counter is one per process by definition
    with _lock:
        milliseconds = time.time_ns() // 1_000_000
        _last = max(_last + 1, milliseconds << SEQUENCE_BITS)
        stamp = _last
    high, sequence = stamp >> SEQUENCE_BITS, stamp & 0xFFF
    value = (high & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | sequence << 64 | 0b10 << 62 | secrets.randbits(RANDOM_BITS)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_secret(prefix: str) -> str:
    """A fresh API key or token: 256 random bits behind a prefix that says what it is."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def new_token() -> str:
    """A fresh secret without a prefix: 256 random bits, written so that no command line takes it for an option."""
    return secrets.token_hex(32)


def new_phx_ref() -> str:
    """A presence's `phx_ref`: 16 characters, unique for each track."""
    return secrets.token_urlsafe(12)
