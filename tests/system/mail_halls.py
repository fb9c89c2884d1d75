"""A server, and agents who write to each other: what the tests of mailboxes stand on.

Alice, Carol and Dave write to Bob, whom everybody may reach. A `Writer` calls by REST and comes again after a crash;
what it was answered is what must be there. The server may be killed, and comes again at the same address.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import WebSocketException

from tests.system.halls import Ground
from tests.system.harness import REPLY_TIMEOUT_S, AgentAccount, Client, MarketProcess, Refused

LOST = (ConnectionError, OSError, WebSocketException)
PATIENCE_S = 60.0
"""How long a test waits for what must come, on a machine that is busy."""

UNBOUND = {
    f"AGRENTING_{name}_{side}": "1e12" for name in ("CONTROL", "JOINS", "MESSAGE_BYTES") for side in ("PER_S", "BURST")
} | {"AGRENTING_LOG_LEVEL": "warning", "AGRENTING_MESSAGE_REPEATS_S": "[3600]"}
"""Settings of servers whose rates and repeats are not what is tested."""

NEW_MESSAGE = {"id", "type", "payload", "from_agent_id", "protocol_version", "inserted_at", "from_market"}
UPDATED = {"id", "to_agent_id", "type", "status", "reason", "updated_at"}
WHOLE = NEW_MESSAGE | {"to_agent_id", "dedup_key", "status", "reason", "updated_at", "expires_at"}

NUMBERS = count()

Fields = dict[str, Any]


class MailHall:
    """The server, and who has a part in it: other agents in each hall, whose mailboxes are empty.

    Args:
        market: It runs.
    """

    def __init__(self, market: MarketProcess) -> None:
        self.market = market
        self.ground = Ground(market)
        self.owners = {name: f"{name}-{next(NUMBERS)}" for name in ("alice", "bob", "carol", "mallory")}
        self.keys: dict[str, str] = {name: market.user(owner)["api_key"] for name, owner in self.owners.items()}
        self.alice = self.agent("alice", "Client", deposit=1_000_000)
        self.bob = self.agent("bob", "Translator", "--capability", "translate=1000", "--global")
        self.carol = self.agent("carol", "Writer")
        self.dave = self.agent("carol", "Second writer")
        self.mallory = self.agent("mallory", "Stranger")

    def agent(self, owner: str, name: str, *options: str, deposit: int = 0) -> AgentAccount:
        """One more agent."""
        return self.market.agent(self.owners[owner], name, *options, deposit=deposit)

    @property
    def topic(self) -> str:
        """Bob's mailbox."""
        return topic_of(self.bob)

    @asynccontextmanager
    async def writer(self, account: AgentAccount | str) -> AsyncIterator["Writer"]:
        """Somebody who calls by REST, by an agent's key or any other."""
        key = account if isinstance(account, str) else account.api_key
        async with httpx.AsyncClient(headers={"x-api-key": key}, timeout=REPLY_TIMEOUT_S) as http:
            yield Writer(self, http)

    @asynccontextmanager
    async def mailbox(self, account: AgentAccount | None = None) -> AsyncIterator["Mailbox"]:
        """A socket that has joined its agent's mailbox; Bob's unless somebody is named."""
        account = account or self.bob
        async with self.market.client(account.api_key) as client:
            mailbox = Mailbox(client, topic_of(account))
            await mailbox.join()
            yield mailbox

    async def crash(self) -> None:
        """Kill the server, and start it again."""
        self.ground.kill()
        await self.ground.is_up()


class Writer:
    """Somebody who calls by REST.

    Args:
        hall: Where.
        http: With the caller's key.
    """

    def __init__(self, hall: MailHall, http: httpx.AsyncClient) -> None:
        self.hall = hall
        self.http = http
        self.lost = 0

    async def answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        """What one call is answered."""
        return await self.http.request(method, f"{self.hall.market.url}/api/v1/{path}", **options)

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """The data of an answer, or Refused."""
        return data_of(await self.answer(method, path, json=body))

    async def write(self, payload: Any, *, to: AgentAccount | None = None, **fields: Any) -> Any:
        """Send a message, to Bob unless somebody is named; it as it was stored, or Refused."""
        body = {"to_agent_id": (to or self.hall.bob).id, "type": "x_note", "payload": payload, **fields}
        return await self.call("POST", "messages", body)

    async def write_surely(self, payload: Any, *, dedup_key: str, **fields: Any) -> Any:
        """Send a message until it is answered, through crashes of the server."""
        while True:
            await self.hall.ground.is_up()
            try:
                return await self.write(payload, dedup_key=dedup_key, **fields)
            except httpx.TransportError:
                self.lost += 1
                assert self.lost <= self.hall.ground.kills, "the server is there and does not answer"

    async def read(self, message_id: str) -> Any:
        """A message as it stands."""
        return await self.call("GET", f"messages/{message_id}")

    async def listed(self, path: str) -> list[Any]:
        """All pages of a list."""
        found: list[Any] = []
        cursor = None
        while True:
            joint = "&" if "?" in path else "?"
            more = f"{joint}limit=100" + (f"&cursor={cursor}" if cursor else "")
            answer = await self.answer("GET", path + more)
            found += data_of(answer)
            cursor = answer.json()["metadata"]["next_cursor"]
            if cursor is None:
                return found


class Mailbox:
    """A socket on its agent's mailbox.

    Args:
        client: The socket.
        topic: The mailbox.
    """

    def __init__(self, client: Client, topic: str) -> None:
        self.client = client
        self.topic = topic
        self.undelivered = 0

    async def join(self) -> int:
        """Join, or join again: how many messages are told to follow."""
        self.undelivered = (await self.client.join(self.topic))["undelivered"]
        return self.undelivered

    async def next(self) -> Fields:
        """The next message that is pushed."""
        message: Fields = await self.client.expect("new_message", self.topic, PATIENCE_S)
        assert message.keys() == NEW_MESSAGE
        return message

    async def take(self, count: int) -> list[Fields]:
        """The next messages, in order."""
        return [await self.next() for _ in range(count)]

    async def updated(self) -> Fields:
        """What the sender is told next of a message of its own."""
        told: Fields = await self.client.expect("message_updated", self.topic, PATIENCE_S)
        assert told.keys() == UPDATED
        return told

    async def nothing(self) -> None:
        """No message has come."""
        await self.client.refute("new_message")

    async def acknowledge(self, message_id: str) -> Fields:
        """Say that a message is there."""
        reply: Fields = await self.client.push(self.topic, "acknowledge", {"message_id": message_id})
        return reply

    async def reject(self, message_id: str, reason: str) -> Fields:
        """Say that a message is not taken."""
        reply: Fields = await self.client.push(self.topic, "reject", {"message_id": message_id, "reason": reason})
        return reply


@contextmanager
def mail_market(data_dir: Path, **settings: str) -> Iterator[MarketProcess]:
    """A server for halls, which ends well and has warned of nothing."""
    market = MarketProcess(data_dir, **(UNBOUND | settings)).start()
    try:
        yield market
    except BaseException:
        if market.process is not None:
            market.kill()
        raise
    assert market.stop() == 0, "\n".join(market.log)
    assert not market.log, "no warning, no error:\n" + "\n".join(market.log)
    assert market.here("doctor")["ok"]


def topic_of(account: AgentAccount) -> str:
    """An agent's mailbox."""
    return f"messages:{account.id}"


def data_of(answer: httpx.Response) -> Any:
    """The data of a good answer.

    Raises:
        Refused: With `reason`, `status` and the details.
    """
    if answer.is_error:
        error = answer.json()["error"]
        raise Refused({"reason": error["code"], "status": answer.status_code, **error.get("details", {})})
    return answer.json()["data"]


async def refused(act: Any, reason: str, **fields: Any) -> None:
    """The answer is that refusal, with these fields."""
    with pytest.raises(Refused) as no:
        await act
    assert (no.value.reason, {name: no.value.response.get(name) for name in fields}) == (reason, fields)


async def until(check: Callable[[], Awaitable[bool]], within_s: float = PATIENCE_S) -> None:
    """Wait until something is so that no event tells."""
    async with asyncio.timeout(within_s):
        while not await check():  # noqa: ASYNC110 - no event tells.
            await asyncio.sleep(0.02)


def payloads(messages: list[Fields]) -> list[Any]:
    """What is in the messages."""
    return [message["payload"] for message in messages]
