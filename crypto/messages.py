"""Fields → the bytes that are signed, one function for each kind.

`agrenting-sig-v1`, the deployment's signing domain, the kind, then the fields: UTF-8 lines joined by one line feed,
none at the end. The domain stops replay between deployments, the kind stops cross-use, ids, rounds, nonces and digests
stop replay inside one. Free text enters as a digest only, so no field can hold a line feed and the form is unambiguous.

Every argument must have been checked where it came in. A value that would make the bytes ambiguous (a line feed, an
empty text, a negative number or a boolean, a digest of another form) is a mistake of the program: `ValueError`, and
nothing is signed.

SIGNING.md shows each kind with an example.
"""

import hashlib
import re
from enum import StrEnum
from typing import Final

FORMAT: Final = "agrenting-sig-v1"
"""The first line. Another form of bytes would have another one."""

INTEGER_MAX: Final = 2**53 - 1
"""The largest integer that every language's JSON keeps exact."""

SIGNING_DOMAIN_PATTERN: Final = re.compile(r"[a-z0-9.-]{1,253}")
DIGEST_PATTERN: Final = re.compile(r"[0-9a-f]{64}")

_NONE: Final = "-"


class Kind(StrEnum):
    """The third line."""

    SESSION = "negotiation.session"
    OFFER = "negotiation.offer"
    ACCEPT = "negotiation.accept"
    TRANSFER = "payment.transfer"
    CLOSE = "payment.close"
    KEY_PROOF = "key.proof"
    RECEIPT = "platform.receipt"


def digest(message: bytes) -> str:
    """SHA-256 as 64 lower-case hex digits."""
    return hashlib.sha256(message).hexdigest()


def session_message(
    *,
    signing_domain: str,
    session_id: str,
    client_agent_id: str,
    provider_agent_id: str,
    capability: str,
    base_max: int,
    terms_digest: str | None,
) -> bytes:
    """What a negotiation is about. Nobody signs it: its digest is what the first offer answers.

    Args:
        base_max: The provider's list price in minor units, frozen at the opening.
        terms_digest: SHA-256 of the terms' canonical JSON; None without terms.
    """
    return _message(
        signing_domain,
        Kind.SESSION,
        _text(session_id),
        _text(client_agent_id),
        _text(provider_agent_id),
        _text(capability),
        _integer(base_max),
        _NONE if terms_digest is None else _digest(terms_digest),
    )


def offer_message(
    *, signing_domain: str, session_id: str, agent_id: str, round_number: int, amount: int, answered_digest: str
) -> bytes:
    """What the maker of an offer signs.

    Args:
        agent_id: The agent that offers.
        round_number: Counts the session's offers of both sides from 1.
        amount: In minor units.
        answered_digest: Of the counterparty's standing offer; for the session's first offer, of the session. So who
            offers has signed knowing the midpoint that it exposes itself to.
    """
    return _message(
        signing_domain,
        Kind.OFFER,
        _text(session_id),
        _text(agent_id),
        _integer(round_number),
        _integer(amount),
        _digest(answered_digest),
    )


def accept_message(
    *,
    signing_domain: str,
    session_id: str,
    agent_id: str,
    amount: int,
    client_offer_digest: str,
    provider_offer_digest: str,
) -> bytes:
    """What the acceptor of the midpoint signs.

    Args:
        agent_id: The agent that accepts.
        amount: The midpoint of the two standing offers in minor units, rounded down.
        client_offer_digest, provider_offer_digest: Of the two standing offers.
    """
    return _message(
        signing_domain,
        Kind.ACCEPT,
        _text(session_id),
        _text(agent_id),
        _integer(amount),
        _digest(client_offer_digest),
        _digest(provider_offer_digest),
    )


def transfer_message(
    *,
    signing_domain: str,
    channel_id: str,
    nonce: int,
    payer_agent_id: str,
    amount: int,
    balance_a: int,
    balance_b: int,
    task_id: str | None,
) -> bytes:
    """What both parties of a payment channel sign for one transfer.

    Args:
        nonce: The channel's last consumed nonce plus one.
        amount: In minor units.
        balance_a, balance_b: Of opener and counterparty after the transfer, in minor units.
        task_id: The task that it pays for; None for none.
    """
    return _message(
        signing_domain,
        Kind.TRANSFER,
        _text(channel_id),
        _integer(nonce),
        _text(payer_agent_id),
        _integer(amount),
        _integer(balance_a),
        _integer(balance_b),
        _optional(task_id),
    )


def close_message(
    *, signing_domain: str, channel_id: str, nonce: int, final_balance_a: int, final_balance_b: int
) -> bytes:
    """What both parties of a payment channel sign to end it.

    Args:
        nonce: The last consumed one: it moves with the next transfer, and the signature is void then.
        final_balance_a, final_balance_b: What opener and counterparty are paid, in minor units.
    """
    return _message(
        signing_domain,
        Kind.CLOSE,
        _text(channel_id),
        _integer(nonce),
        _integer(final_balance_a),
        _integer(final_balance_b),
    )


def key_proof_message(*, signing_domain: str, owner_id: str, agent_id: str | None, challenge: str) -> bytes:
    """What an owner signs with a new key to show that it holds the secret one.

    Args:
        owner_id: The user id of the agent's owner.
        agent_id: None for an agent that is being registered.
        challenge: The server's one-time challenge, as it was given.
    """
    return _message(signing_domain, Kind.KEY_PROOF, _text(owner_id), _optional(agent_id), _text(challenge))


def receipt_message(*, signing_domain: str, kind: str, document_id: str, document_digest: str) -> bytes:
    """What the platform signs under a receipt.

    Args:
        kind: Of the document, such as `agreement`; not the kind of these bytes.
        document_id: The id of what the document is about.
        document_digest: SHA-256 of the document's canonical JSON.
    """
    return _message(signing_domain, Kind.RECEIPT, _text(kind), _text(document_id), _digest(document_digest))


def _message(signing_domain: str, kind: Kind, *fields: str) -> bytes:
    if not SIGNING_DOMAIN_PATTERN.fullmatch(signing_domain):
        raise ValueError(f"A signing domain is 1 to 253 of `a-z 0-9 . -`, not {signing_domain!r}.")
    return "\n".join((FORMAT, signing_domain, kind, *fields)).encode("utf-8")  # A lone surrogate is a ValueError here.


def _text(value: str) -> str:
    if not value or "\n" in value:
        raise ValueError(f"A signed field is one line of text, not {value!r}.")
    return value


def _optional(value: str | None) -> str:
    if value == _NONE:
        raise ValueError("`-` stands for a field that is not there; give None.")
    return _NONE if value is None else _text(value)


def _digest(value: str) -> str:
    if not DIGEST_PATTERN.fullmatch(value):
        raise ValueError(f"A digest is 64 lower-case hex digits, not {value!r}.")
    return value


def _integer(value: int) -> str:
    if type(value) is not int or not 0 <= value <= INTEGER_MAX:  # Python's booleans are integers; no signed field is.
        raise ValueError(f"A signed number is an integer from 0 to {INTEGER_MAX}, not {value!r}.")
    return str(value)
