"""Agents of the client with all that they have to do with others, their owners by REST, and losses on demand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from agrenting.client.backoff import Backoff
from agrenting.client.connection import Connection
from agrenting.client.contact_strategies import DISABLED, ContactStrategy
from agrenting.client.contacts import Contacts
from agrenting.client.context import AgentContext
from agrenting.client.folder import StateFolder
from agrenting.client.mailbox import Mailbox
from agrenting.client.market import ask_market, ask_me
from agrenting.client.private_channels import PrivateChannels
from agrenting.client.rest import RestClient
from agrenting.client.rooms import Rooms
from agrenting.client.watching import Watching
from tests.system.harness import AgentAccount, MarketProcess

QUICK = Backoff(first_s=0.02, most_s=0.3)
SOON_S = 30.0


class Person:
    """An agent that is open: its mailbox, contacts, rooms, private channels and numbers."""

    def __init__(self, context: AgentContext, strategy: ContactStrategy) -> None:
        self.context = context
        self.mailbox = context.mailbox = Mailbox(context)
        self.rooms = Rooms(context)
        self.contacts = Contacts(context, strategy, self.rooms)
        self.channels = PrivateChannels(context)
        self.watching = Watching(context)

    @property
    def id(self) -> str:
        return self.context.me.id

    @property
    def handle(self) -> str:
        return self.context.me.handle

    async def cut(self) -> None:
        """Lose the connection, as a dead network does."""
        (await self.context.connection.socket()).abort()


@asynccontextmanager
async def person(
    market: MarketProcess, account: AgentAccount, folder: Path, strategy: ContactStrategy = DISABLED
) -> AsyncIterator[Person]:
    """Open an agent. What goes wrong behind it goes wrong in the test."""
    connection = Connection(market.url, account.api_key, backoff=QUICK)
    rest = RestClient(market.url, account.api_key, backoff=QUICK)
    async with rest:
        me, facts = await ask_me(rest), await ask_market(rest)
        async with connection, asyncio.TaskGroup() as group:
            context = AgentContext(connection, rest)
            one = Person(context, strategy)
            context.fill(me=me, market=facts, folder=StateFolder(folder / me.id), signer=None, group=group)
            await one.rooms.open()
            await one.contacts.open()
            try:
                yield one
            finally:
                context.cancel_background()


class Owner:
    """A user: it does everything by REST, and hears on its own socket what is written to it.

    Args:
        market: Where.
        fields: As `user create` tells them.
    """

    def __init__(self, market: MarketProcess, fields: dict[str, Any]) -> None:
        self.id: str = fields["id"]
        self.handle: str = fields["handle"]
        self.key: str = fields["api_key"]
        self._market = market

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Do something; the answer's data."""
        async with httpx.AsyncClient(
            base_url=self._market.url, headers={"x-api-key": self.key}, timeout=SOON_S
        ) as http:
            answer = await http.request(method, f"/api/v1{path}", json=body)
            assert answer.is_success, answer.text
            return answer.json()["data"]

    async def answer(self, verdict: str) -> None:
        """Approve or reject the one request that its agents have got."""
        (one,) = await self.ask("GET", "/me/contacts/requests?whose=agents")
        await self.ask("POST", f"/me/contacts/requests/{one['id']}/{verdict}")

    async def rooms(self) -> list[str]:
        """Rooms that it takes part in."""
        return [room["id"] for room in await self.ask("GET", "/me/chats")]

    async def texts(self, room_id: str) -> list[str]:
        """What was written in a room, oldest first."""
        written = await self.ask("GET", f"/me/chats/{room_id}/messages?limit=100&message_type=text")
        return [one["content"] for one in reversed(written)]

    async def write(self, room_id: str, content: str, to: str) -> str:
        """Write in a room; the text's id."""
        body = {"message": {"content": content, "mentions": [{"id": to}]}}
        written = await self.ask("POST", f"/me/chats/{room_id}/messages", body)
        return str(written["id"])

    async def read(self, room_id: str, what: str) -> str:
        """Wait until the owner has been written that in a room; the text."""
        async with self._market.client(self.key) as socket, asyncio.timeout(SOON_S):
            await socket.join(f"chat_room:{room_id}")
            for text in await self.texts(room_id):
                if what in text:
                    return text
            while what not in (text := (await socket.expect("message_created"))["content"]):
                pass
            return str(text)

    async def next_room(self, known: tuple[str, ...] = ()) -> str:
        """Wait for a room that it was not in before."""
        async with self._market.client(self.key) as socket, asyncio.timeout(SOON_S):
            await socket.join(f"user_rooms:{self.id}")
            for room_id in await self.rooms():
                if room_id not in known:
                    return room_id
            return str((await socket.expect("room_added"))["id"])
