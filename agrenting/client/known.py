"""What an agent knows itself of what a receipt is about, and what a receipt must therefore say."""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ._crypto import CryptoError, canonical_digest
from .channel_record import Record
from .errors import WrongReceipt
from .streams import Position

Document = dict[str, Any]


class KnownTask(msgspec.Struct, frozen=True, kw_only=True):
    """What one side of a task knows of it; what is None or not set is not compared.

    Args:
        client_agent_id, provider_agent_id, capability, negotiation_session_id: What it was, and between whom.
        price: In minor units.
        paid: What was paid for it as it streamed, in minor units.
        input, result: The documents of its opening and of its completion.
        input_stream, output_stream: Behind the last chunk of each stream, as it was sent or came.
    """

    client_agent_id: str | None = None
    provider_agent_id: str | None = None
    capability: str | None = None
    negotiation_session_id: str | None = None
    price: int | None = None
    paid: int | None = None
    input: Any | UnsetType = UNSET
    result: Any | UnsetType = UNSET
    input_stream: Position | None = None
    output_stream: Position | None = None

    def require(self, document: Document) -> None:
        """Refuse a receipt's document that says something else.

        Raises:
            WrongReceipt: It does.
        """
        names = ("client_agent_id", "provider_agent_id", "capability", "negotiation_session_id", "price", "paid")
        _require_equal(document, {name: getattr(self, name) for name in names})
        for name in ("input", "result"):
            value = getattr(self, name)
            if value is not UNSET:
                _require_same(f"{name}_digest", _digest(value), document[f"{name}_digest"])
        for direction, position in (("input", self.input_stream), ("output", self.output_stream)):
            if position is not None:
                stream = document["streams"][direction]
                told = Position(stream["chunks"], stream["total_size"], stream["digest"])
                _require_same(f"streams/{direction}", position, told)


class KnownAgreement(msgspec.Struct, frozen=True, kw_only=True):
    """What one side of an agreement knows of it: the session as it was checked, and its price in minor units."""

    client_agent_id: str
    provider_agent_id: str
    client_public_key: str
    provider_public_key: str
    capability: str
    base_max: int
    terms: dict[str, Any] | None
    amount: int | None = None

    @classmethod
    def of(cls, session: dict[str, Any]) -> "KnownAgreement":
        """By a session that was checked."""
        return cls(**{name: session[name] for name in cls.__struct_fields__})

    def require(self, document: Document) -> None:
        """Refuse a receipt's document that says something else.

        Raises:
            WrongReceipt: It does.
        """
        names = [name for name in self.__struct_fields__ if name != "terms"]
        _require_equal(document, {name: getattr(self, name) for name in names})
        _require_same("terms", self.terms, document["terms"])


def require_known_channel(record: Record, document: Document) -> None:
    """Refuse a closed channel's document that says something else than an agent has written down of the channel.

    Raises:
        WrongReceipt: Parties or keys are others; or a nonce, a deposit or the newest state is left out.
    """
    opening = record.opening
    if opening is None:
        return
    names = ("agent_a_id", "agent_b_id", "public_key_a", "public_key_b")
    _require_equal(document, {name: getattr(opening, name) for name in names})
    for name in ("last_nonce", "deposit_a", "deposit_b"):
        if document[name] < getattr(record, name):
            raise _differs(name, getattr(record, name), document[name])
    state, last = record.standing.state, document["last_transfer"]
    if state is None:
        return
    if last is None or last["nonce"] < state.nonce:
        raise _differs("last_transfer", state.nonce, None if last is None else last["nonce"])
    if last["nonce"] == state.nonce:
        _require_equal(last, msgspec.to_builtins(state.terms))


def _require_equal(document: Document, known: Document) -> None:
    for name, value in known.items():
        if value is not None:
            _require_same(name, value, document[name])


def _require_same(name: str, known: object, told: object) -> None:
    if known != told:
        raise _differs(name, known, told)


def _differs(name: str, known: object, told: object) -> WrongReceipt:
    return WrongReceipt(
        f"the receipt's {name} is {told!r:.200}, and this agent knows {known!r:.200}", expected=known, told=told
    )


def _digest(document: Any) -> str | None:
    """The digest of a document; None where there is none, or where it has no canonical form."""
    if document is None:
        return None
    try:
        return canonical_digest(document)
    except CryptoError:
        return None
