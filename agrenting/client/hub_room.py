"""HubRoom: the owner is asked in a chat room whom its agent takes as a contact, and answers there.

Each request is written into a room of the agent and its owner. The owner mentions the agent and writes, a line each:

    approve @bob/scout
    approve @bob/scout up to 5.00
    reject @bob/scout

What is meant otherwise is not guessed: an unclear answer changes nothing, and is answered with how to say it. Nobody
else in the room can answer. The room outlives the agent's program: it is found again by what it is about.
"""

import asyncio
import re
from typing import TYPE_CHECKING, Final

import msgspec

from .contact_strategies import Answer, ContactStrategy
from .errors import RefusedByServer
from .room_message import RoomMessage
from .told_contacts import ContactRequest, RequestStatus

if TYPE_CHECKING:
    from .contacts import Contacts

ABOUT: Final = "contact-requests"
"""The room's `task_id`, by which it is found again."""

_POST: Final = re.compile(r"@\[\[[0-9a-f-]{36}\]\] Request ([0-9a-f-]{36}) ")
_HANDLE: Final = r"@?(?P<handle>[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?(?:/[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)?)"
_UP_TO: Final = (
    r"(?:up +to|at +most|max(?:imum)?)[ :]+(?P<before>[a-z]{3} +)?(?P<money>[0-9]+(?:\.[0-9]+)?)(?P<after> +[a-z]{3})?"
)
_ANSWER: Final = re.compile(
    rf"(?:please +)?(?:(?P<approve>approve|accept|allow|yes|ok|okay)|(?P<reject>reject|refuse|deny|decline|no))"
    rf"[ ,:]+{_HANDLE}(?:[ ,:]+{_UP_TO})?[ ]*[.!]*",
    re.IGNORECASE,
)


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What the owner has said of one request.

    Args:
        handle: Whose.
        is_yes: Whether it is approved.
        up_to: The most that one thing may cost, in major units; None: whatever it costs.
        currency: As it was named with that; None: it was not.
    """

    handle: str
    is_yes: bool
    up_to: str | None = None
    currency: str | None = None


def parse_answer(line: str) -> Said | None:
    """What one line says; None: it is not clear."""
    match = _ANSWER.fullmatch(" ".join(line.split()))
    if match is None:
        return None
    before, after = (match[name] for name in ("before", "after"))
    if (match["reject"] and match["money"]) or (before and after):
        return None
    currency = (before or after or "").strip().upper() or None
    return Said(handle=match["handle"].lower(), is_yes=bool(match["approve"]), up_to=match["money"], currency=currency)


class HubRoom(ContactStrategy):
    """The owner answers in a chat room.

    Args:
        title: Of the room, when it is made.
    """

    def __init__(self, title: str = "Contact requests") -> None:
        self._title = title
        self._contacts: Contacts
        self._room_id = ""
        self._writing = asyncio.Lock()
        """Held while the room is looked for, and written in: one is made where none is, and ends stand behind requests.
        """
        self._written: set[str] = set()
        """Requests that the owner was asked about."""
        self._answered: set[str] = set()
        """Requests that were answered here: their end needs no other word."""

    async def begin(self, contacts: "Contacts") -> None:
        """Find the room, or make it, and what stands in it."""
        self._contacts = contacts
        async with self._writing:
            await self._have_room()

    async def decide(self, contacts: "Contacts", request: ContactRequest) -> Answer:
        """Ask the owner, once; the answer comes later."""
        del contacts
        if request.id in self._written or request.from_handle is None:
            return None
        self._written.add(request.id)
        try:
            await self._write(self._question(request), key=f"contact-request-{request.id}")
        except BaseException:
            self._written.discard(request.id)
            raise
        return None

    async def ended(self, contacts: "Contacts", request_id: str, status: RequestStatus | None) -> None:
        """Say so in the room, unless it was answered there."""
        del contacts
        if request_id not in self._written or request_id in self._answered:
            return
        how = "was ended while this agent was away" if status is None else f"was {status}"
        await self._write(f"It {how}: request {request_id} needs no answer any more.", key=f"ended-{request_id}")

    # The room.

    async def _have_room(self) -> None:
        """Find the room of the agent and its owner, or make it."""
        rooms, me = self._contacts.rooms, self._contacts.context.me
        room_id, is_there = "", False
        async for room in rooms.list():
            if room.task_id != ABOUT:
                continue
            roles = {one.id: one.role for one in await rooms.participants(room.id)}
            if roles.get(me.id) == "owner":  # Whoever adds the agent to a room of its own is told nothing there.
                room_id, is_there = room.id, me.owner_id in roles
                break
        if not room_id:
            room_id = (await rooms.create(self._title, ABOUT)).id
        if not is_there:
            await rooms.add(room_id, me.owner_id)
        async for text in rooms.history(room_id):
            question = _POST.match(text.content)
            if text.sender_id == me.id and question is not None:
                self._written.add(question[1])
        self._room_id = room_id
        rooms.on_message(self._hear, room_id=room_id)

    async def _write(self, text: str, *, key: str) -> None:
        """Write to the owner. A room that was deleted, or that the owner has left, is made good first."""
        async with self._writing:
            await self._write_now(text, key)

    async def _write_now(self, text: str, key: str) -> None:
        owner_id = self._contacts.context.me.owner_id
        content, room_id = f"@[[{owner_id}]] {text}", self._room_id
        try:
            await self._contacts.rooms.post(room_id, content, [owner_id], key=key)
        except RefusedByServer as refusal:
            if refusal.reason not in {"not_found", "mentioned_participant_not_in_room"}:
                raise
            await self._have_room()
            await self._contacts.rooms.post(self._room_id, content, [owner_id], key=key)

    def _question(self, request: ContactRequest) -> str:
        handle, name = request.from_handle, request.from_name
        said = "".join(f"\n> {line}" for line in (request.message or "").splitlines())
        return (
            f"Request {request.id} is from {handle} ({name}), who asks {self._own_handle} for contact.{said}\n"
            f"{self._how_to(str(handle))}"
        )

    def _how_to(self, handle: str) -> str:
        own = self._own_handle
        return (
            f"Write one of these lines, and mention @{own}:\n"
            f"approve @{handle}\napprove @{handle} up to 5.00\nreject @{handle}"
        )

    @property
    def _own_handle(self) -> str:
        return self._contacts.context.me.handle

    # The owner's answers.

    async def _hear(self, message: RoomMessage) -> None:
        me = self._contacts.context.me
        if message.sender_id != me.owner_id:
            await message.reply(f"Only {me.owner_handle} answers contact requests of {me.handle}.")
            return
        lines = [line for line in message.plain.splitlines() if line.strip()]
        await message.reply("\n".join([await self._answer(line) for line in lines] or [await self._unclear()]))

    async def _answer(self, line: str) -> str:
        """Do what one line says; what is said to that."""
        said = parse_answer(line)
        if said is None:
            return await self._unclear(line)
        context = self._contacts.context
        if said.currency not in {None, context.market.currency}:
            return f"Amounts are in {context.market.currency} here, so nothing was done with {line!r}."
        try:
            limit = None if said.up_to is None else context.amount(said.up_to)
        except ValueError as error:
            return f"Nothing was done with {line!r}: {error}."
        for request in await self._contacts.requests():
            if request.from_handle == said.handle:
                return await self._carry_out(request, said, limit)
        if await self._contacts.find(said.handle) is not None:
            return f"{said.handle} is a contact already."
        return f"There is no request from {said.handle} any more. {await self._pending()}"

    async def _carry_out(self, request: ContactRequest, said: Said, limit: int | None) -> str:
        self._answered.add(request.id)
        try:
            if not said.is_yes:
                await self._contacts.reject(request)
                return f"Rejected: {said.handle} is no contact."
            await self._contacts.approve(request, max_price=limit)
        except RefusedByServer as refusal:
            self._answered.discard(request.id)
            return f"The market refuses that for {said.handle}: {refusal.message or refusal.reason}"
        how_much = "" if limit is None else f", for up to {self._contacts.context.money(limit)} at a time"
        return f"Approved: {said.handle} is a contact now{how_much}."

    async def _unclear(self, line: str = "") -> str:
        what = f"It is not clear what {line.strip()!r} means, so nothing was done." if line else "Nothing was done."
        return f"{what} {await self._pending()}"

    async def _pending(self) -> str:
        """Who waits for an answer, and how to give it."""
        handles = [one.from_handle for one in await self._contacts.requests() if one.from_handle is not None]
        if not handles:
            return "Nobody is waiting for an answer."
        return f"Waiting for an answer: {', '.join(handles)}. {self._how_to(handles[0])}"
