"""Routes: topics to modules, ours and an operator's, and what is refused as a module."""

from types import ModuleType
from typing import Any

import pytest

from channels import discovery, negotiation
from channels.handlers import Decision, Empty, Handler
from channels.routes import OURS, BadTopicModule, Routes, route_of


def topic_module(pattern: Any = "room:*", *, without: str = "") -> ModuleType:
    """A whole topic module, or one that lacks a name."""
    module = ModuleType("operators.room")
    names = {
        "TOPIC": pattern,
        "ACCESS": lambda _sender, _topic_id: None,
        "JOIN": Handler(Empty, lambda _loaded, _request, _context: Decision()),
        "HANDLERS": {},
    }
    for name, value in names.items():
        if name != without:
            setattr(module, name, value)
    return module


@pytest.mark.parametrize(
    ("topic", "pattern"),
    [
        ("agents:discovery", "agents:discovery"),
        ("negotiation:1", "negotiation:*"),
        ("task:a:b", "task:*"),
        ("messages:x", "messages:*"),
    ],
)
def test_a_topic_finds_its_module(topic: str, pattern: str) -> None:
    route = Routes().find(topic)

    assert route is not None
    assert route.pattern == pattern


@pytest.mark.parametrize("topic", ["", "negotiation", "negotiation:", "agents:other", "agents:discovery:x", "room:1"])
def test_another_topic_finds_none(topic: str) -> None:
    assert Routes().find(topic) is None


def test_all_of_ours_are_there_with_their_timers_and_who_sees_whom() -> None:
    routes = Routes()

    assert [route.pattern for route in routes.all] == [module.TOPIC for module in OURS]
    assert route_of(negotiation).timers == negotiation.TIMERS
    assert route_of(discovery).visible is discovery.VISIBLE


def test_an_operators_module_is_added_beside_ours() -> None:
    added = Routes((topic_module(), topic_module("lobby")))

    for topic in ("room:1", "lobby", "negotiation:1"):
        assert added.find(topic) is not None


@pytest.mark.parametrize("pattern", ["negotiation:*", "agents:discovery", "phoenix", "phoenix:*"])
def test_nothing_of_ours_is_overridden(pattern: str) -> None:
    with pytest.raises(BadTopicModule, match="taken"):
        Routes((topic_module(pattern),))


@pytest.mark.parametrize("name", ["TOPIC", "ACCESS", "JOIN", "HANDLERS"])
def test_a_module_that_lacks_a_name_is_told_which(name: str) -> None:
    with pytest.raises(BadTopicModule, match=name):
        Routes((topic_module(without=name),))


@pytest.mark.parametrize("pattern", ["", "*", "room*", "room:*:x", 5])
def test_a_pattern_is_a_whole_topic_or_a_prefix_and_a_star(pattern: object) -> None:
    with pytest.raises(BadTopicModule, match="TOPIC"):
        Routes((topic_module(pattern),))
