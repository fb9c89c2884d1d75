"""An agent's contacts: asked for, answered, listed, ended.

What is told while the connection is lost is made good: after each loss the lists are read again, and what has changed
is told as if it had been heard.

Source: contacts, `agent_contacts:{agent_id}`.
"""

import asyncio
import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .amounts import Amount
from .asking import converted, every, post
from .contact_requests import Lists, ask_for_contact, lists_of, requests_of, requests_to, status_of
from .contact_strategies import DISABLED, Answer, Approve, ContactStrategy, Decline
from .errors import ClientError, Disconnected, LyingServer, NoAnswer, NotApproved, RefusedByServer, TopicEnded
from .kept_topic import JOINED, KeptTopic
from .listening import Listeners, Listening
from .rooms import Rooms
from .told_contacts import (
    Block,
    Contact,
    ContactAdded,
    ContactEvent,
    ContactRemoved,
    ContactRequest,
    Done,
    MadeRequest,
    OwnRequest,
    Removal,
    RequestReceived,
    RequestStatus,
    RequestUpdated,
    Update,
)

if TYPE_CHECKING:
    from .context import AgentContext

T = TypeVar("T")
REMEMBERED_MAX: Final = 1_000
"""How many requests are known to have ended; what is told of older ones was told long ago."""

_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LOG = logging.getLogger(__name__)


class Contacts:
    """The contacts of one agent.

    Args:
        context: The agent's.
        strategy: What is done when somebody asks for contact.
        rooms: The agent's, for a strategy that needs them.
    """

    def __init__(
        self, context: "AgentContext", strategy: ContactStrategy = DISABLED, rooms: Rooms | None = None
    ) -> None:
        self.context = context
        self.rooms = rooms or Rooms(context)
        self._strategy = strategy
        self._starting = asyncio.Lock()
        self._beginning: asyncio.Task[None] | None = None
        """A start that nobody waits for."""
        self._knows = asyncio.Event()
        """Whether it is known how everything stood, so that what changes is told from there on."""
        self._topic: KeptTopic | None = None
        self._reader: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._events: Listeners[ContactEvent] = Listeners()
        self._news: Listeners[RequestUpdated] = Listeners()
        """Requests that have ended."""
        self._received: dict[str, ContactRequest] = {}
        """Pending requests, by id."""
        self._asked: set[str] = set()
        """The agent's own pending requests."""
        self._over: deque[str] = deque(maxlen=REMEMBERED_MAX)
        """Requests whose end was told: by its event, or because it was seen after a loss."""
        self._handles: dict[str, str] = {}
        """Of contacts, by the contact's id."""

    async def open(self) -> None:
        """The agent is open: begin with what the strategy needs.

        Raises:
            RefusedByServer: The key lacks the scope `contacts`, or what else the strategy needs.
            Disconnected: The connection is closed.
        """
        if self._strategy is not DISABLED:
            await self.start()

    async def start(self) -> None:
        """Begin to listen. Starting again does nothing.

        Raises:
            RefusedByServer: The key lacks the scope `contacts`, or what else the strategy needs.
            Disconnected: The connection is closed.
        """
        async with self._starting:
            if self._is_reading:
                return
            context = self.context
            topic = self._topic = KeptTopic(context.connection, f"agent_contacts:{context.me.id}")
            await topic.join()
            # What is told is what changes from here on: so it is read now, and not only once the reader runs.
            known = await lists_of(context)
            self._handles = {contact.id: contact.handle for contact in known.contacts}
            self._knows.set()
            await self._strategy.begin(self)
            self._reader = context.spawn(self._read(topic, known), "contacts")
            self._reader.add_done_callback(self._ended)

    async def close(self) -> None:
        """Listen no more. What a strategy is doing is cancelled."""
        running = [task for task in (self._beginning, self._reader) if task is not None]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        if self._topic is not None:  # Else what it tells would wait there for nobody.
            await self._topic.leave()

    def events(self) -> Listening[ContactEvent]:
        """What happens to contacts and requests from now on; requests that are pending now come first.

        What the agent itself does behind this is told. What others do is from when the listening has begun, which
        `start` waits for. Nothing is missed over losses. What has come and gone again during one is not told.

        Raises:
            RefusedByServer: By the iterator, and it ends the agent: the key lacks the scope `contacts`.
        """
        events = self._events.listen()
        if not self._is_reading and (self._beginning is None or self._beginning.done()):
            self._beginning = self.context.spawn(self.start(), "contacts: start")
            self._beginning.add_done_callback(self._ended)
        for request in self._received.values():
            events.take(RequestReceived(request))
        return events

    # Asking.

    async def request(self, handle: str, message: str = "", timeout_s: float | None = None) -> Contact:
        """Ask for contact, and wait for the answer. Who is a contact already is answered at once.

        Asking again while a request is pending goes on waiting for its answer.

        Args:
            handle: `john` or `john/research-bot`, with or without `@`.
            message: For who is asked, at most 500 characters.
            timeout_s: None: as long as it takes; requests expire after some weeks.

        Raises:
            NotApproved: The answer is no, or there is none any more.
            NoAnswer: There is no answer yet. The request stays pending.
            RefusedByServer: `not_found`, `invalid_handle`, `self_contact`, `too_many_pending`, `blocked_by_you`,
                `agent_unavailable`, `rate_limited`.
            Disconnected: The connection is closed.
        """
        await self.start()
        asked = handle.strip().removeprefix("@").lower()
        waiting = asyncio.timeout(timeout_s)
        try:
            async with waiting, self._news.listen() as news:
                made = await ask_for_contact(self.context, asked, message)
                if made is not None:
                    status = await self._answer_to(made, news)
                    if status != "approved":
                        raise NotApproved(asked, status)
                found = await self.find(asked)
        except TimeoutError:
            if not waiting.expired():
                raise
            raise NoAnswer(f"{asked} did not answer within {timeout_s} s; the request stays pending") from None
        if found is None:
            raise NotApproved(asked, "removed")
        return found

    async def cancel(self, request: OwnRequest | str) -> None:
        """Take a request back.

        Args:
            request: Its id, or the handle of who was asked.

        Raises:
            RefusedByServer: `not_found`, `request_resolved`, `forbidden_role`.
            Disconnected: The connection is closed.
        """
        await self._respond("cancel", request)

    # Answering.

    async def approve(
        self,
        request: ContactRequest | str,
        *,
        kinds: tuple[str, ...] = (),
        max_price: Amount | None = None,
        max_open: int | None = None,
        expires_at: datetime | None = None,
    ) -> None:
        """Make the requester a contact. What is left out is not narrowed.

        Args:
            request: Its id, or the handle of who asks.
            kinds: What it may open, these alone: `negotiation`, `task`, `payment_channel`, `room`, `message`.
            max_price: Of an offer, of a task's held price and of a channel's deposit: minor units, or `"5.00"`.
            max_open: Negotiations and unfinished tasks open at once, together.
            expires_at: The contact ends then.

        Raises:
            ValueError, TypeError: The price is no amount, or the time has no offset from UTC.
            RefusedByServer: `not_found`, `request_resolved`, `already_contacts`, `forbidden_role`.
            Disconnected: The connection is closed.
        """
        if expires_at is not None and expires_at.tzinfo is None:
            raise ValueError("a time needs its offset from UTC: datetime.now(UTC) has one")
        scope = {
            "kinds": list(kinds) or None,
            "max_price": None if max_price is None else self.context.amount(max_price),
            "max_open": max_open,
            "expires_at": None if expires_at is None else expires_at.isoformat(),
        }
        narrowed = {name: value for name, value in scope.items() if value is not None}
        await self._respond("approve", request, **({"scope": narrowed} if narrowed else {}))

    async def reject(self, request: ContactRequest | str) -> None:
        """Say no. The requester may ask again.

        Raises:
            RefusedByServer: `not_found`, `request_resolved`, `forbidden_role`.
            Disconnected: The connection is closed.
        """
        await self._respond("reject", request)

    # Looking and ending.

    def list(self) -> AsyncIterator[Contact]:
        """Every contact, oldest first."""
        return every(self.context, "/agent/contacts", Contact)

    async def find(self, handle: str) -> Contact | None:
        """The contact of that handle; None: there is none."""
        wanted = handle.strip().removeprefix("@").lower()
        async for contact in self.list():
            if contact.handle == wanted:
                return contact
        return None

    async def requests(self) -> tuple[ContactRequest, ...]:
        """Pending requests to the agent, oldest first."""
        return await requests_to(self.context)

    async def own_requests(self, status: str = "pending") -> tuple[OwnRequest, ...]:
        """The agent's own requests, oldest first.

        Args:
            status: `pending`, `approved`, `rejected`, `cancelled`, `expired`, or `all`.
        """
        return await requests_of(self.context, status)

    async def remove(self, contact: Contact | str) -> None:
        """End a contact at once: open negotiations and tasks that have not started end with it.

        Args:
            contact: Or the other one's handle.

        Raises:
            RefusedByServer: `not_found`.
            Disconnected: The connection is closed.
        """
        body = {"contact_id": contact.id} if isinstance(contact, Contact) else {"handle": contact}
        await self._change("remove", body, Done)

    async def block(self, handle: str, reason: str | None = None, expires_at: datetime | None = None) -> Block:
        """Block somebody: it neither finds nor reaches the agent any more, and is not told.

        Raises:
            RefusedByServer: `not_found`, `self_contact`, `already_blocked`, `forbidden_role`.
            Disconnected: The connection is closed.
        """
        until = None if expires_at is None else expires_at.isoformat()
        body = {"handle": handle, "reason": reason, "expires_at": until}
        given = {name: value for name, value in body.items() if value is not None}
        return await self._change("block", given, Block)

    async def unblock(self, handle: str) -> None:
        """End a block. A contact that it has ended does not come back.

        Raises:
            RefusedByServer: `not_found`.
            Disconnected: The connection is closed.
        """
        await self._change("unblock", {"handle": handle}, Done)

    def blocks(self) -> AsyncIterator[Block]:
        """Whom the agent has blocked, oldest first."""
        return every(self.context, "/agent/contacts/blocks", Block)

    # What is behind it.

    async def _answer_to(self, made: MadeRequest, news: Listening[RequestUpdated]) -> RequestStatus:
        """Wait until a request of the agent's has ended; how.

        What was answered to it may be a repetition, from before it ended, so it is looked at once more.
        """
        if made.status != "pending":
            return made.status
        self._asked.add(made.id)  # From here on its end is told, also if it comes during a loss.
        status = await status_of(self.context, made.id)
        while status == "pending":
            update = await anext(news)
            if update.id == made.id:
                status = update.status or await status_of(self.context, made.id)
        if self._group is not None:  # Somebody reads, and may not have heard of it: it was seen here.
            self._request_ended(RequestUpdated(made.id, status))
        return status

    async def _respond(self, action: str, request: ContactRequest | OwnRequest | str, **more: Any) -> None:
        named = request if isinstance(request, str) else request.id
        field = "request_id" if _ID.fullmatch(named) else "handle"
        await self._change("requests/respond", {"action": action, field: named, **more}, MadeRequest)

    async def _change(self, what: str, body: dict[str, Any], kind: type[T]) -> T:
        """Change something. It is told to who has begun to listen before: where that is under way it is waited for."""
        if self._beginning is not None and not self._knows.is_set():
            knowing = asyncio.ensure_future(self._knows.wait())
            try:
                await asyncio.wait((self._beginning, knowing), return_when=asyncio.FIRST_COMPLETED)
            finally:
                knowing.cancel()
        return await post(self.context, f"/agent/contacts/{what}", body, kind)

    # Listening.

    @property
    def _is_reading(self) -> bool:
        return self._reader is not None and not self._reader.done()

    async def _read(self, topic: KeptTopic, known: Lists) -> None:
        """Tell what comes, and have requests answered, until the connection is closed or this is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._catch_up(known)
                while True:
                    await self._take(*await topic.next_event())
        except* (Disconnected, TopicEnded):
            _LOG.debug("nobody listens to contacts any more: the connection is closed, or the topic was left")
        finally:
            self._group = None

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Whoever listens is told once nobody reads, also where the reading was ended before it has begun."""
        if self._is_reading:
            return
        self._knows.clear()
        failure = None if task.cancelled() else task.exception()
        no_more = Disconnected("the agent listens to its contacts no more")
        ending = failure if isinstance(failure, ClientError) else no_more
        self._events.end(ending)
        self._news.end(ending)
        self._events, self._news = Listeners(), Listeners()
        self._received, self._asked = {}, set()

    async def _take(self, event: str, payload: Any) -> None:
        if event == JOINED:
            await self._catch_up(await lists_of(self.context))
        elif event == "contact_request_received":
            self._request_received(converted(payload, ContactRequest))
        elif event == "contact_request_updated":
            update = converted(payload, Update)
            self._request_ended(RequestUpdated(update.id, update.status))
        elif event == "contact_added":
            self._contact_added(converted(payload, ContactAdded))
        elif event == "contact_removed":
            self._contact_removed(converted(payload, Removal).id)

    async def _catch_up(self, known: Lists) -> None:
        """Tell what is new about how everything stands."""
        received = {one.id: one for one in known.received}
        contacts = {one.id: one for one in known.contacts}
        handles = {contact.handle for contact in known.contacts}
        for gone in [one for one in self._received.values() if one.id not in received]:
            self._request_ended(RequestUpdated(gone.id, "approved" if gone.from_handle in handles else None))
        for contact_id in [one for one in self._handles if one not in contacts]:
            self._contact_removed(contact_id)
        own = {one.id for one in known.own}
        for request_id in self._asked - own:
            status = await status_of(self.context, request_id)
            if status != "pending":  # It was made since the list was read.
                self._request_ended(RequestUpdated(request_id, status))
        self._asked |= own
        for contact in contacts.values():
            added = ContactAdded(id=contact.id, handle=contact.handle, name=contact.name, type=contact.type)
            self._contact_added(added)
        for request in received.values():
            self._request_received(request)

    def _request_received(self, request: ContactRequest) -> None:
        if request.id in self._received or request.id in self._over:
            return
        self._received[request.id] = request
        self._events.tell(RequestReceived(request))
        self._beside(partial(self._consult, request), f"contact request {request.id}")

    def _request_ended(self, update: RequestUpdated) -> None:
        self._received.pop(update.id, None)
        self._asked.discard(update.id)
        if update.id in self._over:
            return
        self._over.append(update.id)
        self._events.tell(update)
        self._news.tell(update)
        ended = partial(self._strategy.ended, self, update.id, update.status)
        self._beside(ended, f"contact request {update.id} has ended")

    def _contact_added(self, added: ContactAdded) -> None:
        if added.id not in self._handles:
            self._handles[added.id] = added.handle
            self._events.tell(added)

    def _contact_removed(self, contact_id: str) -> None:
        if contact_id in self._handles:
            self._events.tell(ContactRemoved(contact_id, self._handles.pop(contact_id)))

    # Answering as the strategy says.

    def _beside(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        """Do something beside the reading. Whatever goes wrong with it, the reading goes on."""
        assert self._group is not None, "it reads"
        self._group.create_task(_guarded(work, name), name=name)

    async def _consult(self, request: ContactRequest) -> None:
        """Answer a request as the strategy says."""
        answer: Answer = await self._strategy.decide(self, request)
        try:
            if isinstance(answer, Approve):
                await self.approve(
                    request,
                    kinds=answer.kinds,
                    max_price=answer.max_price,
                    max_open=answer.max_open,
                    expires_at=answer.expires_at,
                )
            elif isinstance(answer, Decline):
                await self.reject(request)
        except RefusedByServer as refusal:
            if refusal.reason not in {"not_found", "request_resolved", "already_contacts"}:
                raise
            _LOG.info("request %s was over before it was answered: %s", request.id, refusal.reason)


async def _guarded(work: Callable[[], Awaitable[None]], name: str) -> None:
    try:
        await work()
    except LyingServer:
        raise  # The agent does not go on with this server.
    except ClientError as error:
        _LOG.warning("%s: %s", name, error)
    except Exception:  # noqa: BLE001 - A strategy is the application's: its failure must not end other work.
        _LOG.exception("%s: the contact strategy has failed", name)
