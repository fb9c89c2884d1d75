"""Hiring: from a capability to a task that runs, in one call.

    task = await agent.hire("translate", data="Good morning!", max_price="5.00")

Whom: who is named, or the best who is online. For how much: an agreement, a strategy that comes to one, the list price
up to a ceiling, or a price for each unit that is paid as it streams. Who has to be asked for contact first, is asked.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

import msgspec

from .agreement import Agreement
from .amounts import Amount
from .asking import converted, every
from .bargaining import Bargaining
from .discovering import FoundAgent, Search, agent_id_of, discover, discover_all, handle_of
from .errors import NobodyFound, NotAgreed, RefusedByServer
from .hired_input import Data
from .hired_output import Payer, Payment
from .hired_task import HiredTask
from .lies import Order
from .ordering import Price, Wanted, as_json, as_stream_price, as_time, open_task
from .strategies import Strategy
from .streamed_task import StreamPrice

if TYPE_CHECKING:
    from .context import AgentContext

CANDIDATES: Final = 5
"""How many of the best are tried, where nobody is named."""

ABOUT_ONE: Final = frozenset(
    (
        *("agent_unavailable", "capability_not_offered", "price_below_base", "negotiation_required", "free_agent"),
        *("pricing_model_fixed", "public_key_required", "contact_required", "contact_scope_exceeded"),
        *("blocked_by_you", "mailbox_full", "too_many_open", "not_found"),
    )
)
"""Refusals that are about one provider: another one may do."""


TaskStatus = Literal["pending", "in_progress", "completed", "failed", "cancelled", "disputed"]


class OwnTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task of a client's list, as the server tells it: nothing of it is checked.

    Args:
        price: What was held for it, in minor units.
        escrow_status: Where the price is: `held`, `released`, `refunded` and more.
    """

    id: str
    provider_agent_id: str
    capability: str
    status: TaskStatus
    price: int
    escrow_status: str
    created_at: datetime
    deadline: datetime


class AsksForContact(Protocol):
    """Who asks for contact: the agent's contacts."""

    async def request(self, handle: str, message: str = "", timeout_s: float | None = None) -> object:
        """Ask, and wait for the answer."""
        ...


class Hiring:
    """What an agent hires others for.

    Args:
        context: The agent's.
        bargaining: Bargains where a strategy is given; None: one of its own.
        contacts: Asks for contact where that is needed; None: nobody is asked.
    """

    def __init__(
        self,
        context: "AgentContext",
        bargaining: Bargaining | None = None,
        contacts: AsksForContact | None = None,
    ) -> None:
        self._context = context
        self._bargaining = bargaining or Bargaining(context)
        self._contacts = contacts
        self._under_way: dict[str, Payment] = {}

    async def discover(self, search: Search, limit: int = 20) -> list[FoundAgent]:
        """The best agents that fit: `discovering.discover`."""
        return await discover(self._context, search, limit)

    def discover_all(self, search: Search) -> AsyncIterator[FoundAgent]:
        """Every agent that fits, best first: `discovering.discover_all`."""
        return discover_all(self._context, search)

    async def hire(
        self,
        capability: str,
        *,
        provider: FoundAgent | str | None = None,
        agreement: Agreement | None = None,
        strategy: Strategy | None = None,
        max_price: Amount | None = None,
        input: Any = None,  # noqa: A002 - It is the field's name.
        data: Data | None = None,
        deadline: datetime | timedelta | None = None,
        hold_s: int | None = None,
        channel: Payer | None = None,
        stream_price: StreamPrice | Mapping[str, Any] | None = None,
        asks_contact: bool = True,
        message: str = "",
        contact_timeout_s: float | None = None,
    ) -> HiredTask:
        """Hire somebody for one task. It is opened once, whatever is lost on the way.

        Just one of `agreement`, `strategy`, `max_price` and `stream_price` says what it may cost. For a `provider` that
        was found none of them is needed: then it is at most the price that it was found with.

        A hire that is cancelled, or goes wrong, leaves no task behind.

        Args:
            capability: What for.
            provider: Whom: found, or named by handle or id. None: with whom the agreement or the channel is; else the
                best who is online, by reputation, then price, or the next one where that one cannot be hired after all,
                or does not agree.
            agreement: At its price, with its provider.
            strategy: Bargain first; its limit is the most.
            max_price: At the list price, if that is no more.
            input: JSON for the provider, of moderate size.
            data: The input stream: bytes, text, or anything that yields them; it is sent while the output is read.
                None: `send` and `close` it yourself; `b""`: nothing is sent.
            deadline: When, or in how long, it has to be done: 60 s to 30 days ahead. None: the market's own.
            hold_s: How long the price is held after completion, for looking at what came. None: the market's own.
            channel: The open payment channel with the provider that pays as it streams.
            stream_price: What a unit of the output costs then: `amount`, `per` (`chunk` or `bytes`), `unit_bytes`,
                `credit`.
            asks_contact: Whether a provider that wants it is asked for contact, and its answer waited for.
            message: For that request.
            contact_timeout_s: How long the answer may take; None: as long as it takes.

        Raises:
            NobodyFound: Nobody is online who could be hired so.
            RefusedByServer: `insufficient_balance`, `price_below_base`, `contact_required` and more.
            NotApproved, NoAnswer: There is no contact, or no answer yet.
            NotAgreed, BeyondLimit, NoSigningKey: As for `Bargaining.negotiate`.
            WrongPrice, WrongAnswer: The opened task is not the one that was ordered. It was cancelled again.
            ValueError: Not just one price was given, or something is no amount.
            Disconnected: The connection is closed.
        """
        _require_one_price(provider, agreement, strategy, max_price, stream_price)
        if (channel is None) is not (stream_price is None):
            raise ValueError("channel and stream_price belong together: one pays what the other says")
        wanted = Wanted(capability=capability, input=as_json(input), deadline=as_time(deadline), hold_s=hold_s)
        price = Price(
            agreement=agreement,
            max_price=None if max_price is None else self._context.amount(max_price),
            stream_price=None if stream_price is None else as_stream_price(self._context, stream_price),
            channel_id=None if channel is None else channel.id,
        )
        hire = _Hire(self._context, wanted, price, _Supplies(channel, data, self._under_way))
        if strategy is not None:
            hire.bargains_with(strategy, self._bargaining)
        if asks_contact and self._contacts is not None:
            hire.asks_for_contact(self._contacts, message, contact_timeout_s)
        if provider is None and agreement is not None:
            provider = agreement.provider_agent_id
        elif provider is None and channel is not None:
            provider = channel.other_agent_id
        return await (hire.of_the_best() if provider is None else hire.of(provider))

    def tasks(self, *, status: TaskStatus | None = None) -> AsyncIterator[OwnTask]:
        """The tasks that this agent has hired others for, newest first, also those of earlier programs: see `take_up`.

        Args:
            status: None: any.
        """
        return every(self._context, "/tasks", OwnTask, role="client", status=status)

    async def take_up(self, task_id: str, *, channel: Payer | None = None) -> HiredTask:
        """A task that this agent has hired somebody for before, as before a restart; its output comes anew.

        Its input goes on behind what the market has of it, with `send` and `close`: `state["streams"]["input"]` says
        how much that is, in chunks (`next_seq`) and bytes (`total_size`), and whether it is `complete`.

        Args:
            task_id: The task's.
            channel: What pays for it, where it is paid as it streams.

        Raises:
            RefusedByServer: `not_found`.
            LyingServer: It is no task of this client, or cannot be.
            Disconnected: The connection is closed.
        """
        context = self._context
        told = await context.connection.repeat(lambda: context.rest.get(f"/tasks/{task_id}"))
        names = ("provider_agent_id", "capability", "input", "negotiation_session_id", "channel_id", "stream_price")
        fields = converted(told, dict[str, Any])
        order = converted({name: fields.get(name) for name in names} | {"client_agent_id": context.me.id}, Order)
        task = HiredTask(context, fields, order, channel, self._under_way)
        await task.start()
        return task


class _Supplies(NamedTuple):
    """What a task is paid with as it streams, and what is sent to it."""

    payer: Payer | None
    data: Data | None
    under_way: dict[str, Payment]


class _Hire:
    """One hire, of whoever it comes to be."""

    def __init__(self, context: "AgentContext", wanted: Wanted, price: Price, supplies: _Supplies) -> None:
        self._context = context
        self._wanted = wanted
        self._price = price
        self._supplies = supplies
        self._strategy: Strategy | None = None
        self._bargaining: Bargaining
        self._contacts: AsksForContact | None = None
        self._message = ""
        self._timeout_s: float | None = None

    def bargains_with(self, strategy: Strategy, bargaining: Bargaining) -> None:
        """The price is bargained for."""
        self._strategy, self._bargaining = strategy, bargaining

    def asks_for_contact(self, contacts: AsksForContact, message: str, timeout_s: float | None) -> None:
        """Who wants it is asked for contact."""
        self._contacts, self._message, self._timeout_s = contacts, message, timeout_s

    async def of(self, provider: FoundAgent | str) -> HiredTask:
        """Hire somebody in particular."""
        if isinstance(provider, FoundAgent) and provider.contact_required:
            await self._ask_for_contact(provider)
        provider_id = await self._id_of(provider)
        try:
            return await self._deal(provider, provider_id)
        except RefusedByServer as refusal:
            if refusal.reason != "contact_required" or self._contacts is None:
                raise
        await self._ask_for_contact(provider)
        return await self._deal(provider, provider_id)

    async def _id_of(self, provider: FoundAgent | str) -> str:
        """The provider's id. Whom only contacts can see is asked for contact by its handle first."""
        try:
            return await agent_id_of(self._context, provider)
        except RefusedByServer as refusal:
            if refusal.reason != "not_found" or self._contacts is None:
                raise
        await self._ask_for_contact(provider)
        return await agent_id_of(self._context, provider)

    async def of_the_best(self) -> HiredTask:
        """Hire the best who is online, or the next best where that fails for reasons of one provider alone.

        Raises:
            NobodyFound: Nobody fits.
        """
        failure: NotAgreed | RefusedByServer | None = None
        for found in await self._candidates():
            try:
                return await self.of(found)
            except NotAgreed as error:
                failure = error
            except RefusedByServer as error:
                if error.reason not in ABOUT_ONE:
                    raise
                failure = error
        if failure is not None:
            raise failure
        raise await self._nobody()

    async def _candidates(self) -> list[FoundAgent]:
        search = Search(capability=self._wanted.capability, max_price=self._price.max_price)
        found = await discover(self._context, search, CANDIDATES)
        return [one for one in found if self._is_possible(one)]

    def _is_possible(self, found: FoundAgent) -> bool:
        """Whether somebody could be hired, as far as is known before."""
        if found.contact_required and self._contacts is None:
            return False
        if self._strategy is None:
            return found.price is not None and found.pricing_model != "auction"
        return bool(found.price) and found.pricing_model != "fixed"

    async def _nobody(self) -> NobodyFound:
        """What there is instead, for people."""
        capability = self._wanted.capability
        others = await discover(self._context, Search(capability=capability, status=None), 1)
        if not others:
            return NobodyFound(f"no agent that can be found offers {capability}")
        best = others[0]
        costs = "no list price" if best.price is None else self._context.money(best.price)
        wants = ", wants to be asked for contact" if best.contact_required else ""
        limit = self._price.max_price
        so = "so" if limit is None else f"for at most {self._context.money(self._context.amount(limit))}"
        return NobodyFound(
            f"nobody who is online can be hired for {capability} {so}; there is {best.handle}: {best.status}, {costs},"
            f" pricing {best.pricing_model}{wants}"
        )

    async def _deal(self, provider: FoundAgent | str, provider_id: str) -> HiredTask:
        price = self._price
        if self._strategy is not None:
            agreement = await self._bargaining.negotiate(provider_id, self._wanted.capability, strategy=self._strategy)
            price = Price(agreement=agreement)
        elif isinstance(provider, FoundAgent) and price == Price():
            price = Price(max_price=provider.price)
        return await open_task(self._context, self._wanted, price, provider_id=provider_id, **self._supplies._asdict())

    async def _ask_for_contact(self, provider: FoundAgent | str) -> None:
        contacts = self._contacts
        if contacts is not None:
            await contacts.request(await handle_of(self._context, provider), self._message, self._timeout_s)


def _require_one_price(provider: FoundAgent | str | None, *prices: object) -> None:
    """Refuse a hire for which not just one thing says what it may cost.

    Raises:
        ValueError: It is so.
    """
    given = sum(price is not None for price in prices)
    found_at = provider.price if isinstance(provider, FoundAgent) else None
    if given == 1 or (given == 0 and found_at is not None):
        return
    raise ValueError("say what it may cost with just one of max_price, strategy, agreement and stream_price")
