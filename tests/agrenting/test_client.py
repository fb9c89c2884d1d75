"""The client's socket, against a server whose part each test plays itself."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.frames import CloseCode
from websockets.http11 import Response

from agrenting.client import Disconnected, NoAnswer, PhoenixSocket, RefusedByServer, TopicEnded
from agrenting.client import socket as client_socket
from tests.agrenting.client_theatre import Stage, Theatre, playing

KEY = "agk_alices-key"
SOON_S = 0.02
"""For waits that have to run out."""


@pytest.fixture
async def theatre() -> AsyncIterator[Theatre]:
    async with playing() as opened:
        yield opened


@pytest.fixture
async def alice(theatre: Theatre) -> AsyncIterator[PhoenixSocket]:
    async with PhoenixSocket(theatre.url, KEY) as socket:
        yield socket


@pytest.fixture
async def stage(theatre: Theatre, alice: PhoenixSocket) -> Stage:
    return await theatre.stage()


# The handshake.


async def test_the_key_goes_in_a_header_and_nowhere_else(theatre: Theatre, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    socket = PhoenixSocket(theatre.url, KEY)

    async with socket:
        stage = await theatre.stage()
        assert stage.request.headers["x-api-key"] == KEY
        assert stage.request.path == "/socket/websocket?vsn=2.0.0"

    assert KEY not in repr(socket)
    # The server of this test lives in the same process, and logs what it gets.
    assert {record.name for record in caplog.records if KEY in record.getMessage()} == {"websockets.server"}


async def test_a_key_of_several_agents_names_the_one_to_act_as(theatre: Theatre) -> None:
    async with PhoenixSocket(theatre.url, KEY, agent_id="a&b"):
        stage = await theatre.stage()

    assert stage.request.path == "/socket/websocket?vsn=2.0.0&agent_id=a%26b"


async def test_a_refused_credential_is_told_with_its_code(theatre: Theatre) -> None:
    body = json.dumps({"error": {"code": "invalid_credential", "message": "Unknown.", "request_id": "r"}}).encode()
    theatre.refusal = Response(HTTPStatus.FORBIDDEN, "Forbidden", Headers(), body)

    with pytest.raises(RefusedByServer, match=r"^invalid_credential: Unknown\.$") as refused:
        async with PhoenixSocket(theatre.url, KEY):
            pass

    assert refused.value.reason == "invalid_credential"


async def test_a_proxys_refusal_has_its_status_as_reason(theatre: Theatre) -> None:
    theatre.refusal = Response(HTTPStatus.BAD_GATEWAY, "Bad Gateway", Headers(), b"<html>")

    with pytest.raises(RefusedByServer, match="502"):
        async with PhoenixSocket(theatre.url, KEY):
            pass


async def test_a_server_that_is_not_there_is_told_as_such() -> None:
    async with serve(lambda _: asyncio.sleep(0), "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]

    with pytest.raises(Disconnected, match="cannot connect"):
        async with PhoenixSocket(f"http://127.0.0.1:{port}", KEY):
            pass


# Joins, pushes and replies.


async def test_joining_gives_the_whole_state(alice: PhoenixSocket, stage: Stage) -> None:
    joining = asyncio.create_task(alice.join("room:1", {"key": "alice"}))

    frame = await stage.hear()
    await stage.reply(frame, {"people": 3})
    topic = await joining

    join_ref, ref, *rest = frame
    assert join_ref == ref == topic.join_ref
    assert rest == ["room:1", "phx_join", {"key": "alice"}]
    assert topic.state == {"people": 3}


async def test_a_refused_join_raises_with_reason_message_and_context(alice: PhoenixSocket, stage: Stage) -> None:
    joining = asyncio.create_task(alice.join("room:1"))

    await stage.reply(await stage.hear(), {"reason": "room_full", "message": "It is full.", "places": 3}, "error")

    with pytest.raises(RefusedByServer) as refused:
        await joining
    assert (refused.value.reason, refused.value.message) == ("room_full", "It is full.")
    assert refused.value.context == {"places": 3}


async def test_an_event_before_the_joins_reply_is_kept(alice: PhoenixSocket, stage: Stage) -> None:
    joining = asyncio.create_task(alice.join("room:1"))

    frame = await stage.hear()
    await stage.say(frame[0], None, "room:1", "shout", {"text": "early"})
    await stage.reply(frame, {})

    assert await (await joining).next_event() == ("shout", {"text": "early"})


async def test_a_push_gets_its_own_reply_whatever_the_order(alice: PhoenixSocket, stage: Stage) -> None:
    topic = await stage.take_join(alice, "room:1")

    first, second = asyncio.create_task(topic.push("ask", {"n": 1})), asyncio.create_task(topic.push("ask", {"n": 2}))
    frames = [await stage.hear(), await stage.hear()]
    for frame in reversed(frames):
        await stage.reply(frame, frame[4])

    assert await first == {"n": 1}
    assert await second == {"n": 2}
    assert {frame[0] for frame in frames} == {topic.join_ref}


async def test_a_refused_push_raises_and_the_topic_lives_on(alice: PhoenixSocket, stage: Stage) -> None:
    topic = await stage.take_join(alice, "room:1")
    push = asyncio.create_task(topic.push("offer", {"amount": 7}))

    await stage.reply(await stage.hear(), {"reason": "not_your_turn", "message": "Wait.", "turn": "bob"}, "error")
    with pytest.raises(RefusedByServer, match=r"not_your_turn: Wait\."):
        await push

    again = asyncio.create_task(topic.push("offer"))
    await stage.reply(await stage.hear(), None)
    assert await again is None


async def test_a_refusal_of_another_form_is_a_refusal_all_the_same(alice: PhoenixSocket, stage: Stage) -> None:
    topic = await stage.take_join(alice, "room:1")
    push = asyncio.create_task(topic.push("ask"))

    await stage.reply(await stage.hear(), ["no"], "error")

    with pytest.raises(RefusedByServer, match="refused") as refused:
        await push
    assert refused.value.context == {"response": ["no"]}


async def test_a_push_without_a_reply_in_time_says_so_and_a_late_reply_harms_nobody(
    alice: PhoenixSocket, stage: Stage
) -> None:
    topic = await stage.take_join(alice, "room:1")

    with pytest.raises(NoAnswer, match=r"no reply to ask on room:1 within 0\.02 s"):
        await topic.push("ask", timeout_s=SOON_S)

    await stage.reply(await stage.hear(), {})
    again = asyncio.create_task(topic.push("ask"))
    await stage.reply(await stage.hear(), {"n": 2})
    assert await again == {"n": 2}


# Events.


async def test_events_come_in_order_to_their_own_topic(alice: PhoenixSocket, stage: Stage) -> None:
    one, two = await stage.take_join(alice, "room:1"), await stage.take_join(alice, "room:2")

    for number in range(3):
        await stage.tell(one, "count", {"n": number})
    await stage.tell(two, "other", {})

    assert [await one.next_event() for _ in range(3)] == [("count", {"n": number}) for number in range(3)]
    assert await two.next_event() == ("other", {})


async def test_events_can_be_iterated_until_the_topic_ends(alice: PhoenixSocket, stage: Stage) -> None:
    topic = await stage.take_join(alice, "room:1")
    events = topic.events()

    await stage.tell(topic, "count", {"n": 0})
    await stage.tell(topic, "phx_close", {})

    assert await anext(events) == ("count", {"n": 0})
    with pytest.raises(TopicEnded):
        await anext(events)


async def test_expecting_an_event_passes_over_others(alice: PhoenixSocket, stage: Stage) -> None:
    topic = await stage.take_join(alice, "room:1")

    await stage.tell(topic, "noise", {})
    await stage.tell(topic, "offer", {"amount": 7})

    assert await topic.expect("offer") == {"amount": 7}


async def test_waiting_in_vain_says_for_what(alice: PhoenixSocket, stage: Stage) -> None:
    topic = await stage.take_join(alice, "room:1")

    with pytest.raises(NoAnswer, match=r"no offer came on room:1 within 0\.02 s"):
        await topic.expect("offer", timeout_s=SOON_S)
    with pytest.raises(TimeoutError, match=r"nothing came on room:1 within 0\.02 s"):
        await topic.next_event(timeout_s=SOON_S)


async def test_what_was_said_to_a_join_that_is_over_is_dropped(alice: PhoenixSocket, stage: Stage) -> None:
    first = await stage.take_join(alice, "room:1")
    second = await stage.take_join(alice, "room:1")

    await stage.tell(first, "phx_close", {})
    await stage.tell(first, "count", {"n": 0})
    await stage.say(None, None, "room:1", "count", {"n": 1})  # As Phoenix itself broadcasts.
    await stage.tell(second, "count", {"n": 2})

    with pytest.raises(TopicEnded, match="room:1 was joined again"):
        await first.next_event()
    assert [await second.next_event(), await second.next_event()] == [("count", {"n": 1}), ("count", {"n": 2})]


async def test_a_binary_frame_is_passed_over(alice: PhoenixSocket, stage: Stage) -> None:
    topic = await stage.take_join(alice, "room:1")

    await stage.connection.send(b"\x02\x06\x05room:1shout\x00")
    await stage.tell(topic, "count", {"n": 1})

    assert await topic.next_event() == ("count", {"n": 1})


async def test_every_frame_can_be_watched(theatre: Theatre) -> None:
    watched: list[tuple[str, Any]] = []

    async with PhoenixSocket(
        theatre.url, KEY, on_frame=lambda direction, frame: watched.append((direction, frame))
    ) as s:
        stage = await theatre.stage()
        await stage.take_join(s, "room:1")

    reply = ["1", "1", "room:1", "phx_reply", {"status": "ok", "response": {}}]
    assert watched == [(">", ["1", "1", "room:1", "phx_join", {}]), ("<", reply)]


# Ends.


@pytest.mark.parametrize("event", ["phx_close", "phx_error"])
async def test_a_topic_that_the_server_ends_raises_for_all_who_wait_on_it_and_for_nobody_else(
    alice: PhoenixSocket, stage: Stage, event: str
) -> None:
    topic, other = await stage.take_join(alice, "room:1"), await stage.take_join(alice, "room:2")
    push, waiting = asyncio.create_task(topic.push("crash")), asyncio.create_task(topic.next_event())
    unharmed = asyncio.create_task(other.push("ask"))
    frames = [await stage.hear(), await stage.hear()]

    await stage.tell(topic, event, {})
    await stage.reply(frames[1], {"n": 1})

    for raising in (push, waiting, topic.next_event(), topic.expect("anything")):
        with pytest.raises(TopicEnded, match=f"the server has ended room:1: {event}"):
            await raising
    assert await unharmed == {"n": 1}


async def test_a_topic_that_has_ended_can_be_joined_again(alice: PhoenixSocket, stage: Stage) -> None:
    topic = await stage.take_join(alice, "room:1")
    await stage.tell(topic, "phx_error", {})
    with pytest.raises(TopicEnded):
        await topic.next_event()

    again = await stage.take_join(alice, "room:1", {"people": 1})

    assert again.state == {"people": 1}


async def test_leaving_ends_the_topic(alice: PhoenixSocket, stage: Stage) -> None:
    topic = await stage.take_join(alice, "room:1")
    leaving = asyncio.create_task(topic.leave())

    frame = await stage.hear()
    await stage.reply(frame, {})
    await stage.tell(topic, "phx_close", {})
    await leaving

    assert frame[2:] == ["room:1", "phx_leave", {}]
    with pytest.raises(TopicEnded, match="room:1 was left"):
        await topic.next_event()


async def test_leaving_a_join_that_is_over_leaves_the_present_one_alone(alice: PhoenixSocket, stage: Stage) -> None:
    first = await stage.take_join(alice, "room:1")
    second = await stage.take_join(alice, "room:1")
    leaving = asyncio.create_task(first.leave())
    await stage.reply(await stage.hear(), {})
    await leaving

    await stage.tell(second, "count", {"n": 1})

    assert await second.next_event() == ("count", {"n": 1})


async def test_a_lost_connection_is_told_to_everybody_who_waits(alice: PhoenixSocket, stage: Stage) -> None:
    topic, other = await stage.take_join(alice, "room:1"), await stage.take_join(alice, "room:2")
    push, waiting = asyncio.create_task(topic.push("ask")), asyncio.create_task(other.next_event())
    await stage.hear()

    await stage.connection.close(1012, "service restart")

    doings: list[Callable[[], Any]] = [lambda: push, lambda: waiting, topic.next_event, lambda: alice.join("room:3")]
    for doing in doings:
        with pytest.raises(Disconnected, match="the connection was closed with 1012: service restart"):
            await doing()


async def test_a_topics_end_says_why(alice: PhoenixSocket, stage: Stage) -> None:
    for payload, reason in (({"reason": "relay_void"}, "relay_void"), ({}, None), ({"reason": 1}, None)):
        topic = await stage.take_join(alice, "room:1")
        await stage.tell(topic, "phx_error", payload)

        with pytest.raises(TopicEnded) as ended:
            await topic.next_event()
        assert ended.value.reason == reason


async def test_nothing_is_pushed_to_a_join_that_is_over(alice: PhoenixSocket, stage: Stage) -> None:
    first = await stage.take_join(alice, "room:1")
    second = await stage.take_join(alice, "room:1")

    with pytest.raises(TopicEnded, match="joined again"):
        await first.push("ask")
    push = asyncio.create_task(second.push("ask"))
    await stage.reply(await stage.hear(), {"n": 1})

    assert await push == {"n": 1}


async def test_a_connection_can_be_cut_without_goodbye(alice: PhoenixSocket, stage: Stage) -> None:
    topic = await stage.take_join(alice, "room:1")

    alice.abort()

    with pytest.raises(Disconnected):
        await topic.next_event()
    await stage.connection.wait_closed()
    assert stage.connection.close_code == CloseCode.ABNORMAL_CLOSURE


async def test_leaving_by_a_connection_that_is_lost_says_so(alice: PhoenixSocket, stage: Stage) -> None:
    topic = await stage.take_join(alice, "room:1")
    leaving = asyncio.create_task(topic.leave())
    await stage.hear()

    await stage.connection.close(1001, "disconnected")

    with pytest.raises(Disconnected, match="1001: disconnected"):
        await leaving


@pytest.mark.parametrize(
    "nonsense",
    ["no JSON", "{}", "[1]", '[null, "1", "room:1", 7, {}]', '[null, "2", "room:1", "phx_reply", {}]'],
)
async def test_what_is_no_frame_ends_the_connection(alice: PhoenixSocket, stage: Stage, nonsense: str) -> None:
    topic = await stage.take_join(alice, "room:1")
    push = asyncio.create_task(topic.push("ask"))
    await stage.hear()

    await stage.connection.send(nonsense)

    with pytest.raises(Disconnected, match="1002: this is no Phoenix frame"):
        await push
    await stage.connection.wait_closed()
    assert stage.connection.close_code == 1002


# Heartbeats.


async def test_heartbeats_are_sent_and_their_answers_taken(theatre: Theatre, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_socket, "HEARTBEAT_S", 20 * SOON_S)  # As long may an answer take.

    async with PhoenixSocket(theatre.url, KEY):
        stage = await theatre.stage()
        for _ in range(3):
            frame = await stage.hear()
            await stage.reply(frame, {})
            assert (frame[0], frame[2:]) == (None, ["phoenix", "heartbeat", {}])


async def test_a_server_that_does_not_answer_heartbeats_is_given_up(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_socket, "HEARTBEAT_S", SOON_S)

    async with PhoenixSocket(theatre.url, KEY) as socket:
        with pytest.raises(Disconnected, match="heartbeat timeout"):
            await socket.join("room:1", timeout_s=5)


async def test_a_connection_that_is_lost_while_its_heartbeat_is_answered_is_lost_as_any_other(theatre: Theatre) -> None:
    async with PhoenixSocket(theatre.url, KEY, heartbeat_s=20 * SOON_S) as socket:
        stage = await theatre.stage()
        assert (await stage.hear())[3] == "heartbeat"
        await stage.connection.close(1012, "service restart")
        await socket.wait_closed()

    assert (socket.is_open, socket.close_code, socket.close_reason) == (False, 1012, "service restart")


async def test_bytes_go_and_come_in_binary_frames(alice: PhoenixSocket, stage: Stage) -> None:
    topic = await stage.take_join(alice, "room:1")
    push = asyncio.create_task(topic.push("echo", b"\xff\x00"))

    sent = await stage.connection.recv()
    await stage.connection.send(b"\x01\x01\x01\x06\x0212room:1ok\xff\x00")
    await stage.connection.send(b"\x00\x01\x06\x051room:1shout\xfe")

    assert sent == b"\x00\x01\x01\x06\x0412room:1echo\xff\x00"
    assert await push == b"\xff\x00"
    assert await topic.next_event() == ("shout", b"\xfe")
