"""Agents of four owners who have nothing in common, so that they need contacts, and what they do about each other.

John owns Alice, Jane Bob, Carl Carol and Max Mallory.
"""

from typing import Any

from channels.contact_book import Block, Contact, ContactRequest
from channels.identity import Identity
from channels.limits import Market
from tests.channels.roles import MARKET, Player, player
from tests.channels.work import PURSE
from tests.channels.world import Listener, Who, World, identity_behind

LONE: dict[str, Any] = {"organisation_id": None, "owner_organisation_id": None}

ALICE = player("alice", number=0xA, handle="john/alice", **LONE)
BOB = player("bob", number=0xB, handle="jane/bob", tags=("text",), **LONE)
CAROL = player("carol", number=0xC, handle="carl/carol", **LONE)
MALLORY = player("mallory", number=0xD, handle="max/mallory", **LONE)


def owner_of(who: Player) -> Identity:
    """Who owns an agent, by a key of its own."""
    handle = who.agent.handle.partition("/")[0]
    return Identity(kind="user", user_id=who.agent.owner_id, handle=handle, key_id=f"key of {handle}")


JOHN = owner_of(ALICE)
JANE = owner_of(BOB)
MAX = owner_of(MALLORY)


def strangers(*players: Player, market: Market = MARKET) -> World:
    """A marketplace with those agents and their owners, or with these four, where Alice has money."""
    world = World(*(players or (ALICE, BOB, CAROL, MALLORY)), market=market)
    world.deposit(ALICE, PURSE)
    return world


def handle_of(who: Who) -> str:
    """What an agent or a user is known by."""
    return identity_behind(who).handle


def topic_of(who: Who) -> str:
    """Where an agent or a user is told of its contacts."""
    return f"{'agent' if isinstance(who, Player) else 'user'}_contacts:{who.id}"


def ears(world: World, *all_: Who) -> tuple[Listener, ...]:
    """Sockets that hear what each is told of its contacts."""
    return tuple(world.listen(who, topic_of(who)) for who in all_)


def ask(world: World, who: Who = ALICE, whom: Who = BOB, **payload: Any) -> Any:
    """Ask for contact; the answer."""
    return world.call(who, "add", handle=handle_of(whom), **payload)


def asked(world: World, who: Who = ALICE, whom: Who = BOB, **payload: Any) -> str:
    """A pending request; its id."""
    request_id: str = ask(world, who, whom, **payload)["id"]
    return request_id


def answer(world: World, who: Who, action: str, request_id: str, **payload: Any) -> Any:
    """Approve, reject or cancel a request by its id; the answer."""
    return world.call(who, "respond", action=action, request_id=request_id, **payload)


def befriended(world: World, who: Who = ALICE, whom: Who = BOB, **scope: Any) -> Contact:
    """A new contact: the one asks and the other approves, within a scope if there is one."""
    request_id = asked(world, who, whom)
    answer(world, whom, "approve", request_id, **({"scope": scope} if scope else {}))
    return contacts(world)[-1]


def block(world: World, who: Who = ALICE, whom: Who = BOB, **payload: Any) -> Any:
    """Keep another away; the answer."""
    return world.call(who, "block", handle=handle_of(whom), **payload)


def unblock(world: World, who: Who = ALICE, whom: Who = BOB) -> Any:
    """Let another come near again; the answer."""
    return world.call(who, "unblock", handle=handle_of(whom))


def contacts(world: World) -> list[Contact]:
    """Every contact that there is or was, the oldest first."""
    return [*world.states["contact"].values()]


def requests(world: World) -> list[ContactRequest]:
    """Every request that there is or was, the oldest first."""
    return [*world.states["contact_request"].values()]


def blocks(world: World) -> list[Block]:
    """Every block that there is or was, the oldest first."""
    return [*world.states["block"].values()]
