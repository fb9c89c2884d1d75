"""Topic patterns to topic modules: ours, and those that an operator's settings add."""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

import msgspec

from channels import (
    agent_contacts,
    agent_control,
    agent_rooms,
    analytics,
    chat_room,
    discovery,
    messages,
    negotiation,
    payment,
    private,
    room_participants,
    task,
    user_contacts,
    user_rooms,
)
from channels.alerts import RETENTION as ALERT_RETENTION
from channels.alerts import RETENTION_CLOCK as ALERT_CLOCK
from channels.contact_book import BLOCK_EXPIRES, CONTACT_EXPIRES, REQUEST_EXPIRES
from channels.contact_requests import REQUEST_CLOCK
from channels.contacts import Party, Tie
from channels.handlers import Context, Decision, Empty, Handler
from channels.identity import Identity
from channels.revocation import BLOCK_CLOCK, CONTACT_CLOCK

OURS: Final[tuple[ModuleType, ...]] = (
    discovery,
    negotiation,
    task,
    payment,
    messages,
    agent_contacts,
    user_contacts,
    agent_control,
    agent_rooms,
    user_rooms,
    chat_room,
    room_participants,
    private,
    analytics,
)

CLOCKS: Final[Mapping[str, Handler]] = {
    REQUEST_EXPIRES: REQUEST_CLOCK,
    CONTACT_EXPIRES: CONTACT_CLOCK,
    BLOCK_EXPIRES: BLOCK_CLOCK,
    ALERT_RETENTION: ALERT_CLOCK,
}
"""Timer kind → what it does, for what has a timer and no topic of its own."""


class BadTopicModule(Exception):
    """A module that was named as a topic module and is none; the sentence says what it lacks."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One topic module, as the server uses it.

    Args:
        pattern: A whole topic, or a prefix and a star.
        access: Refuses who may not even try to join.
        join: Answers a join.
        handlers: Event name → Handler.
        timers: Timer kind → what it does; it is given what a join is given.
        visible: Who sees whose presence here; None: everybody everybody's.
    """

    pattern: str
    access: Callable[[Identity, str], None]
    join: Handler
    handlers: Mapping[str, Handler]
    timers: Mapping[str, Handler]
    visible: Callable[[Party, Party, Tie], bool] | None = None


class Routes:
    """Finds the route of a topic.

    Args:
        added: Topic modules beside ours. A pattern that stands already is an error: nothing of ours is overridden.

    Raises:
        BadTopicModule: A module lacks TOPIC, ACCESS, JOIN or HANDLERS, or takes a pattern that is taken.
    """

    def __init__(self, added: tuple[ModuleType, ...] = ()) -> None:
        self.all: list[Route] = []
        self._whole: dict[str, Route] = {}
        self._prefixes: dict[str, Route] = {}
        for module in (*OURS, *added):
            self._add(route_of(module), module.__name__)

    def find(self, topic: str) -> Route | None:
        """The route of a topic; None where no pattern matches."""
        whole = self._whole.get(topic)
        if whole is not None:
            return whole
        prefix, colon, rest = topic.partition(":")
        return self._prefixes.get(prefix) if colon and rest else None

    def clock(self, topic: str, kind: str) -> Handler:
        """What a due timer does.

        Raises:
            KeyError: No timer of that kind is armed for such a topic.
        """
        own = CLOCKS.get(kind)
        if own is not None:
            return own
        route = self.find(topic)
        if route is None:
            raise KeyError(kind)
        return route.timers[kind]

    def _add(self, route: Route, name: str) -> None:
        is_prefix = route.pattern.endswith(":*")
        key = route.pattern.removesuffix(":*")
        table = self._prefixes if is_prefix else self._whole
        if key in table or key.partition(":")[0] == "phoenix":
            raise BadTopicModule(f"{name}: the topic {route.pattern} is taken already")
        table[key] = route
        self.all.append(route)


def route_of(module: ModuleType) -> Route:
    """A module as a route.

    Raises:
        BadTopicModule: It lacks a name, or one is not what it should be.
    """
    for name in ("TOPIC", "ACCESS", "JOIN", "HANDLERS"):
        if not hasattr(module, name):
            raise BadTopicModule(f"{module.__name__} is no topic module: it has no {name} (see channels/handlers.py)")
    pattern: Any = module.TOPIC
    if not isinstance(pattern, str) or not pattern or ("*" in pattern and not pattern.endswith(":*")):
        raise BadTopicModule(f"{module.__name__}: TOPIC is a whole topic, or a prefix and `:*`")
    return Route(
        pattern=pattern,
        access=module.ACCESS,
        join=module.JOIN,
        handlers=module.HANDLERS,
        timers={kind: _clock(decide, module.JOIN.loads) for kind, decide in getattr(module, "TIMERS", {}).items()},
        visible=getattr(module, "VISIBLE", None),
    )


def _clock(decide: Callable[[Any, Context], Decision], loads: str) -> Handler:
    """A topic's timer as a handler: of a state that is gone there is nothing to decide."""

    def run(state: Any, _nothing: Empty, context: Context) -> Decision:
        return Decision() if state is None else decide(state, context)

    return Handler(Empty, run, loads=loads)
