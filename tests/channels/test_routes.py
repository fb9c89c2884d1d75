"""Routes: topics to modules, ours and an operator's, and what is refused as a module."""

from types import ModuleType
from typing import Any

import pytest

from channels import discovery, messages, negotiation, task_state
from channels.contact_book import BLOCK_EXPIRES, CONTACT_EXPIRES, REQUEST_EXPIRES
from channels.handlers import Decision, Empty, Handler, bytes_cost, event_class
from channels.routes import CLOCKS, OURS, BadTopicModule, Routes, route_of
from tests.channels.bargain import opened
from tests.channels.roles import ALICE, context


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
        ("payment:x", "payment:*"),
        ("messages:x", "messages:*"),
        ("agent_contacts:x", "agent_contacts:*"),
        ("user_contacts:x", "user_contacts:*"),
        ("agent_control:x", "agent_control:*"),
        ("agent_rooms:x", "agent_rooms:*"),
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
    assert route_of(negotiation).timers.keys() == negotiation.TIMERS.keys()
    assert route_of(discovery).visible is discovery.VISIBLE
    assert route_of(messages).visible is None


def test_a_topics_timer_runs_what_its_module_says_on_what_a_join_is_given() -> None:
    session = opened()
    clock = Routes().clock("negotiation:1", negotiation.EXPIRES)

    assert clock.loads == negotiation.JOIN.loads
    late = context(ALICE, now=session.expires_at, topic="negotiation:1")
    assert clock.decide(session, Empty(), late) == negotiation.expire(session, late)


def test_a_timer_of_what_is_gone_does_nothing() -> None:
    clock = Routes().clock("task:1", task_state.DEADLINE)

    assert clock.decide(None, Empty(), context(ALICE)) == Decision()


def test_what_has_no_topic_of_its_own_has_its_clocks_all_the_same() -> None:
    routes = Routes()

    for kind in (REQUEST_EXPIRES, CONTACT_EXPIRES, BLOCK_EXPIRES):
        assert routes.clock(f"{kind.removesuffix('_expires')}:1", kind) is CLOCKS[kind]


@pytest.mark.parametrize("topic", ["contact:1", "negotiation:1", "agent_contacts:1"])
def test_a_timer_that_nobody_arms_is_a_bug(topic: str) -> None:
    with pytest.raises(KeyError):
        Routes().clock(topic, "task_deadline")


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


def test_an_event_counts_in_its_own_class_but_a_chain_among_the_control_events_and_a_stream_by_its_bytes_alone() -> (
    None
):
    counted = {rate: event_class(rate) for rate in ("control", "discovery", "chain", "stream")}

    assert counted == {"control": "control", "discovery": "discovery", "chain": "control", "stream": None}


def test_a_chunk_costs_something_however_small_it_is_and_a_chain_its_bytes() -> None:
    costs = {(rate, size): bytes_cost(rate, size) for rate in ("stream", "chain") for size in (9, 512, 90_000)}

    assert costs == {
        ("stream", 9): 512,
        ("stream", 512): 512,
        ("stream", 90_000): 90_000,
        ("chain", 9): 9,
        ("chain", 512): 512,
        ("chain", 90_000): 90_000,
    }
