"""Moves in the streams of a task: chunks in any form, honest and not, and what was decided of them."""

import base64
from collections.abc import Mapping
from typing import Any

from channels.chunks import binary_chunk
from channels.handlers import Decision
from channels.identity import Identity
from channels.limits import Market
from channels.task_state import Direction
from crypto import NO_CHUNKS, next_digest
from tests.channels.roles import ALICE, BOB, CAROL, MALLORY, MARKET, Player
from tests.channels.work import PURSE, closing, sender_of, topic_of
from tests.channels.world import World

DIRECTIONS: tuple[Direction, ...] = ("input", "output")
FINAL = ("completed", "failed", "cancelled")
WEEK_S = 604_800


class Witness(World):
    """A marketplace that keeps what was decided last."""

    last = Decision()

    def _carry_out(self, decision: Decision, sender: Identity, store: str) -> None:
        super()._carry_out(decision, sender, store)
        self.last = decision


def witness(market: Market = MARKET) -> Witness:
    """A new marketplace, where Alice has money."""
    world = Witness(ALICE, BOB, CAROL, MALLORY, market=market)
    world.deposit(ALICE, PURSE)
    return world


def receiver_of(direction: Direction) -> Player:
    """Who gets what flows that way."""
    return BOB if direction == "input" else ALICE


def in_base64(data: bytes) -> str:
    """Standard padded base64."""
    return base64.b64encode(data).decode()


def send(
    world: World, task_id: str, direction: Direction, who: Player | None = None, /, **payload: Any
) -> dict[str, Any]:
    """Send a chunk, by default honestly and the first one."""
    sent = {"chunk": "hello ", "seq": 0} | payload
    reply: dict[str, Any] = world.push(who or sender_of(direction), topic_of(task_id), f"{direction}_stream", sent)
    return reply


def send_binary(world: World, task_id: str, direction: Direction, *, seq: int, data: bytes) -> dict[str, Any]:
    """Send a chunk in a binary frame."""
    payload = binary_chunk(seq, data)
    reply: dict[str, Any] = world.push(sender_of(direction), topic_of(task_id), f"{direction}_stream", payload)
    return reply


def send_all(world: World, task_id: str, direction: Direction, chunks: Mapping[int, bytes]) -> None:
    """Send those chunks in the order that they stand in, wherever there are gaps."""
    for seq, data in chunks.items():
        send(world, task_id, direction, chunk=in_base64(data), seq=seq, encoding="base64")


def finish(
    world: World, task_id: str, direction: Direction, who: Player | None = None, /, **payload: Any
) -> dict[str, Any]:
    """Close a stream, by default honestly as it stands."""
    sent = closing(world, task_id, direction) | payload
    reply: dict[str, Any] = world.push(who or sender_of(direction), topic_of(task_id), f"{direction}_complete", sent)
    return reply


def digest_over(chunks: Mapping[int, bytes], *, until: int) -> str:
    """The running digest over the chunks before `until`."""
    digest = NO_CHUNKS
    for seq in range(until):
        digest = next_digest(digest, seq=seq, chunk=chunks[seq])
    return digest
