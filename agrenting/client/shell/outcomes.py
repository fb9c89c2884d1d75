"""How a task stands, in one line for people and in fields for programs. Nothing of what was worked on is in it."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from ..asking import converted
from ..lies import FINAL
from .running import as_json

Money = Callable[[int], str]

TEXT_CHARS_MAX: Final = 200
"""Of what another agent has written."""


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a unit costs of a task that is paid as it streams."""

    amount: int


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Why a task has failed."""

    type: str
    details: Any = None


class Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """Why a task is disputed, and until when that is decided."""

    opened_by: str | None
    reason: str
    decides_at: str


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """How a dispute was decided."""

    to_client: int
    to_provider: int


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One of a task's streams."""

    complete: bool


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What of a task is told here."""

    id: str
    client_agent_id: str
    provider_agent_id: str
    capability: str
    status: str
    escrow_status: str
    price: int
    net: int
    paid: int
    stream_price: Price | None
    hold_ends_at: str | None
    deadline: str
    error: Fault | None
    reason: str | None
    ended_by: str | None
    dispute: Dispute | None
    settlement: Settlement | None
    streams: dict[str, Stream]

    @property
    def is_over(self) -> bool:
        """Whether nobody works on it any more."""
        return self.status in FINAL

    @property
    def may_end(self) -> bool:
        """Whether it can end without anything more of its client: its input was sent to its end, and nothing is due."""
        return self.is_over or (self.streams["input"].complete and self.stream_price is None)

    @property
    def fields(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "task_id": self.id,
            "status": self.status,
            "price": self.price,
            "net": self.net,
            "paid": self.paid,
            "escrow_status": self.escrow_status,
            "error": None if self.error is None else self.error.type,
            "reason": self.reason,
            "ended_by": self.ended_by,
        }


def standing_of(task: dict[str, Any]) -> Standing:
    """What is told of a task.

    Raises:
        MalformedAnswer: It is none.
    """
    return converted(task, Standing)


def outcome_of(task: Standing, money: Money) -> str:
    """How a task stands, and where its price is, for people."""
    match task.status:
        case "completed":
            return _completed(task, money)
        case "failed":
            return f"failed{_why(task)}; {_of_price(task, money)}"
        case "cancelled":
            said = "" if not task.reason else f": {shown(task.reason)}"
            return f"cancelled by {_by(task, task.ended_by)}{said}; {_of_price(task, money)}"
        case "disputed" if task.dispute is not None:
            by = _by(task, task.dispute.opened_by)
            until = f"an operator decides on {money(task.price)}, by {task.dispute.decides_at} at the latest"
            return f"disputed by {by}: {shown(task.dispute.reason)}; {until}"
        case _:
            return f"{task.status.replace('_', ' ')}; {_of_price(task, money)}"


def shown(text: str) -> str:
    """What another agent has written, so that it can do nothing to a terminal."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return f'"{plain[:TEXT_CHARS_MAX]}{"…" if len(plain) > TEXT_CHARS_MAX else ""}"'


def _completed(task: Standing, money: Money) -> str:
    if task.settlement is not None or task.escrow_status == "split":
        return f"completed; {_of_price(task, money)}"
    if task.escrow_status == "released":
        return f"completed and paid: {money(task.net)}, which is {money(task.price)} less the fee"
    return f"completed; {_of_price(task, money)}"


def _of_price(task: Standing, money: Money) -> str:
    """Where the price is."""
    if task.settlement is not None:
        to_provider, to_client = money(task.settlement.to_provider), money(task.settlement.to_client)
        return f"the dispute is decided: {to_provider} to the provider, {to_client} to the client"
    if task.stream_price is not None:
        return f"{money(task.paid)} was paid as it streamed"
    match task.escrow_status:
        case "held" if task.hold_ends_at is not None:
            return f"{money(task.price)} is held until {task.hold_ends_at}, unless the client pays before"
        case "refunded":
            return f"{money(task.price)} is back with the client"
        case "none":
            return "it costs nothing"
        case other:
            return f"{money(task.price)} is {other}"


def _why(task: Standing) -> str:
    if task.error is None:
        return ""
    details = "" if task.error.details is None else f" {shown(as_json({'details': task.error.details}))[1:-1]}"
    return f": {shown(task.error.type)[1:-1]}{details}"


def _by(task: Standing, agent_id: str | None) -> str:
    if agent_id is None:
        return "the market"
    return "its client" if agent_id == task.client_agent_id else "its provider"
