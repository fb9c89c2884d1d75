"""Receipts, checked offline: no server, no clock, only the document and public keys.

A receipt is a document about something that has ended, with the platform's signature over all of it. What the parties
have signed themselves is checked too, so that a receipt proves more than the platform's word. SIGNING.md ("Receipts")
gives the format, and a whole example.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from . import agreements
from .errors import ReceiptError
from .evidence import ID, NAME, SIGNATURE, SIGNING_DOMAIN, Fields, Findings, require_digest, require_signed
from .keys import fingerprint, format_public_key
from .messages import receipt_message

_MEMBERS: Final = frozenset(("kind", "id", "signing_domain", "document", "platform"))
_PLATFORM_MEMBERS: Final = frozenset(("public_key", "signature"))


class _Checker(Protocol):
    def __call__(self, document: object, *, signing_domain: str, document_id: str) -> Findings: ...


_CHECKERS: Final[dict[str, _Checker]] = {agreements.KIND: agreements.check_agreement}
"""How a document of each kind is checked."""


@dataclass(frozen=True, slots=True)
class ReceiptReport:
    """What a receipt proves.

    Args:
        kind: Of the document, such as `agreement`.
        id: Of what the document is about.
        checks: One sentence for each thing that was proved.
        unproven: One sentence for each key that was taken from the receipt itself. Anyone can make keys: the receipt
            is worth what is known about them from elsewhere.
    """

    kind: str
    id: str
    checks: tuple[str, ...]
    unproven: tuple[str, ...]


def verify_receipt(
    receipt: object,
    *,
    platform_key: bytes | None = None,
    client_key: bytes | None = None,
    provider_key: bytes | None = None,
) -> ReceiptReport:
    """Check a receipt of any kind as far as mathematics goes.

    Args:
        receipt: What a JSON parser made of it. It may be anything: every flaw is a `ReceiptError`.
        platform_key, client_key, provider_key: The keys that the receipt must name, 32 bytes each, where they are known
            from elsewhere; None leaves that open, and the report says so.

    Raises:
        ReceiptError: `kind`, `shape`, `key`, `pinned_key`, `platform_signature`, and those of the kind's own check.
    """
    fields = Fields(receipt, pointer="", names=_MEMBERS)
    kind = fields.text("kind", NAME)
    checker = _CHECKERS.get(kind)
    if checker is None:
        raise ReceiptError(f"Receipts of kind {kind} are not known here.", check="kind")
    document_id = fields.text("id", ID)
    signing_domain = fields.text("signing_domain", SIGNING_DOMAIN)
    platform = Fields(fields.member("platform"), pointer="/platform", names=_PLATFORM_MEMBERS)
    document = fields.member("document")
    findings = checker(document, signing_domain=signing_domain, document_id=document_id)
    keys = {"platform": platform.public_key("public_key"), **findings.parties}
    pins = {"platform": platform_key, "client": client_key, "provider": provider_key}
    pinned = tuple(_require_pinned(role, keys, key) for role, key in pins.items() if key is not None)
    require_signed(
        public_key=keys["platform"],
        message=receipt_message(
            signing_domain=signing_domain,
            kind=kind,
            document_id=document_id,
            document_digest=require_digest(document, pointer="/document"),
        ),
        signature=platform.text("signature", SIGNATURE),
        what="/platform/signature",
        check="platform_signature",
    )
    signed = (
        f"The platform (key {fingerprint(keys['platform'])}) has signed the whole document for the deployment "
        f"{signing_domain}, with its time and currency, which nobody else has signed."
    )
    return ReceiptReport(
        kind=kind,
        id=document_id,
        checks=(*findings.checks, signed, *pinned),
        unproven=tuple(
            f"The {role}'s key {format_public_key(key)} is taken from the receipt itself: compare it with a source "
            "that you trust."
            for role, key in keys.items()
            if pins.get(role) is None
        ),
    )


def _require_pinned(role: str, keys: dict[str, bytes], expected: bytes) -> str:
    """Return the sentence that the role's key is the expected one."""
    if keys.get(role) != expected:
        raise ReceiptError(f"The {role}'s key in the receipt is not the expected one.", check="pinned_key")
    return f"The {role}'s key is the expected one."
