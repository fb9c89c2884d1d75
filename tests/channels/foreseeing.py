"""What is relayed of a task's events before the writer has them, beside what the writer decides."""

from typing import Any

import msgspec

from channels.agents import Capability
from channels.handlers import Decision
from channels.streams import TaskFacts
from channels.task import HANDLERS
from channels.task_state import Task
from channels.told import Broadcast
from crypto import NO_CHUNKS
from tests.channels.played import Played
from tests.channels.roles import BOB, Player
from tests.channels.streaming import DIRECTIONS
from tests.channels.work import hired, topic_of
from tests.channels.world import StoredStreams, World

UNIT_PRICE = 10
UNIT_BYTES = 4
CREDIT = 2
LIMITS: dict[str, int] = {
    "stream_window": 4,
    "chunk_bytes_max": 5,
    "stream_bytes_max": 24,
    "checkpoint_bytes_max": 12,
    "text_chars_max": 10,
}
PRICES: dict[str, dict[str, Any] | None] = {
    "held": None,
    "per chunk": {"amount": UNIT_PRICE, "per": "chunk", "credit": CREDIT},
    "per bytes": {"amount": UNIT_PRICE, "per": "bytes", "unit_bytes": UNIT_BYTES, "credit": CREDIT},
}


def facts_of(world: World, task_id: str) -> TaskFacts:
    return TaskFacts(task=world.task(task_id), stored=StoredStreams(world, task_id))


def foresee(world: World, task: Task, who: Player, event: str, request: object) -> tuple[Task, Broadcast | None]:
    """What the lane of the topic would relay, with that state known."""
    foresees = HANDLERS[event].foresees
    assert foresees is not None
    after: Task
    after, told = foresees(task, request, world.context(who.identity, task.topic))
    return after, told


def decide(world: World, task_id: str, who: Player, event: str, request: object) -> Decision:
    """What the writer would decide now; nothing is changed."""
    return HANDLERS[event].decide(facts_of(world, task_id), request, world.context(who.identity, topic_of(task_id)))


def without_digests(task: Task | None) -> Task:
    """All but the digests, which only the writer carries on: it has the bytes that they are over."""
    assert task is not None
    blank = {
        f"{direction}_stream": msgspec.structs.replace(task.stream(direction), digest=NO_CHUNKS)
        for direction in DIRECTIONS
    }
    return msgspec.structs.replace(task, **blank)


def paid_as_it_streams(world: Played, price: str) -> tuple[str, str]:
    """A task of that price for which nothing is paid yet; its id, and the topic of its channel."""
    world.change_agent(BOB, capabilities=(Capability("translate", UNIT_PRICE),))
    topic = world.channel()
    task_id = hired(world, stream_price=PRICES[price], channel_id=topic.removeprefix("payment:"))
    return task_id, topic
