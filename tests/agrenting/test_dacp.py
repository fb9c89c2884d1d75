"""FDC3's messages over `/socket/dacp`, against a whole server: who sits where, who is told what, and what is refused.

Alice owns the channel, Bob is her guest, Carol watches, Mallory has no business there. The npm client's own
view is in tests/system.
"""

import json
from pathlib import Path
from typing import Any, Final

from agrenting.dacp_connection import DacpConnection
from channels.private_listeners import LISTENERS_MAX
from tests.agrenting.dacp_stage import (
    BROADCAST,
    CONTEXT,
    DISCONNECTED,
    UNSUBSCRIBED,
    Floor,
    floor,
    guest,
    player,
)

UNKNOWN: Final = "private:nowhere"


# Channels.


async def test_a_channel_from_its_making_to_the_last_word(hall: Floor) -> None:
    alice, bob = await player(hall, "alice"), await player(hall, "bob")
    async with hall.fdc3(alice) as owner, hall.fdc3(bob) as other:
        channel_id = await owner.create()
        assert channel_id.startswith("private:")
        assert channel_id.count("private:") == 1
        await owner.watch(channel_id)
        token = await owner.invite(channel_id)
        assert await other.denied("joinPrivateChannel", {"channelId": channel_id}) == "AccessDenied"
        await other.join(channel_id, token)
        await other.watch(channel_id, "disconnect")
        listener = await other.listen(channel_id, "fdc3.quote")
        assert (await owner.event())["payload"] == {"privateChannelId": channel_id, "contextType": "fdc3.quote"}

        await owner.broadcast(channel_id, {"type": "fdc3.other"})
        await owner.broadcast(channel_id)
        event = await other.event()
        assert event["type"] == BROADCAST
        assert event["payload"] == {
            "channelId": channel_id,
            "context": CONTEXT,
            "originatingApp": {"appId": alice.handle, "instanceId": owner.instance_id},
        }
        assert set(event["meta"]) == {"eventUuid", "timestamp"}
        for wanted, context in (("fdc3.quote", CONTEXT), (None, CONTEXT), ("fdc3.none", None)):
            asked = {"channelId": channel_id, "contextType": wanted}
            assert await other.ask("getCurrentContextRequest", asked) == {"context": context}

        assert await other.ask("contextListenerUnsubscribeRequest", {"listenerUUID": listener}) == {}
        assert (await owner.event())["type"] == UNSUBSCRIBED
        await owner.broadcast(channel_id)
        await other.listen(channel_id)
        await other.listen(channel_id, "fdc3.quote")
        await owner.broadcast(channel_id)
        assert await other.flush() == [BROADCAST], "one frame, however many listeners; nothing is told again"
        await owner.flush()

        assert await other.ask("privateChannelDisconnectRequest", {"channelId": channel_id}) == {}
        events = [await owner.event() for _ in range(3)]
        assert [one["type"] for one in events] == [UNSUBSCRIBED, UNSUBSCRIBED, DISCONNECTED]
        assert [one["payload"].get("contextType") for one in events] == [None, "fdc3.quote", None]
        for type_, payload in (
            ("broadcastRequest", {"channelId": channel_id, "context": CONTEXT}),
            ("getCurrentContextRequest", {"channelId": channel_id, "contextType": None}),
            ("addContextListenerRequest", {"channelId": channel_id, "contextType": None}),
            ("privateChannelAddEventListenerRequest", {"privateChannelId": channel_id, "listenerType": None}),
            ("leavePrivateChannel", {"channelId": channel_id}),
            ("joinPrivateChannel", {"channelId": channel_id, "invitationToken": token}),
        ):
            assert await other.denied(type_, payload) == "AccessDenied", type_


async def test_the_seeds_names_and_the_longer_forms_are_understood(hall: Floor) -> None:
    alice, bob = await player(hall, "alice"), await player(hall, "bob")
    async with hall.fdc3(alice) as owner, hall.fdc3(bob) as other:
        told = await owner.ask("createPrivateChannel")
        assert told["privateChannel"] == told["channel"]
        assert set(told["channel"]) == {"id", "type"}
        of = {"channelId": told["channel"]["id"]}
        invited = await owner.ask("createPrivateChannelInvitationRequest", {**of, "expiresIn": 60})
        assert set(invited) == {"invitationToken"}
        await other.ask("joinPrivateChannelRequest", {**of, **invited})
        assert await other.ask("leavePrivateChannelRequest", of) == {}
        token = await owner.invite(of["channelId"])
        assert await owner.ask("revokePrivateChannelInvitation", {**of, "invitationToken": token}) == {}
        assert await owner.ask("revokePrivateChannelInvitation", {**of, "invitationToken": token}) == {}
        assert await other.denied("joinPrivateChannel", {**of, "invitationToken": token}) == "AccessDenied"
        assert set(await owner.ask("createPrivateChannelRequest")) == {"privateChannel"}


async def test_an_invitation_for_one_instance(hall: Floor) -> None:
    alice, bob = await player(hall, "alice"), await player(hall, "bob")
    async with hall.fdc3(alice) as owner, hall.fdc3(bob) as other, hall.fdc3(bob) as second:
        channel_id = await owner.create()
        token = await owner.invite(channel_id, instanceId=other.instance_id)
        wrong = {"channelId": channel_id, "invitationToken": token}
        assert await second.denied("joinPrivateChannel", wrong) == "AccessDenied"
        await other.join(channel_id, token)
        assert (await other.join(channel_id, "anything"))["channel"]["id"] == channel_id
        await second.join(channel_id, await owner.invite(channel_id, instanceId=bob.id))


async def test_a_removed_member_hears_no_more(hall: Floor) -> None:
    alice, bob = await player(hall, "alice"), await player(hall, "bob")
    async with hall.fdc3(alice) as owner, hall.fdc3(bob) as other:
        channel_id = await guest(owner, other)
        await other.listen(channel_id)
        await owner.watch(channel_id, "disconnect")
        removed = {"channelId": channel_id, "instanceId": other.instance_id}
        assert await other.denied("removePrivateChannelMember", removed) == "AccessDenied"
        told = await owner.response(await owner.send("removePrivateChannelMember", removed))
        assert told["payload"] == {}
        assert not owner.events, "the response comes before what it causes"
        assert await owner.flush() == [DISCONNECTED]
        await owner.broadcast(channel_id)
        assert await other.flush() == []


async def test_a_channel_that_is_nowhere_is_not_found(hall: Floor) -> None:
    alice = await player(hall, "alice")
    async with hall.fdc3(alice) as owner:
        for channel_id in (UNKNOWN, "fdc3.channel.1", "", "private:"):
            of = {"channelId": channel_id}
            for type_, payload in (
                ("joinPrivateChannel", of),
                ("leavePrivateChannel", of),
                ("createPrivateChannelInvitation", of),
                ("broadcastRequest", {**of, "context": CONTEXT}),
                ("getCurrentContextRequest", {**of, "contextType": None}),
                ("addContextListenerRequest", {**of, "contextType": None}),
                ("privateChannelAddEventListenerRequest", {"privateChannelId": channel_id, "listenerType": None}),
                ("privateChannelDisconnectRequest", of),
            ):
                assert await owner.denied(type_, payload) == "NoChannelFound", (type_, channel_id)


async def test_a_closed_channel_is_told_and_then_not_found(hall: Floor) -> None:
    alice, bob = await player(hall, "alice"), await player(hall, "bob")
    async with hall.fdc3(alice) as owner, hall.fdc3(bob) as other, hall.phoenix(bob) as phoenix:
        channel_id = await guest(owner, other)
        await other.watch(channel_id)
        await phoenix.join(channel_id, {"invitation_token": await owner.invite(channel_id)})
        await other.flush()
        answer = await hall.market.with_key(alice.api_key).call("DELETE", f"/private-channels/{channel_id}")
        assert answer.status_code < 400
        assert await phoenix.expect("privateChannelOnDisconnectEvent", channel_id) == {"privateChannelId": channel_id}
        assert await phoenix.expect("phx_close", channel_id) == {}
        assert (await other.event())["type"] == UNSUBSCRIBED, "of the join over Phoenix"
        assert (await other.event())["type"] == DISCONNECTED
        told = {"channelId": channel_id, "context": CONTEXT}
        assert await other.denied("broadcastRequest", told) == "NoChannelFound"


async def test_a_member_by_what_is_stored_alone_sits_there_at_its_first_listener(hall: Floor) -> None:
    alice = await player(hall, "alice")
    async with hall.fdc3(alice) as owner:
        channel_id = await owner.create()
        hall.hub.private.channels.clear()
        for program in hall.hub.private.programs.known.values():
            program.seats.clear()
        await owner.listen(channel_id)
        (connection,) = hall.hub.connections
        assert hall.hub.private.sits(connection, channel_id)


async def test_a_join_whose_socket_is_gone_when_it_is_decided_is_given_up(calm: Floor) -> None:
    alice, bob = await player(calm, "alice"), await player(calm, "bob")
    async with calm.fdc3(alice) as owner:
        channel_id = await owner.create()
        token = await owner.invite(channel_id)
        async with calm.fdc3(bob, "?instance_id=bob-1"):
            (connection,) = [one for one in calm.hub.connections if one.identity.agent_id == bob.id]
            assert isinstance(connection, DacpConnection)
            payload = {"channelId": channel_id, "invitationToken": token}
            for type_ in ("joinPrivateChannel", "getInfoRequest"):
                connection.receive(json.dumps({"type": type_, "payload": payload, "meta": {"requestUuid": type_}}))
            connection.close(1001, "the test says so")
            connection.receive("{}")
            connection.hear("broadcastEvent", {})
            await calm.market.server.database.commits.drain()
            assert calm.hub.private.sits(connection, channel_id), "it is waited for"
        async with calm.fdc3(bob, "?instance_id=bob-1") as back:
            await back.broadcast(channel_id)


# What does not fit.


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


UNFIT: Final[tuple[tuple[str, Any, str], ...]] = (
    ("broadcastRequest", {"context": {"name": "no type"}}, "MalformedContext"),
    ("broadcastRequest", {"context": "text"}, "MalformedContext"),
    ("broadcastRequest", {"context": {"type": ""}}, "MalformedContext"),
    ("broadcastRequest", {"context": {"type": "a", "id": {"n": 1}}}, "MalformedContext"),
    ("broadcastRequest", {"context": {"type": "a", "n": 2**60}}, "MalformedContext"),
    ("broadcastRequest", {"context": {"type": "a", "text": "x" * 300_000}}, "MalformedContext"),
    ("broadcastRequest", {}, "MalformedContext"),
    ("broadcastRequest", {"context": {"type": "a", "deep": _deep(200)}}, "MalformedContext"),
    ("broadcastRequest", {"channelId": 7, "context": CONTEXT}, "AccessDenied"),
    ("getCurrentContextRequest", {"contextType": 7}, "AccessDenied"),
    ("addContextListenerRequest", {"contextType": []}, "AccessDenied"),
    ("addContextListenerRequest", {"contextType": "x" * 300}, "AccessDenied"),
    ("privateChannelAddEventListenerRequest", {"listenerType": None}, "AccessDenied"),
    ("privateChannelAddEventListenerRequest", {"privateChannelId": "", "listenerType": "all"}, "AccessDenied"),
    ("contextListenerUnsubscribeRequest", {}, "AccessDenied"),
    ("contextListenerUnsubscribeRequest", {"listenerUUID": "unknown"}, "AccessDenied"),
    ("privateChannelUnsubscribeEventListenerRequest", {"listenerUUID": "unknown"}, "AccessDenied"),
    ("eventListenerUnsubscribeRequest", {"listenerUUID": "unknown"}, "AccessDenied"),
    ("createPrivateChannelInvitation", {"expiresIn": 0}, "MalformedMessage"),
    ("createPrivateChannelInvitation", {"instanceId": "not an id"}, "MalformedMessage"),
    ("joinPrivateChannel", {"invitationToken": 7}, "MalformedMessage"),
    ("joinPrivateChannel", {"channelId": None}, "MalformedMessage"),
    ("removePrivateChannelMember", {}, "MalformedMessage"),
    ("createPrivateChannelRequest", [], "CreationFailed"),
    ("getOrCreateChannelRequest", {}, "AccessDenied"),
    ("raiseIntentRequest", {"anything": 1}, "NoAppsFound"),
    ("fooRequest", {}, "MalformedMessage"),
    ("foo", {}, "MalformedMessage"),
    ("addContextListenerResponse", {}, "MalformedMessage"),
)


async def test_what_does_not_fit_is_refused_with_its_word(hall: Floor) -> None:
    alice = await player(hall, "alice")
    async with hall.fdc3(alice) as owner:
        channel_id = await owner.create()
        for type_, payload, word in UNFIT:
            whole = {"channelId": channel_id, **payload} if isinstance(payload, dict) else payload
            assert await owner.denied(type_, whole) == word, (type_, payload)
            await owner.broadcast(channel_id)


async def test_listeners_to_what_never_happens_here_are_taken_and_end(hall: Floor) -> None:
    alice = await player(hall, "alice")
    async with hall.fdc3(alice) as owner:
        heard = await owner.listen(None)
        seen = (await owner.ask("addEventListenerRequest", {"type": "USER_CHANNEL_CHANGED"}))["listenerUUID"]
        assert await owner.denied("eventListenerUnsubscribeRequest", {"listenerUUID": heard}) == "AccessDenied"
        assert await owner.denied("contextListenerUnsubscribeRequest", {"listenerUUID": seen}) == "AccessDenied"
        assert await owner.ask("contextListenerUnsubscribeRequest", {"listenerUUID": heard}) == {}
        assert await owner.ask("eventListenerUnsubscribeRequest", {"listenerUUID": seen}) == {}
        assert await owner.denied("eventListenerUnsubscribeRequest", {"listenerUUID": seen}) == "AccessDenied"
        for _ in range(LISTENERS_MAX):
            await owner.listen(None)
        assert await owner.denied("addContextListenerRequest", {"channelId": None}) == "AccessDenied"


async def test_listeners_are_bounded_and_belong_to_their_instance(hall: Floor) -> None:
    alice, mallory = await player(hall, "alice"), await player(hall, "mallory")
    async with hall.fdc3(alice) as owner, hall.fdc3(mallory) as other:
        channel_id = await owner.create()
        listeners = [await owner.listen(channel_id) for _ in range(LISTENERS_MAX)]
        assert await owner.denied("addContextListenerRequest", {"channelId": channel_id}) == "AccessDenied"
        of = {"listenerUUID": listeners[0]}
        assert await other.denied("contextListenerUnsubscribeRequest", of) == "AccessDenied"
        assert await owner.denied("privateChannelUnsubscribeEventListenerRequest", of) == "AccessDenied"
        assert await owner.ask("contextListenerUnsubscribeRequest", of) == {}
        watched = await owner.watch(channel_id)
        assert await owner.ask("privateChannelUnsubscribeEventListenerRequest", {"listenerUUID": watched}) == {}


CLOSING: Final[tuple[tuple[list[str | bytes], int], ...]] = (
    (["{", "nonsense", "{"], 1003),
    ([b"{}", b"{}", b'{"type": "getInfoRequest"}'], 1003),
    (["{}", "[]", '{"type": "getInfoRequest"}'], 1008),
    (["{", "{", '{"type": "getInfoRequest", "meta": {}}'], 1008),
)


async def test_a_few_messages_that_cannot_be_answered_close_the_socket(hall: Floor) -> None:
    alice = await player(hall, "alice")
    for frames, code in CLOSING:
        async with hall.fdc3(alice) as mallory:
            for frame in frames[:2]:
                await mallory.connection.send(frame)
            assert await mallory.info(), "two are forgiven"
            await mallory.connection.send(frames[2])
            got, reason = await mallory.closed()
        assert got == code
        assert reason


async def test_what_is_no_utf8_and_what_is_too_large_closes_the_socket(folder: Path) -> None:
    async with floor(folder, frame_bytes_max=10_000) as hall:
        alice = await player(hall, "alice")
        async with hall.fdc3(alice) as mallory:
            await mallory.connection.send("x" * 10_001)
            assert (await mallory.closed())[0] == 1009


async def test_acknowledgements_are_not_answered(hall: Floor) -> None:
    alice = await player(hall, "alice")
    async with hall.fdc3(alice) as owner:
        await owner.send("heartbeatAcknowledgementRequest", {"heartbeatEventUuid": "any"})
        assert await owner.flush() == []
        assert not owner._responses  # noqa: SLF001 - nobody asked for what would stand there
