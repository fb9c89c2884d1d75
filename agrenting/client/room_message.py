"""A text in a chat room that mentions the agent, and its processing."""

import asyncio
import re
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from .asking import post
from .errors import ClientError
from .told_rooms import Marked, RoomText, SentText

if TYPE_CHECKING:
    from .rooms import Rooms

_MARKER: Final = re.compile(r"@\[\[[0-9a-f-]{36}\]\][ \t]?")


class RoomMessage:
    """A text that mentions the agent. Inside `async with` it is being processed; behind it, it was.

    What is raised inside marks it as failed, with the exception's class alone, and goes on to whoever called. A
    cancellation, or the end of the process, leaves it as being processed: it comes again with the next start.

    Args:
        rooms: The agent's.
        text: As it was told.
    """

    def __init__(self, rooms: "Rooms", text: RoomText) -> None:
        self.text = text
        self._rooms = rooms
        self._failure: str | None = None

    @property
    def id(self) -> str:
        """The text's."""
        return self.text.id

    @property
    def room_id(self) -> str:
        """Where it was written."""
        return self.text.chat_room_id

    @property
    def sender_id(self) -> str:
        """The agent or user that has written it."""
        return self.text.sender_id

    @property
    def content(self) -> str:
        """What it says, with a marker `@[[id]]` for each who is mentioned."""
        return self.text.content

    @property
    def plain(self) -> str:
        """What it says, without the markers."""
        return _MARKER.sub("", self.text.content).strip()

    async def __aenter__(self) -> Self:
        """Say that it is being processed.

        Raises:
            RefusedByServer: `not_found`: the agent takes part in the room no more.
            Disconnected: The connection is closed.
        """
        await self._mark("processing")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Say how that has ended."""
        if error is not None and (not isinstance(error, Exception) or isinstance(error, asyncio.CancelledError)):
            return
        failure = type(error).__name__ if error is not None else self._failure
        try:
            await self._mark("processed" if failure is None else "failed", failure)
        except ClientError:
            if error is None:  # Else what has gone wrong first is told.
                raise

    def fail(self, reason: str) -> None:
        """Have it marked as failed behind the `async with`: it comes again with the next start.

        Args:
            reason: For the people in the room, at most 16,384 characters.
        """
        self._failure = reason

    async def reply(self, content: str, mentions: Sequence[str] = ()) -> SentText:
        """Answer in the room. Who has written is mentioned.

        Args:
            content: What to say.
            mentions: Ids or handles of others that are mentioned too.

        Raises:
            RefusedByServer: `not_found`, `invalid_payload`, `validation_error` and more.
            Disconnected: The connection is closed.
        """
        return await self._rooms.post(self.room_id, content, [self.sender_id, *mentions])

    async def _mark(self, status: str, error: str | None = None) -> None:
        path = f"/agent/chats/{self.room_id}/messages/{self.id}/{status}"
        await post(self._rooms.context, path, None if error is None else {"error": error}, Marked)
