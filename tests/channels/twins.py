"""A marketplace in memory, copied: what may happen next is tried on a copy, and then something else on another one."""

from collections import Counter, defaultdict
from copy import copy

from tests.channels.book import Book
from tests.channels.world import World


def twin_of(world: World) -> World:
    """The same marketplace, to go on in another way; nobody listens to it yet."""
    twin = copy(world)
    twin.states = defaultdict(dict, {store: dict(states) for store, states in world.states.items()})
    twin.accounts = defaultdict(int, world.accounts)
    twin.chunks = defaultdict(dict, {stream: dict(chunks) for stream, chunks in world.chunks.items()})
    twin.steps = defaultdict(list, {channel: list(steps) for channel, steps in world.steps.items()})
    twin.spent = Counter(world.spent)
    twin.entries, twin.outcomes, twin.retied = list(world.entries), list(world.outcomes), list(world.retied)
    twin.follows, twin.pushed, twin.listeners = list(world.follows), list(world.pushed), []
    twin.checkpoints, twin.timers = dict(world.checkpoints), dict(world.timers)
    twin.mailbox_timers = dict(world.mailbox_timers)
    twin.book = Book(twin.states, lambda: twin.now)
    return twin
