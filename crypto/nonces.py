"""The order of nonces: strictly the last one plus one.

One counter per payment channel, from 0, shared by both parties. A gap would hide lost updates; +1 makes the log
provably complete, and evidence checkable by who holds it alone.
"""

from .errors import NonceGap, NonceReplayed


def require_next_nonce(*, last: int, offered: int) -> None:
    """Return if `offered` comes right after `last`.

    Args:
        last: The last consumed nonce; 0 before the first.

    Raises:
        NonceReplayed: It is the last one or lower.
        NonceGap: It is higher than the last one plus one.
    """
    expected = last + 1
    if offered < expected:
        raise NonceReplayed(f"Nonce {expected} is next; {offered} is used up.", expected_nonce=expected)
    if offered > expected:
        raise NonceGap(f"Nonce {expected} is next; {offered} would leave a gap.", expected_nonce=expected)
