"""Ordering: what a task is to be, and its opening: once over every loss, and never left behind unseen."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .agreement import Agreement
from .amounts import Amount
from .asking import post
from .errors import ClientError, RefusedByServer
from .hired_input import Data
from .hired_output import Payer, Payment
from .hired_task import HiredTask
from .lies import Order
from .streamed_task import StreamPrice

if TYPE_CHECKING:
    from .context import AgentContext

FAREWELL_S: Final = 10.0
"""How long a hire that is given up waits for its task to be taken back; then that goes on beside the application."""

CLOSING_S: Final = 2.0
"""How long an agent that is closed waits for that."""

TAKEN_BACK: Final = "the hire was given up before it began"

_LOG = logging.getLogger(__name__)


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a task is to cost: an agreement's price, the list price up to a ceiling, or so much for each unit.

    Args:
        agreement: Whose price it is.
        max_price: The ceiling, in minor units.
        stream_price: A task's `stream_price`, its amount in minor units.
        channel_id: Of the channel that pays it.
    """

    agreement: Agreement | None = None
    max_price: int | None = None
    stream_price: dict[str, Any] | None = None
    channel_id: str | None = None

    def body(self) -> dict[str, Any]:
        """What of the opening's fields it is."""
        return {
            "negotiation_session_id": None if self.agreement is None else self.agreement.session_id,
            "max_price": self.max_price,
            "stream_price": self.stream_price,
            "channel_id": self.channel_id,
        }


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a task is to be beside its price and its provider.

    Args:
        capability: What for.
        input: JSON for the provider.
        deadline: When it has to be done; None: the market's own.
        hold_s: How long the price is held after completion; None: the market's own.
    """

    capability: str
    input: Any = None
    deadline: datetime | None = None
    hold_s: int | None = None

    def body(self, provider_id: str, price: Price) -> dict[str, Any]:
        """The opening's fields."""
        fields = {
            **price.body(),
            "provider_agent_id": provider_id,
            "capability": self.capability,
            "input": self.input,
            "deadline": None if self.deadline is None else self.deadline.isoformat(),
            "hold_seconds": self.hold_s,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def order(self, client_id: str, provider_id: str, price: Price) -> Order:
        """What the opened task is held against."""
        agreement = price.agreement
        return Order(
            client_agent_id=client_id,
            provider_agent_id=provider_id,
            capability=self.capability,
            input=self.input,
            price=None if agreement is None else agreement.amount,
            price_max=0 if price.stream_price is not None else price.max_price,
            negotiation_session_id=None if agreement is None else agreement.session_id,
            hold_seconds=self.hold_s,
            channel_id=price.channel_id,
            stream_price=price.stream_price,
        )


def as_json(value: Any) -> Any:
    """What a value is once it has come back: lists for tuples, and so on.

    Raises:
        TypeError: It cannot be sent as JSON.
    """
    return msgspec.json.decode(msgspec.json.encode(value))


def as_time(deadline: datetime | timedelta | None) -> datetime | None:
    """A deadline as a time.

    Raises:
        ValueError: The time has no zone.
    """
    if isinstance(deadline, timedelta):
        return datetime.now(UTC) + deadline
    if deadline is not None and deadline.tzinfo is None:
        raise ValueError("a deadline needs a time zone: write datetime.now(UTC) + …, or a timedelta")
    return deadline


def as_stream_price(context: "AgentContext", price: StreamPrice | Mapping[str, Any]) -> dict[str, Any]:
    """A price of units as a task has it, its amount in minor units.

    Raises:
        ValueError: There is no amount, or it is none.
        TypeError: As for amounts.
    """
    fields = msgspec.structs.asdict(price) if isinstance(price, StreamPrice) else dict(price)
    amount: Amount | None = fields.get("amount")
    if amount is None:
        raise ValueError('a stream_price has an amount, as in {"amount": "0.01", "per": "chunk"}')
    given = {name: value for name, value in fields.items() if value is not None}
    return {**given, "amount": context.amount(amount)}


async def open_task(
    context: "AgentContext",
    wanted: Wanted,
    price: Price,
    *,
    provider_id: str,
    payer: Payer | None = None,
    data: Data | None = None,
    under_way: dict[str, Payment] | None = None,
) -> HiredTask:
    """Open a task, join it, and begin to send its input.

    Where that goes wrong, or is cancelled, the task is cancelled again, before anything was sent.

    Args:
        context: The client's.
        wanted: What it is to be.
        price: What it is to cost.
        provider_id: Who does it.
        payer: What pays for it as it streams.
        data: Its input.
        under_way: By task, payments of all who pay for units in this program.

    Raises:
        RefusedByServer: It was not opened: `insufficient_balance`, `price_below_base` and more.
        LyingServer: It is not what was ordered.
        Disconnected: The connection is closed.
    """
    body = wanted.body(provider_id, price)
    opening = asyncio.ensure_future(post(context, "/tasks", body, dict[str, Any], key=uuid.uuid4().hex))
    try:
        opened = await asyncio.shield(opening)
        task = HiredTask(context, opened, wanted.order(context.me.id, provider_id, price), payer, under_way)
        await task.start(data)
    except BaseException as error:
        if not _is_refused(opening):
            await _give_up(context, opening)
        if isinstance(error, RefusedByServer) and error.reason == "insufficient_balance":
            raise _explained(context, error) from error
        raise
    return task


def _is_refused(opening: "asyncio.Future[dict[str, Any]]") -> bool:
    """Whether it is known that there is no task."""
    return opening.done() and not opening.cancelled() and isinstance(opening.exception(), RefusedByServer)


async def _give_up(context: "AgentContext", opening: "asyncio.Future[dict[str, Any]]") -> None:
    """Take a task back that was opened, or is being opened; that goes on if this is cancelled, or takes too long."""
    taking = asyncio.ensure_future(_take_back(context, opening))
    with contextlib.suppress(ClientError):  # The agent is closing: then it ends, and says so, with the connection.
        context.spawn(_see_through(taking), "taking back a task")
    await asyncio.wait((taking,), timeout=FAREWELL_S)


async def _see_through(taking: asyncio.Task[None]) -> None:
    """Own what is under way; an agent that is closed meanwhile waits a moment for it."""
    try:
        await asyncio.shield(taking)
    except asyncio.CancelledError:
        await asyncio.wait((taking,), timeout=CLOSING_S)
        raise


async def _take_back(context: "AgentContext", opening: "asyncio.Future[dict[str, Any]]") -> None:
    try:
        task_id = (await opening)["id"]
        await post(context, f"/tasks/{task_id}/cancel", {"reason": TAKEN_BACK}, dict[str, Any])
    except (ClientError, KeyError) as error:
        _LOG.warning("a task that was given up may be open still: %s", error)


def _explained(context: "AgentContext", refusal: RefusedByServer) -> RefusedByServer:
    """A refusal for want of money, with what to do about it."""
    required, available = refusal.context.get("required"), refusal.context.get("available")
    if not isinstance(required, int) or not isinstance(available, int):
        return refusal
    sentence = (
        f"{context.me.handle} needs {context.money(required)} for this, and has {context.money(available)} available: "
        f"have the operator deposit {context.money(required - available)} or more for it, or hire for less"
    )
    return RefusedByServer(refusal.reason, sentence, refusal.context)
