"""Sockets of `/socket/dacp`, against a whole server: their order and speed, both transports, and how they end.

Alice owns the channel, Bob is her guest, Carol watches, Mallory has no business there.
"""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from agrenting.db.commit import StorageUnavailable, Unit
from tests.agrenting.api.market import Player
from tests.agrenting.dacp_stage import (
    ADDED,
    BROADCAST,
    CONTEXT,
    DISCONNECTED,
    UNSUBSCRIBED,
    WITHIN_S,
    Floor,
    floor,
    guest,
    player,
)
from tests.system.harness import Refused

# Order and speed.


async def test_who_pipelines_waits_for_nothing(hall: Floor) -> None:
    alice, bob = await player(hall, "alice"), await player(hall, "bob")
    async with hall.fdc3(alice) as owner, hall.fdc3(bob) as other:
        channel_id = await owner.create()
        await owner.listen(channel_id)
        token = await owner.invite(channel_id)
        of = {"channelId": channel_id}
        uuids = [
            await other.send("joinPrivateChannel", {**of, "invitationToken": token}),
            await other.send("addContextListenerRequest", {**of, "contextType": None}),
            *[await other.send("broadcastRequest", {**of, "context": {**CONTEXT, "n": n}}) for n in range(50)],
            await other.send("getCurrentContextRequest", {**of, "contextType": None}),
            await other.send("leavePrivateChannel", of),
            await other.send("broadcastRequest", {**of, "context": CONTEXT}),
        ]
        told = [(await other.response(uuid))["payload"] for uuid in uuids]
        assert [one for one in told[2:52] if one] == []
        assert told[52]["context"]["n"] == 49
        assert told[53:] == [{}, {"error": "AccessDenied"}]
        heard = [(await owner.event(BROADCAST))["payload"]["context"]["n"] for _ in range(50)]
        assert heard == list(range(50))


async def test_a_flood_is_answered_all_the_same_and_read_no_faster(folder: Path) -> None:
    async with floor(folder, inbox_frames_max=16, control_burst=300.0, control_per_s=0.001) as hall:
        alice = await player(hall, "alice")
        async with hall.fdc3(alice) as mallory:
            channel_id = await mallory.create()
            told = {"channelId": channel_id, "contextType": None}
            uuids = [await mallory.send("getCurrentContextRequest", told) for _ in range(400)]
            answers = [(await mallory.response(uuid))["payload"] for uuid in uuids]
            assert answers[0] == {"context": None}
            assert answers[-1] == {"error": "ApiTimeout"}, "too often: a later try may work"


async def test_broadcasts_cost_their_bytes(folder: Path) -> None:
    async with floor(folder, message_bytes_burst=5_000.0, message_bytes_per_s=0.001) as hall:
        alice = await player(hall, "alice")
        async with hall.fdc3(alice) as mallory:
            channel_id = await mallory.create()
            large = {"channelId": channel_id, "context": {"type": "a", "text": "x" * 3_000}}
            assert await mallory.ask("broadcastRequest", large) == {}
            assert await mallory.denied("broadcastRequest", large) == "ApiTimeout"


async def test_who_guesses_tokens_is_denied_without_a_look_and_the_others_are_not(folder: Path) -> None:
    async with floor(folder, private_failures_burst=3.0, private_failures_per_s=0.001) as hall:
        alice, mallory = await player(hall, "alice"), await player(hall, "mallory")
        async with hall.fdc3(alice) as owner, hall.fdc3(mallory) as guesser:
            channel_id = await owner.create()
            token = await owner.invite(channel_id)
            for n in range(3):
                guess = {"channelId": channel_id, "invitationToken": f"guess-{n}"}
                assert await guesser.denied("joinPrivateChannel", guess) == "AccessDenied"
            right = {"channelId": channel_id, "invitationToken": token}
            assert await guesser.denied("joinPrivateChannel", right) == "AccessDenied"
            async with hall.phoenix(mallory) as phoenix:
                with pytest.raises(Refused) as refused:
                    await phoenix.join(channel_id, {"invitation_token": token})
                assert refused.value.reason == "rate_limited"
            state = await hall.market.with_key(alice.api_key).get(f"/private-channels/{channel_id}")
            assert [one["token"] for one in state["invites"]] == [token]


async def test_an_instance_sits_in_so_many_channels_at_most(folder: Path) -> None:
    async with floor(folder, topics_per_socket_max=2) as hall:
        alice, bob = await player(hall, "alice"), await player(hall, "bob")
        async with hall.fdc3(alice) as owner, hall.fdc3(bob) as other:
            first = await owner.create()
            await owner.create()
            assert await owner.denied("createPrivateChannelRequest") == "CreationFailed"
            third = await other.create()
            of = {"channelId": third, "invitationToken": await other.invite(third)}
            assert await owner.denied("joinPrivateChannel", of) == "AccessDenied"
            await owner.join(first)
            await owner.ask("leavePrivateChannel", {"channelId": first})
            await owner.join(third, of["invitationToken"])


# Both transports.


async def test_both_transports_see_each_other(hall: Floor) -> None:
    alice, bob = await player(hall, "alice"), await player(hall, "bob")
    async with hall.fdc3(alice) as owner, hall.phoenix(bob, "bob-1") as other:
        channel_id = await owner.create()
        await owner.watch(channel_id)
        await owner.listen(channel_id)
        told = await other.join(channel_id, {"invitation_token": await owner.invite(channel_id)})
        assert told["channel"] == {"id": channel_id, "type": "private"}
        state = await other.expect("presence_state", channel_id)
        seen = {id_: [(one["instanceId"], one["role"]) for one in told["metas"]] for id_, told in state.items()}
        assert seen == {alice.id: [(owner.instance_id, "owner")], bob.id: [("bob-1", "member")]}
        assert await other.expect(ADDED) == {"privateChannelId": channel_id, "contextType": None}
        assert (await owner.event())["type"] == ADDED, "a join over Phoenix listens"

        await other.push(channel_id, "broadcastRequest", {"context": CONTEXT})
        told = (await owner.event())["payload"]
        assert told["context"] == CONTEXT
        assert told["originatingApp"] == {"appId": bob.handle, "instanceId": "bob-1"}
        await owner.broadcast(channel_id)
        assert (await other.expect(BROADCAST, channel_id))["context"] == CONTEXT

        await owner.ask("removePrivateChannelMember", {"channelId": channel_id, "instanceId": "bob-1"})
        assert await other.expect("phx_close", channel_id) == {}
        assert await owner.flush() == [UNSUBSCRIBED, DISCONNECTED]


async def test_leaving_over_phoenix_is_told_at_once_and_a_lost_socket_after_the_grace(calm: Floor) -> None:
    alice, bob = await player(calm, "alice"), await player(calm, "bob")
    async with calm.fdc3(alice) as owner:
        channel_id = await owner.create()
        await owner.watch(channel_id)
        async with calm.phoenix(bob, "bob-1") as other:
            await other.join(channel_id, {"invitation_token": await owner.invite(channel_id)})
        async with calm.phoenix(bob, "bob-1") as back:
            await back.join(channel_id, {"invitation_token": "used up by the first join"})
            assert await owner.flush() == [ADDED], "it has never been away"
            await back.request(channel_id, "phx_leave", {})
            assert (await owner.event())["type"] == UNSUBSCRIBED
            assert (await owner.event())["type"] == DISCONNECTED
            with pytest.raises(Refused) as refused:
                await back.join(channel_id)
            assert refused.value.reason == "AccessDenied"


async def test_the_event_that_leaves_over_phoenix_is_answered_and_closes_the_topic(hall: Floor) -> None:
    alice, bob = await player(hall, "alice"), await player(hall, "bob")
    async with hall.fdc3(alice) as owner, hall.phoenix(bob) as other:
        channel_id = await owner.create()
        await owner.watch(channel_id)
        await other.join(channel_id, {"invitation_token": await owner.invite(channel_id)})
        await owner.flush()
        assert await other.push(channel_id, "leavePrivateChannel") == {}
        assert await other.expect("phx_close", channel_id) == {}
        assert await owner.flush() == [UNSUBSCRIBED, DISCONNECTED]


# Ends.


async def test_a_lost_connection_is_told_after_the_grace(hall: Floor) -> None:
    alice, bob = await player(hall, "alice"), await player(hall, "bob")
    async with hall.fdc3(alice) as owner:
        async with hall.fdc3(bob) as other:
            channel_id = await guest(owner, other)
            await other.listen(channel_id)
            await owner.watch(channel_id)
            await owner.flush()
        assert (await owner.event())["type"] == UNSUBSCRIBED
        assert (await owner.event())["type"] == DISCONNECTED
        state = await hall.market.with_key(alice.api_key).get(f"/private-channels/{channel_id}")
        assert len(state["members"]) == 1


async def test_a_suspended_agent_and_a_dead_key_are_disconnected(hall: Floor) -> None:
    alice = await player(hall, "alice")
    async with hall.fdc3(alice) as owner:
        assert hall.hub.disconnect(f"agent_socket:{alice.id}") == 1
        assert (await owner.closed())[0] == 1001
    async with hall.fdc3(alice) as owner:
        (connection,) = hall.hub.connections
        hall.hub.disconnect_keys([connection.identity.key_id])
        assert (await owner.closed())[0] == 1001


async def test_what_comes_with_a_dead_key_is_denied(hall: Floor) -> None:
    alice = await player(hall, "alice")
    async with hall.fdc3(alice) as owner:
        channel_id = await owner.create()
        await hall.market.server.database.write(lambda tx: tx.run("DELETE FROM api_keys"))
        told = {"channelId": channel_id, "context": CONTEXT}
        assert await owner.denied("broadcastRequest", told) == "AccessDenied"


async def test_what_cannot_be_stored_may_be_tried_again(hall: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = await player(hall, "alice")

    def full(unit: Unit) -> None:
        asyncio.get_running_loop().call_soon(unit.settled, None, StorageUnavailable("full"))

    async with hall.fdc3(alice) as owner:
        channel_id = await owner.create()
        with monkeypatch.context() as patch:
            patch.setattr(hall.market.server.database.commits, "submit", full)
            told = {"channelId": channel_id, "context": CONTEXT}
            assert await owner.denied("broadcastRequest", told) == "ApiTimeout"
        await owner.broadcast(channel_id)


async def test_a_request_that_crashes_is_answered_and_the_next_one_too(
    hall: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await player(hall, "alice")

    def crash(*_arguments: Any, **_more: Any) -> None:
        raise RuntimeError("the test says so")

    async with hall.fdc3(alice) as owner:
        channel_id = await owner.create()
        with monkeypatch.context() as patch:
            patch.setattr(hall.hub.private, "listen", crash)
            assert await owner.denied("addContextListenerRequest", {"channelId": channel_id}) == "ApiTimeout"
        with monkeypatch.context() as patch:
            patch.setattr(hall.hub.private, "tell", crash)
            await owner.listen(channel_id)
        await owner.listen(channel_id)


async def test_a_drain_answers_what_is_under_way_and_closes(hall: Floor) -> None:
    alice, bob = await player(hall, "alice"), await player(hall, "bob")
    async with hall.fdc3(alice) as owner, hall.fdc3(bob) as other:
        channel_id = await guest(owner, other)
        await owner.watch(channel_id)
        asked = await owner.send("getCurrentContextRequest", {"channelId": channel_id})
        await owner.response(asked)
        await hall.hub.drain()
        assert (await owner.closed())[0] == 1012
        assert (await other.closed())[0] == 1012
        assert not owner.events, "nobody is announced as gone"
    hall.hub.private.sweep()
    members = await hall.market.server.database.read(lambda tx: tx.all("SELECT * FROM private_members"))
    assert len(members) == 2


async def test_a_silent_socket_is_asked_and_closed(folder: Path) -> None:
    async with floor(folder, dacp_heartbeat_s=0.01, socket_idle_s=1.5) as hall:
        alice = await player(hall, "alice")
        async with hall.fdc3(alice) as owner:
            beat = await owner.event("heartbeatEvent")
            assert beat["payload"] == {}
            assert set(beat["meta"]) == {"eventUuid", "timestamp"}
            (connection,) = hall.hub.connections
            heard = connection.heard_at
            await owner.send("heartbeatAcknowledgementRequest", {"heartbeatEventUuid": beat["meta"]["eventUuid"]})
            await hall.until(lambda: connection.heard_at > heard)
            assert (await owner.closed())[0] == 1001


async def test_who_does_not_read_is_closed_and_slows_nobody(folder: Path) -> None:
    async with floor(folder, outbox_bytes_max=50_000, private_grace_s=0.05) as hall:
        alice, bob, carol = [await player(hall, name) for name in ("alice", "bob", "carol")]
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.settimeout(0)
        loop = asyncio.get_running_loop()
        async with hall.fdc3(alice) as owner, hall.fdc3(carol) as other:
            channel_id = await guest(owner, other)
            await other.listen(channel_id)
            await owner.watch(channel_id, "disconnect")
            with deaf:
                await loop.sock_connect(deaf, ("127.0.0.1", hall.port))
                await _come_and_listen(deaf, bob, channel_id, await owner.invite(channel_id))
                large, told = {"type": "a", "text": "x" * 40_000}, 0
                while not owner.events:
                    assert told < 500, "it is never closed"
                    await owner.broadcast(channel_id, large)
                    await other.event(BROADCAST)
                    told += 1
            assert owner.events[0]["type"] == DISCONNECTED


async def _come_and_listen(deaf: socket.socket, player: Player, channel_id: str, token: str) -> None:
    """Join and listen, and read nothing ever after."""
    loop = asyncio.get_running_loop()
    handshake = (
        "GET /socket/dacp HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"x-api-key: {player.api_key}\r\n\r\n"
    )
    await loop.sock_sendall(deaf, handshake.encode())
    await _hear(deaf, b"\r\n\r\n")
    for type_, payload, mark in (
        ("joinPrivateChannel", {"channelId": channel_id, "invitationToken": token}, b"joinPrivateChannelResponse"),
        ("addContextListenerRequest", {"channelId": channel_id, "contextType": None}, b"listenerUUID"),
    ):
        frame = json.dumps({"type": type_, "payload": payload, "meta": {"requestUuid": "1"}}).encode()
        head = bytes((0x81, 0x80 | 126)) + len(frame).to_bytes(2, "big")
        await loop.sock_sendall(deaf, head + bytes(4) + frame)
        await _hear(deaf, mark)


async def _hear(deaf: socket.socket, mark: bytes) -> None:
    heard = b""
    async with asyncio.timeout(WITHIN_S):
        while mark not in heard:
            came = await asyncio.get_running_loop().sock_recv(deaf, 4_096)
            assert came, heard
            heard += came
