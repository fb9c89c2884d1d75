"""The checksum of a stream, kept up chunk by chunk: SHA-256 and size of its decoded bytes in seq order.

Beside it the running digest, a chain over (seq, chunk) that needs no more than its head to go on: so both sides can
compare what they have at any point, also after a restart. SIGNING.md ("Streams") specifies both.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Final, Self

from .errors import ChecksumMismatch, SizeMismatch

_CHECKSUM: Final = re.compile(r"(?:sha256:)?([0-9A-Fa-f]{64})")

NO_CHUNKS: Final = "0" * 64
"""The running digest of a stream without chunks."""


def next_digest(before: str, *, seq: int, chunk: bytes) -> str:
    """The running digest once the next chunk is there: SHA-256 of the digest before, the seq, and the chunk.

    Args:
        before: Of the chunks before, 64 lower-case hex digits, as 32 bytes; `NO_CHUNKS` before the first.
        seq: The chunk's, as 8 bytes, big-endian.
        chunk: Its decoded bytes.
    """
    sha256 = hashlib.sha256(bytes.fromhex(before) + seq.to_bytes(8, "big"))
    sha256.update(chunk)
    return sha256.hexdigest()


class StreamChecksum:
    """A running checksum. Its owner hands in each chunk once, in seq order.

    Args:
        count: Chunks so far, which is the next seq.
        size: Bytes so far.
    """

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.count = 0
        self.size = 0

    def update(self, chunk: bytes) -> None:
        """Add the next chunk."""
        self._sha256.update(chunk)
        self.count += 1
        self.size += len(chunk)

    def hexdigest(self) -> str:
        """Of everything so far, 64 lower-case hex digits."""
        return self._sha256.hexdigest()

    def copy(self) -> Self:
        """One that goes on from here by itself."""
        twin = type(self)()
        twin._sha256 = self._sha256.copy()  # noqa: SLF001 - It is one of us.
        twin.count = self.count
        twin.size = self.size
        return twin

    def require(self, *, checksum: str, total_size: int) -> None:
        """Return if the sender's declaration fits what came in. Size goes first: it tells what is missing.

        Args:
            checksum: 64 hex digits of either case, with or without the prefix `sha256:`.
            total_size: In bytes.

        Raises:
            SizeMismatch: There are more or fewer bytes.
            ChecksumMismatch: The bytes differ, or `checksum` has another form.
        """
        if total_size != self.size:
            raise SizeMismatch(
                f"The stream has {self.size} bytes here, not {total_size}.",
                expected_size=self.size,
                offered_size=total_size,
            )
        expected, match = self.hexdigest(), _CHECKSUM.fullmatch(checksum)
        if match is None:
            raise ChecksumMismatch(
                "A checksum is 64 hex digits of SHA-256, with or without the prefix `sha256:`.",
                expected_checksum=expected,
                offered_checksum=None,
            )
        offered = match[1].lower()
        if offered != expected:
            raise ChecksumMismatch(
                f"The stream's bytes here have the SHA-256 {expected}, not {offered}.",
                expected_checksum=expected,
                offered_checksum=offered,
            )


def checksum_of(chunks: Iterable[bytes]) -> StreamChecksum:
    """The checksum over chunks in seq order, ready to go on."""
    checksum = StreamChecksum()
    for chunk in chunks:
        checksum.update(chunk)
    return checksum
