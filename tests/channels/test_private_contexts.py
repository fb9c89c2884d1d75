"""Contexts in a private channel: which are taken, who may tell and ask, and what is kept."""

from functools import partial
from typing import Any

import msgspec
import pytest

from channels.private_contexts import BROADCAST, CURRENT_CONTEXT
from channels.told import ContextTold
from tests.channels.private_play import PrivatePlay, user_of
from tests.channels.roles import ALICE, BOB, CAROL, market_with, refused

SAY, ASK = "broadcastRequest", "getCurrentContextRequest"
INSTRUMENT = {"type": "fdc3.instrument", "name": "Apple", "id": {"ticker": "AAPL"}, "market": {"MIC": "XNAS"}, "x": [1]}


@pytest.fixture
def play() -> PrivatePlay:
    return PrivatePlay()


@pytest.fixture
def channel_id(play: PrivatePlay) -> str:
    """Alice and Bob sit there."""
    channel_id = play.create()
    play.seat(channel_id, ALICE)
    play.seat(channel_id, BOB)
    return channel_id


def say(play: PrivatePlay, channel_id: str, context: Any) -> Any:
    return play.do(BOB, SAY, {"context": context}, topic=channel_id)


class TestTelling:
    def test_keeps_the_context_whole_and_tells_whose_it_is(self, play: PrivatePlay, channel_id: str) -> None:
        assert say(play, channel_id, INSTRUMENT) == {}

        assert play.contexts == {"fdc3.instrument": INSTRUMENT}
        assert play.told == [ContextTold(channel_id=channel_id, agent_id=BOB.id, instance_id="one", context=INSTRUMENT)]

    def test_changes_nothing_of_the_channel_itself(self, play: PrivatePlay, channel_id: str) -> None:
        before = play.channels[channel_id]

        say(play, channel_id, INSTRUMENT)

        assert play.channels[channel_id] is before

    @pytest.mark.parametrize(
        "context",
        [
            {"type": "x"},
            {"type": "t" * 256},
            {"type": "x", "name": ""},
            {"type": "x", "id": {}},
            {"type": "x", "id": {"a": "1", "b": ""}},
            {"type": "x", "": None, "deep": {"a": [None, 1.5, {"b": False}]}},
        ],
        ids=str,
    )
    def test_takes_every_object_with_a_type(self, play: PrivatePlay, channel_id: str, context: Any) -> None:
        say(play, channel_id, context)

        assert list(play.contexts.values()) == [context]

    @pytest.mark.parametrize(
        "context",
        [
            None,
            [],
            "fdc3.nothing",
            1,
            {},
            {"type": None},
            {"type": 1},
            {"type": ""},
            {"type": "t" * 257},
            {"type": "x", "name": None},
            {"type": "x", "name": 1},
            {"type": "x", "id": None},
            {"type": "x", "id": "AAPL"},
            {"type": "x", "id": ["AAPL"]},
            {"type": "x", "id": {"ticker": 1}},
            {"type": "x", "id": {"ticker": None}},
        ],
        ids=str,
    )
    def test_refuses_what_is_no_context(self, play: PrivatePlay, channel_id: str, context: Any) -> None:
        before = play.everything()

        assert refused(say, play, channel_id, context).reason == "MalformedContext"
        assert play.everything() == before

    def test_refuses_a_payload_without_one(self, play: PrivatePlay, channel_id: str) -> None:
        assert refused(lambda: play.do(BOB, SAY, topic=channel_id)).reason == "MalformedContext"

    def test_takes_as_many_bytes_as_the_limit_and_not_one_more(self) -> None:
        fitting = {"type": "x", "text": "é" * 10}
        size = len(msgspec.json.encode(fitting))
        play = PrivatePlay(market_with(private_context_bytes_max=size))
        channel_id = play.create()
        play.seat(channel_id, BOB)

        say(play, channel_id, fitting)
        assert refused(say, play, channel_id, {"type": "x", "text": "é" * 10 + "."}).reason == "MalformedContext"

    def test_is_for_those_who_sit_there(self, play: PrivatePlay, channel_id: str) -> None:
        play.do(BOB, "leavePrivateChannel", topic=channel_id)

        for who, at in ((BOB, "one"), (ALICE, "two"), (CAROL, "one"), (user_of(ALICE), "one")):
            act = partial(play.do, who, SAY, {"context": INSTRUMENT}, topic=channel_id, at=at)
            assert refused(act).reason == "AccessDenied"
        assert play.contexts == {}

    def test_into_what_is_not_there_is_not_found(self, play: PrivatePlay, channel_id: str) -> None:
        play.do(ALICE, "close", topic=channel_id)

        for topic in (channel_id, "private:none"):
            act = partial(play.do, BOB, SAY, {"context": INSTRUMENT}, topic=topic)
            assert refused(act).reason == "NoChannelFound"

    def test_costs_its_bytes(self) -> None:
        assert (BROADCAST.rate, CURRENT_CONTEXT.rate) == ("message", "control")


class TestAsking:
    def test_answers_the_newest_of_the_type_or_of_all(self, play: PrivatePlay, channel_id: str) -> None:
        for number, type_ in enumerate(("a", "b", "a")):
            say(play, channel_id, {"type": type_, "number": number})

        answers = {
            type_: play.do(ALICE, ASK, {"contextType": type_}, topic=channel_id)["context"]
            for type_ in ("a", "b", None, "c", "")
        }
        assert answers == {
            "a": {"type": "a", "number": 2},
            "b": {"type": "b", "number": 1},
            None: {"type": "a", "number": 2},
            "c": None,
            "": None,
        }

    def test_without_a_type_is_asking_for_all(self, play: PrivatePlay, channel_id: str) -> None:
        say(play, channel_id, INSTRUMENT)

        assert play.do(ALICE, ASK, topic=channel_id) == {"context": INSTRUMENT}

    def test_is_for_those_who_sit_there(self, play: PrivatePlay, channel_id: str) -> None:
        say(play, channel_id, INSTRUMENT)

        for who, at in ((CAROL, "one"), (ALICE, "two")):
            act = partial(play.do, who, ASK, topic=channel_id, at=at)
            assert refused(act).reason == "AccessDenied"

    def test_in_what_is_not_there_is_not_found(self, play: PrivatePlay) -> None:
        assert refused(lambda: play.do(ALICE, ASK, topic="private:none")).reason == "NoChannelFound"
