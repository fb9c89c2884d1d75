"""The door of `/socket/dacp`, against a whole server: who may come, and which instance it is.

Alice owns the channel, Bob is her guest, Carol watches, Mallory has no business there.
"""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.agrenting.dacp_stage import (
    BROADCAST,
    CONTEXT,
    DISCONNECTED,
    Fdc3Client,
    Floor,
    floor,
    guest,
    player,
)

# The door.


async def refusal(hall: Floor, query: str = "", **headers: str) -> tuple[int, str, dict[str, str]]:
    """How a handshake is refused."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(hall.address(query=query), additional_headers=headers):
            pass
    answer = refused.value.response
    return answer.status_code, json.loads(answer.body)["error"]["code"], dict(answer.headers.raw_items())


async def test_who_has_no_business_here_is_refused_before_the_upgrade(hall: Floor) -> None:
    alice, jane = await player(hall, "alice"), await hall.market.user("jane")
    assert jane is not None
    key = {"x-api-key": alice.api_key}
    refusals = [
        await refusal(hall),
        await refusal(hall, **{"x-api-key": "agk_wrong"}),
        await refusal(hall, **{"x-api-key": hall.market.user_keys["jane"]}),
        await refusal(hall, "?token=wrong", **key),
        await refusal(hall, "?agent_id=someone", **key),
        await refusal(hall, **key, Origin="https://evil.example"),
        await refusal(hall, "?instance_id=", **key),
        await refusal(hall, "?instance_id=a&instance_id=b", **key),
        await refusal(hall, "?instance_id=" + "a" * 129, **key),
        await refusal(hall, "?instance_id=a%0Ab", **key),
    ]
    assert [one[:2] for one in refusals] == [
        (403, "missing_credential"),
        (403, "invalid_credential"),
        (403, "agent_required"),
        (403, "invalid_credential"),
        (403, "wrong_agent"),
        (403, "origin_not_allowed"),
        *[(403, "invalid_instance_id")] * 4,
    ]
    hall.hub.is_draining = True
    assert (await refusal(hall, **key))[:2] == (503, "draining")
    hall.hub.is_draining = False


async def test_guessing_at_the_door_and_too_many_connects_share_their_limits_with_the_other_sockets(
    folder: Path,
) -> None:
    async with floor(folder, bad_credentials_burst=2.0, connects_burst=4.0, connects_per_s=0.001) as hall:
        wrong = {"x-api-key": "agk_wrong"}
        assert [(await refusal(hall, **wrong))[1] for _ in range(3)] == [
            *["invalid_credential"] * 2,
            "rate_limited",
        ]
        with pytest.raises(InvalidStatus) as refused:
            async with connect(hall.address("/socket/websocket"), additional_headers=wrong):
                pass
        assert json.loads(refused.value.response.body)["error"]["code"] == "rate_limited"
        assert (await refusal(hall))[:2] == (429, "rate_limited")


async def test_two_agents_may_use_one_instance_id(calm: Floor) -> None:
    alice, mallory = await player(calm, "alice"), await player(calm, "mallory")
    async with calm.fdc3(alice, "?instance_id=desk-1") as desk, calm.fdc3(mallory, "?instance_id=desk-1") as other:
        assert desk.instance_id == other.instance_id == "desk-1"
        channel_id = await desk.create()
        of = {"channelId": channel_id, "contextType": None}
        assert await other.denied("addContextListenerRequest", of) == "AccessDenied"
        assert calm.hub.private.holder_of("desk-1") == alice.id


async def test_credentials_come_as_on_the_other_sockets(hall: Floor) -> None:
    alice = await player(hall, "alice")
    offered = base64.urlsafe_b64encode(alice.api_key.encode()).decode().rstrip("=")
    ways: tuple[tuple[str, dict[str, Any]], ...] = (
        (f"?token={alice.api_key}", {}),
        (f"?api_key={alice.api_key}", {}),
        ("", {"additional_headers": {"Authorization": f"Bearer {alice.api_key}"}}),
        ("", {"subprotocols": ["phoenix", f"base64url.bearer.phx.{offered}"]}),
    )
    for query, options in ways:
        async with connect(hall.address(query=query), **options) as connection:
            told = await Fdc3Client(connection, alice).info()
        assert told["appMetadata"]["appId"] == alice.handle


async def test_a_plain_request_is_told_that_this_is_a_socket(hall: Floor) -> None:
    answer = await hall.market.http.get("/socket/dacp")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "upgrade_required")


# Who it is.


async def test_the_server_says_who_it_is_and_who_its_client_is(hall: Floor) -> None:
    alice = await player(hall, "alice")
    async with hall.fdc3(alice) as one, hall.fdc3(alice) as other:
        told = await one.info()
        assert told["fdc3Version"] == "2.2"
        assert told["appMetadata"] == {"appId": alice.handle, "instanceId": one.instance_id}
        assert one.instance_id != other.instance_id


async def test_an_instance_is_taken_up_again_by_its_secret(calm: Floor) -> None:
    alice, bob = await player(calm, "alice"), await player(calm, "bob")
    async with calm.fdc3(alice) as owner:
        async with calm.fdc3(bob) as first:
            told = await first.step({"identityUrl": "https://a", "actualUrl": "https://a"})
            assert told["type"] == "WCP5ValidateAppIdentityFailedResponse", "it comes first, or not at all"
            channel_id = await guest(owner, first)
            await first.listen(channel_id)
        async with connect(calm.address(), additional_headers={"x-api-key": bob.api_key}) as raw:
            fresh = Fdc3Client(raw, bob)
            told = await fresh.step({"instanceId": first.instance_id, "instanceUuid": "a guess"})
            assert told["type"] == "WCP5ValidateAppIdentityResponse"
            assert set(told["payload"]) == {"appId", "instanceId", "instanceUuid", "implementationMetadata"}
            own = told["payload"]
            assert own["instanceId"] != first.instance_id, "a wrong secret makes a new instance"
            assert own["implementationMetadata"]["appMetadata"]["instanceId"] == own["instanceId"]
            channel = await guest(owner, fresh)
            heard = await fresh.listen(channel)
        async with connect(calm.address(), additional_headers={"x-api-key": bob.api_key}) as raw:
            back = Fdc3Client(raw, bob)
            told = await back.step({name: own[name] for name in ("instanceId", "instanceUuid")})
            assert told["payload"]["instanceId"] == own["instanceId"]
            assert told["payload"]["instanceUuid"] == own["instanceUuid"]
            await owner.broadcast(channel)
            assert (await back.event(BROADCAST))["payload"]["context"] == CONTEXT
            assert await back.ask("contextListenerUnsubscribeRequest", {"listenerUUID": heard}) == {}


async def test_a_step_that_cannot_be_read_is_said_to_have_failed(hall: Floor) -> None:
    alice = await player(hall, "alice")
    async with connect(hall.address(), additional_headers={"x-api-key": alice.api_key}) as raw:
        told = await Fdc3Client(raw, alice).step({"instanceId": "half"})
        assert told["payload"]["instanceId"] != "half"
    unreadable: tuple[Any, ...] = ({"instanceId": 7}, [], "x", None)
    for payload in unreadable:
        async with connect(hall.address(), additional_headers={"x-api-key": alice.api_key}) as raw:
            client = Fdc3Client(raw, alice)
            told = await client.step(payload)
            assert told["type"] == "WCP5ValidateAppIdentityFailedResponse"
            assert set(told["payload"]) == {"message"}
            assert await client.info()


async def test_goodbye_closes_and_counts_as_a_lost_connection(hall: Floor) -> None:
    alice, bob = await player(hall, "alice"), await player(hall, "bob")
    async with hall.fdc3(alice) as owner, hall.fdc3(bob) as other:
        channel_id = await guest(owner, other)
        await owner.watch(channel_id)
        await other.connection.send('{"type": "WCP6Goodbye", "meta": {"timestamp": "2026-01-01T00:00:00Z"}}')
        assert (await other.closed())[0] == 1000
        assert (await owner.event())["type"] == DISCONNECTED
