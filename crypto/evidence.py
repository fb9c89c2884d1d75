"""What the checks of every kind of receipt are made of: reading a stranger's JSON, and what a check found.

A receipt may come from anybody. Whatever is wrong with it, a reader here raises `ReceiptError` and says where (as a
JSON pointer) and what it expected; it never repeats what stood there, which may be long.
"""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple, cast

from .canonical import canonical_digest
from .errors import BadDocument, BadKey, BadSignature, ReceiptError
from .keys import parse_public_key
from .messages import DIGEST_PATTERN, SIGNING_DOMAIN_PATTERN
from .signing import verify_signature


class Form(NamedTuple):
    """How a text must look: a pattern, and the same in words."""

    pattern: re.Pattern[str]
    meaning: str


ID: Final = Form(re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "a UUID in lower case")
DIGEST: Final = Form(DIGEST_PATTERN, "a SHA-256 of 64 lower-case hex digits")
TEXT: Final = Form(re.compile(r"(?s:.*)"), "a text")
SIGNATURE: Final = Form(re.compile(r"[A-Za-z0-9+/]{86}=="), "a signature of 88 characters in base64")
SIGNING_DOMAIN: Final = Form(SIGNING_DOMAIN_PATTERN, "a signing domain of 1 to 253 of `a-z 0-9 . -`")
NAME: Final = Form(re.compile(r"[a-z0-9_-]{1,64}"), "a name of 1 to 64 of `a-z 0-9 _ -`")
CURRENCY: Final = Form(re.compile(r"[!-~]{1,16}"), "a currency of 1 to 16 visible ASCII characters")
TIME: Final = Form(
    re.compile(
        r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
        r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?Z"
    ),
    "a time in UTC such as 2030-01-31T23:59:59.5Z",
)

RECEIPT_MEMBERS: Final = frozenset(("kind", "id", "signing_domain", "document", "platform"))
"""What a receipt of any kind has."""


def choice(*words: str) -> Form:
    """One of some words."""
    return Form(re.compile("|".join(map(re.escape, words))), f"one of {', '.join(words)}")


@dataclass(frozen=True, slots=True)
class Findings:
    """What the check of one kind of document found to be true.

    Args:
        checks: One sentence for each thing that was proved.
        parties: The public key of each party, by its role, as the document states it.
    """

    checks: tuple[str, ...]
    parties: dict[str, bytes]


class Fields:
    """The members of one JSON object, read by name and expected form.

    Args:
        value: Whatever stands where an object should.
        pointer: Where that is, a JSON pointer into the receipt.
        names: The members that it must have; it may have no others, because nothing would vouch for them.

    Raises:
        ReceiptError: `shape`.
    """

    def __init__(self, value: object, *, pointer: str, names: frozenset[str]) -> None:
        self.pointer = pointer
        if not isinstance(value, dict):
            raise self._misshapen("", "an object")
        self._members = cast("dict[str, object]", value)
        missing = names - self._members.keys()
        if missing:
            raise self._misshapen("", f"an object with the member `{min(missing)}`")
        if len(self._members) != len(names):
            raise self._misshapen("", f"an object of {len(names)} members and no others")

    def member(self, name: str) -> object:
        """Whatever stands there."""
        return self._members[name]

    def text(self, name: str, form: Form) -> str:
        """A string of that form.

        Raises:
            ReceiptError: `shape`.
        """
        value = self._members[name]
        if not isinstance(value, str) or not form.pattern.fullmatch(value):
            raise self._misshapen(name, form.meaning)
        return value

    def optional_text(self, name: str, form: Form) -> str | None:
        """A string of that form, or null.

        Raises:
            ReceiptError: `shape`.
        """
        return None if self._members[name] is None else self.text(name, form)

    def integer(self, name: str, *, minimum: int, maximum: int) -> int:
        """An integer between two bounds, both included.

        Raises:
            ReceiptError: `shape`.
        """
        value = self._members[name]
        # Booleans are integers in Python; in JSON they are not.
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
            raise self._misshapen(name, f"an integer from {minimum} to {maximum}")
        return value

    def flag(self, name: str) -> bool:
        """True or false.

        Raises:
            ReceiptError: `shape`.
        """
        value = self._members[name]
        if not isinstance(value, bool):
            raise self._misshapen(name, "true or false")
        return value

    def items(self, name: str, *, minimum: int, maximum: int) -> list[object]:
        """A list of so many items.

        Raises:
            ReceiptError: `shape`.
        """
        value = self._members[name]
        if not isinstance(value, list):
            raise self._misshapen(name, "a list")
        items = cast("list[object]", value)
        if not minimum <= len(items) <= maximum:
            raise self._misshapen(name, f"a list of {minimum} to {maximum} items")
        return items

    def public_key(self, name: str) -> bytes:
        """A public key, in base64 or as a `did:key`.

        Raises:
            ReceiptError: `shape`, `key`.
        """
        value = self._members[name]
        if not isinstance(value, str):
            raise self._misshapen(name, "a public key in base64")
        try:
            return parse_public_key(value)
        except BadKey as error:
            raise ReceiptError(f"{self.pointer}/{name}: {error}", check="key") from error

    def _misshapen(self, name: str, expected: str) -> ReceiptError:
        place = f"{self.pointer}/{name}" if name else self.pointer or "The receipt"
        return ReceiptError(f"{place}: expected is {expected}.", check="shape")


def require_signed(*, public_key: bytes, message: bytes, signature: str, what: str, check: str) -> None:
    """Return if the signature verifies.

    Args:
        what: What is signed and by whom, for the sentence.

    Raises:
        ReceiptError: The given `check`.
    """
    try:
        verify_signature(public_key=public_key, message=message, signature=signature)
    except BadSignature as error:
        raise ReceiptError(f"{what}: {error}", check=check) from error


def require_digest(value: object, *, pointer: str) -> str:
    """The digest of a value's canonical JSON.

    Raises:
        ReceiptError: `shape`; the value has none.
    """
    try:
        return canonical_digest(value)
    except BadDocument as error:
        raise ReceiptError(f"{pointer}{error.pointer}: {error}", check="shape") from error
