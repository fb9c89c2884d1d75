"""PROTOCOL.md is true of private channels: what is answered and told is held against its tables, both ways."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from channels import private
from channels.private_ends import ended, without_agent
from channels.private_listeners import Instance, Listeners
from channels.private_state import Phase
from tests.channels.private_play import PrivatePlay
from tests.channels.protocol_text import chapter, code, codes, section, table
from tests.channels.roles import ALICE, BOB, MARKET, refused
from tests.channels.test_protocol_states import Move, listed_moves
from tests.channels.test_protocol_told import fields, require_fits

PRIVATE = chapter("`private:{id}`")
CREATING = section("`create_private_channel`", chapter("`agents:discovery`"))
EMPTY = "The reply is empty."


@pytest.fixture
def play() -> PrivatePlay:
    return PrivatePlay()


@pytest.fixture
def channel_id(play: PrivatePlay) -> str:
    """Alice and Bob sit there."""
    channel_id = play.create()
    for who in (ALICE, BOB):
        play.seat(channel_id, who)
    return channel_id


def test_a_new_channel_is_answered_as_its_table_says(play: PrivatePlay) -> None:
    require_fits(play.do(ALICE, "create"), fields("reply field", CREATING), where="create")


def test_a_join_is_answered_as_its_tables_say(play: PrivatePlay, channel_id: str) -> None:
    text = section("Join", PRIVATE)
    reply = play.do(BOB, "join", topic=channel_id)

    require_fits(reply, fields("reply field", text), where="join")
    for member in reply["members"]:
        require_fits(member, fields("member field", text), where="members")
    assert {one["role"] for one in reply["members"]} == {*codes(fields_meaning(text, "member field", "role"))}
    assert reply["channel"].keys() == {"id", "type"}


def fields_meaning(text: str, heading: str, name: str) -> str:
    (meaning,) = [row["meaning"] for row in table(heading, text) if code(row[heading]) == name]
    return meaning


@pytest.mark.parametrize("event", private.HANDLERS)
def test_an_event_is_answered_as_its_section_says(play: PrivatePlay, channel_id: str, event: str) -> None:
    payload = {"context": {"type": "x"}, "invitationToken": "x", "instanceId": "one"}
    play.do(BOB, "broadcastRequest", payload, topic=channel_id)
    reply = play.do(ALICE, event, payload, topic=channel_id)
    text = section(f"`{event}`", PRIVATE)

    if EMPTY in text:
        assert reply == {}
    else:
        require_fits(reply, fields("reply field", text), where=event)


def test_a_context_that_is_not_there_is_null(play: PrivatePlay, channel_id: str) -> None:
    reply = play.do(ALICE, "getCurrentContextRequest", topic=channel_id)

    require_fits(reply, fields("reply field", section("`getCurrentContextRequest`", PRIVATE)), where="none")
    assert reply == {"context": None}


def test_what_comes_in_is_what_the_table_lists() -> None:
    a, b = (Instance(agent_id=who.id, instance_id="one") for who in (ALICE, BOB))
    listeners = Listeners("private:1")
    listeners.join(b, listens=True)
    notices = [
        *listeners.join(a, listens=True),
        *listeners.add_context_listener(a, listener_id="1", context_type="x"),
        *listeners.context_told(a, {"type": "x"}, app_id=ALICE.agent.handle),
        *listeners.left(a),
        *listeners.closed(),
    ]
    rows = {code(row["told"]): row for row in table("told", PRIVATE)}
    known = fields("told field", PRIVATE)
    named = {name for row in rows.values() for name in codes(row["fields"])}

    assert {one.event for one in notices} | {"presence_state", "presence_diff"} == rows.keys()
    for notice in notices:
        expected = {name: known[name] for name in codes(rows[notice.event]["fields"])}
        require_fits(notice.payload, expected, where=notice.event)
    assert known.keys() <= named
    assert {type_ for one in notices if (type_ := one.payload.get("contextType", "")) != ""} == {None, "x"}


def _owner_ends(play: PrivatePlay, id_: str) -> None:
    """The server asks this of open channels alone."""
    if play.channels[id_].is_open:
        context = play.context(ALICE, topic=id_)
        play.carry_out(without_agent(play.channels[id_], agent_id=ALICE.id, context=context), id_)


def _deal_ends(play: PrivatePlay, id_: str) -> None:
    play.carry_out(ended(play.channels[id_], play.context(ALICE, topic=id_)), id_)


MOVES: dict[str, Callable[[PrivatePlay, str], Any]] = {
    "close": lambda play, id_: play.do(ALICE, "close", topic=id_),
    "the end of its deal": _deal_ends,
    "the clock": lambda play, _: play.advance(MARKET.limits.private_idle_s),
    "the end of its owner": _owner_ends,
}


def test_the_states_of_a_channel_follow_as_the_table_says() -> None:
    moves: set[Move] = {("–", "create", "open")}
    for phase in Phase:
        for name, move in MOVES.items():
            play = PrivatePlay()
            channel_id = play.create()
            if phase is Phase.CLOSED:
                MOVES["close"](play, channel_id)
            before = play.channels[channel_id]
            assert before.status is phase
            if (phase, name) == (Phase.CLOSED, "close"):
                assert refused(partial(move, play, channel_id)).reason == "NoChannelFound"
            else:
                move(play, channel_id)
            after: Any = play.channels[channel_id]
            moves |= {(phase, name, after.status)} if after != before else set()

    assert moves == listed_moves(section("States", PRIVATE))
