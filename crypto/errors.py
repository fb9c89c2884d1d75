"""What can be wrong with keys, signatures, nonces, checksums, documents and receipts.

::

    CryptoError
    ├── BadKey                 invalid_public_key
    │   └── BadSecretKey       invalid_secret_key
    ├── BadSignature           invalid_signature
    ├── NonceOutOfOrder
    │   ├── NonceReplayed      nonce_replayed
    │   └── NonceGap           nonce_gap
    ├── ChecksumMismatch       checksum_mismatch
    ├── SizeMismatch           size_mismatch
    ├── BadDocument            invalid_document
    └── ReceiptError           invalid_receipt

`reason` is what goes over the wire and never changes; `str(error)` is a sentence for people; `context` holds the
fields that a program acts on. No sentence and no field ever holds a secret.
"""

from typing import ClassVar


class CryptoError(Exception):
    """An expected "no" of this package; only its subclasses are raised."""

    reason: ClassVar[str]

    @property
    def context(self) -> dict[str, str | int | None]:
        """The fields that accompany the reason on the wire; none unless a subclass says so."""
        return {}


class BadKey(CryptoError):
    """A text is no public key, or stands for a point that must not be one."""

    reason = "invalid_public_key"


class BadSecretKey(BadKey):
    """A text is no secret key. The sentence never repeats it."""

    reason = "invalid_secret_key"


class BadSignature(CryptoError):
    """A signature is malformed, or does not verify under the key over the message."""

    reason = "invalid_signature"


class NonceOutOfOrder(CryptoError):
    """A nonce is not the last one plus one.

    Args:
        expected_nonce: The only nonce that would have been taken.
    """

    def __init__(self, sentence: str, *, expected_nonce: int) -> None:
        super().__init__(sentence)
        self.expected_nonce = expected_nonce

    @property
    def context(self) -> dict[str, str | int | None]:
        """`expected_nonce`."""
        return {"expected_nonce": self.expected_nonce}


class NonceReplayed(NonceOutOfOrder):
    """The nonce has been consumed already."""

    reason = "nonce_replayed"


class NonceGap(NonceOutOfOrder):
    """The nonce would leave others out."""

    reason = "nonce_gap"


class ChecksumMismatch(CryptoError):
    """A stream's bytes are not those that its sender summed up.

    Args:
        expected_checksum: Of the bytes that are here, 64 lower-case hex digits.
        offered_checksum: What the sender declared, in the same form; None if it was no checksum at all.
    """

    reason = "checksum_mismatch"

    def __init__(self, sentence: str, *, expected_checksum: str, offered_checksum: str | None) -> None:
        super().__init__(sentence)
        self.expected_checksum = expected_checksum
        self.offered_checksum = offered_checksum

    @property
    def context(self) -> dict[str, str | int | None]:
        """`expected_checksum`, `offered_checksum`."""
        return {"expected_checksum": self.expected_checksum, "offered_checksum": self.offered_checksum}


class SizeMismatch(CryptoError):
    """A stream has another size than its sender declared.

    Args:
        expected_size: Of what is here, in bytes.
        offered_size: What the sender declared, in bytes.
    """

    reason = "size_mismatch"

    def __init__(self, sentence: str, *, expected_size: int, offered_size: int) -> None:
        super().__init__(sentence)
        self.expected_size = expected_size
        self.offered_size = offered_size

    @property
    def context(self) -> dict[str, str | int | None]:
        """`expected_size`, `offered_size`."""
        return {"expected_size": self.expected_size, "offered_size": self.offered_size}


class BadDocument(CryptoError):
    """A value has no canonical JSON.

    Args:
        pointer: Where the trouble is, a JSON pointer (RFC 6901); empty for the whole value.
    """

    reason = "invalid_document"

    def __init__(self, sentence: str, *, pointer: str) -> None:
        super().__init__(sentence)
        self.pointer = pointer

    @property
    def context(self) -> dict[str, str | int | None]:
        """`pointer`."""
        return {"pointer": self.pointer}


class ReceiptError(CryptoError):
    """A receipt or a history proves nothing.

    Args:
        check: The check that failed, one of those listed in SIGNING.md ("Receipts", "Histories").
    """

    reason = "invalid_receipt"

    def __init__(self, sentence: str, *, check: str) -> None:
        super().__init__(sentence)
        self.check = check

    @property
    def context(self) -> dict[str, str | int | None]:
        """`check`."""
        return {"check": self.check}
