"""A chat room of Alice's client, her sibling Ann and Bob's translator, who is an agent for all; Mallory is outside."""

import json
from collections.abc import Callable
from typing import Any

from agrenting.db import room_sides
from tests.agrenting.api.friends import join
from tests.agrenting.api.market import Caller, Marketplace, Player

Ear = Callable[[], list[tuple[str, str, Any]]]
"""Topics, events and payloads that have come since this was last asked."""

CHATS = "/agent/chats"
MINE = "/me/chats"


async def make_room(owner: Caller, path: str = CHATS, **chat: Any) -> str:
    """A new room; its id."""
    made = await owner.post(path, {"chat": chat})
    id_: str = made["id"]
    return id_


async def add(adder: Caller, room: str, who: Any, path: str = CHATS, **more: Any) -> Any:
    """Add somebody, named by its id or by itself; the participant."""
    draft = {"participant_id": id_of(who), **more}
    return await adder.post(f"{path}/{room}/participants", {"participant": draft})


async def send(sender: Caller, room: str, *whom: Any, content: str = "Hello", path: str = CHATS) -> str:
    """Send a text to those; its id."""
    mentions = [{"id": id_of(one)} for one in whom]
    sent = await sender.post(f"{path}/{room}/messages", {"message": {"content": content, "mentions": mentions}})
    assert sent["success"] is True
    id_: str = sent["id"]
    return id_


async def note(sender: Caller, room: str, content: str = "Hm.", **more: Any) -> str:
    """Put an event on record; its id."""
    event = {"content": content, "message_type": "thought", **more}
    posted = await sender.post(f"{CHATS}/{room}/events", {"event": event})
    id_: str = posted["id"]
    return id_


async def mark(reader: Caller, room: str, message: str, how: str, error: str | None = None) -> Any:
    """Mark a message as processing, processed or failed; the answer."""
    body = None if error is None else {"error": error}
    return await reader.post(f"{CHATS}/{room}/messages/{message}/{how}", body)


async def next_of(reader: Caller, room: str) -> Any:
    """The oldest message that a reader has not processed; None for none."""
    answer = await reader.call("GET", f"{CHATS}/{room}/messages/next")
    if answer.status_code == 204:
        assert answer.content == b""
        return None
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def everything(caller: Caller, path: str, **query: Any) -> list[dict[str, Any]]:
    """All pages of a list, by cursor."""
    rows: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await caller.page(path, params={"limit": 2, **query, **cursor})
        rows += page["data"]
        if not page["metadata"]["has_more"]:
            assert page["metadata"]["next_cursor"] is None
            return rows
        cursor = {"cursor": page["metadata"]["next_cursor"]}


def id_of(who: Any) -> str:
    """Of an agent, of a user, or an id itself."""
    if isinstance(who, str):
        return who
    return who.id if isinstance(who, Player) else who.headers["x-user-id"]


async def ear(market: Marketplace, key: str, *topics: str) -> Ear:
    """Join topics with a key; what is told on them from now on."""
    connection, transport = await market.socket(key)
    for number, topic in enumerate(topics):
        connection.receive(json.dumps([str(number), str(number), topic, "phx_join", {}]))
    await market.server.database.commits.drain()
    assert [message[4]["status"] for message in transport.sent] == ["ok"] * len(topics)
    transport.sent.clear()

    def heard() -> list[tuple[str, str, Any]]:
        sent, transport.sent = transport.sent, []
        return [(message[2], message[3], message[4]) for message in sent]

    return heard


def rooms_of(who: Any) -> str:
    """Where somebody is told of its rooms."""
    return f"{'agent' if isinstance(who, Player) else 'user'}_rooms:{id_of(who)}"


def topics_of(room: str) -> tuple[str, str]:
    """Where a room's participants are told of it."""
    return f"chat_room:{room}", f"room_participants:{room}"


async def require_joins(market: Marketplace, key: str, topic: str) -> None:
    """The topic may be joined."""
    reply, _ = await join(market, key, topic)
    assert reply["status"] == "ok", reply


async def require_cannot_join(market: Marketplace, key: str, topic: str) -> None:
    """The topic may not be joined, whether it is there or not."""
    reply, _ = await join(market, key, topic)
    assert (reply["status"], reply["response"]["reason"]) == ("error", "unauthorized")


async def require_sound(market: Marketplace) -> None:
    """Every participant finds its room, and nobody else does."""
    assert await market.server.database.read(room_sides.doctor) == []
