"""Every message of FDC3 at its edges: what is malformed, what is not ours, who may speak; schemas judge every frame."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.system.fdc3_programs import Fdc3Error
from tests.system.fdc3_schemas import request_types
from tests.system.guests import Dacp, Denied, dacp
from tests.system.private_halls import CONTACT, GONE, PrivateHall, opened, private_hall, unsubscribed

DENIED = "AccessDenied"
CONTEXT_BYTES_MAX = 262_144
HANDLER = "HANDLER"
"""Stands for a function."""


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateHall]:
    with private_hall(tmp_path_factory.mktemp("messages") / "var", AGRENTING_PRIVATE_GRACE_S="1") as hall:
        yield hall


async def test_what_is_no_context_is_told_to_nobody(hall: PrivateHall, node: str) -> None:
    malformed: list[Any] = [
        None, "text", 7, [], {}, {"name": "x"}, {"type": 1}, {"type": None}, {"type": "x", "name": 1},
        {"type": "x", "id": "a"},
    ]  # fmt: skip
    beyond_schema = {"type": "x", "id": {"a": 1}}  # FDC3 says in words that ids are strings.
    too_deep: dict[str, Any] = {"type": "x"}
    for _ in range(100):
        too_deep = {"type": "x", "inner": too_deep}
    async with hall.stage(node) as cast:
        channel = await cast.seated()
        await cast.bob.do("listen", channel, None)

        for context in malformed:
            assert await cast.alice.misspeak("broadcast", channel, context) == "MalformedContext", context
        for context in (beyond_schema, too_deep):
            assert await cast.alice.refused("broadcast", channel, context) == "MalformedContext"
        assert await cast.alice.do("current", channel, None) is None
        await cast.bob.hears_nothing()
        await cast.alice.do("broadcast", channel, CONTACT)
        await cast.bob.hears(["*", CONTACT])


async def test_every_request_gets_one_answer_of_its_own_name(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        channel = await cast.seated()
        for type_, payload in {
            "singRequest": {},
            "broadcastRequest": {"context": CONTACT},
            "getCurrentContextRequest": {"channelId": 7},
            "addContextListenerRequest": {"channelId": channel, "contextType": 7},
            "contextListenerUnsubscribeRequest": {},
            "privateChannelAddEventListenerRequest": {"privateChannelId": channel, "listenerType": "sing"},
            "privateChannelUnsubscribeEventListenerRequest": {"listenerUUID": None},
            "privateChannelDisconnectRequest": {"channelId": None},
            "createPrivateChannelInvitation": {},
        }.items():
            ask = cast.bob.refused if complaint_free(type_) else cast.bob.misspeak
            assert await ask("ask", type_, payload) in {
                DENIED,
                "MalformedContext",
                "MalformedMessage",
                "NoChannelFound",
            }
        await asyncio.gather(*[cast.bob.do("current", channel, None) for _ in range(50)])
        await cast.bob.do("broadcast", channel, CONTACT)


def complaint_free(type_: str) -> bool:
    """Whether FDC3 has no schema for a request, so that any payload fits."""
    return type_ in {"singRequest", "joinPrivateChannel", "createPrivateChannelInvitation"}


async def test_the_forms_of_the_extensions_with_and_without_a_suffix(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        told = await cast.alice.do("ask", "createPrivateChannel", {})
        channel = told["channel"]["id"]
        invited = await cast.alice.do("ask", "createPrivateChannelInvitationRequest", {"channelId": channel})
        token = hall.keep_secret(invited["invitationToken"])
        entry = {"channelId": channel, "invitationToken": token}
        joined = await cast.bob.do("ask", "joinPrivateChannelRequest", entry)
        left = await cast.bob.do("ask", "leavePrivateChannelRequest", {"channelId": channel})

        assert told["privateChannel"] == told["channel"] == {"id": channel, "type": "private"}
        assert joined["channel"]["id"] == channel
        assert left == {}


X = {"type": "x"}
CALLS: list[list[Any]] = [
    ["getUserChannels"], ["getSystemChannels"], ["joinUserChannel", "x"], ["getCurrentChannel"],
    ["leaveCurrentChannel"],
    ["getOrCreateChannel", "of an app"], ["broadcast", X], ["addContextListener", "x", HANDLER],
    ["addContextListener", None, HANDLER], ["addEventListener", "userChannelChanged", HANDLER], ["findIntent", "x"],
    ["findIntent", "x", X, "x"], ["findIntentsByContext", X], ["raiseIntent", "x", X, {"appId": "x"}],
    ["raiseIntentForContext", X], ["addIntentListener", "x", HANDLER], ["open", "x"], ["open", {"appId": "x"}, X],
    ["findInstances", {"appId": "x"}], ["getAppMetadata", {"appId": "x"}],
]  # fmt: skip
OF_CHANNELS = frozenset({"broadcastRequest", "getCurrentContextRequest", "heartbeatAcknowledgementRequest"})
"""What the other tests ask."""

RAW = {
    "contextListenerUnsubscribeRequest": {"listenerUUID": "x"},
    "getInfoRequest": {},
    "addEventListenerRequest": {"type": "USER_CHANNEL_CHANGED"},
    "eventListenerUnsubscribeRequest": {"listenerUUID": "x"},
    "intentListenerUnsubscribeRequest": {"listenerUUID": "x"},
    "intentResultRequest": {"intentResult": {}, "intentEventUuid": "x", "raiseIntentRequestUuid": "x"},
    "raiseIntentRequest": {"intent": "x", "context": X},
    "raiseIntentForContextRequest": {"context": X},
}


async def test_all_else_that_fdc3_has_is_answered_within_its_schemas(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        for call in CALLS:
            with contextlib.suppress(Fdc3Error):
                await cast.bob.do("call", *call)
        for type_, payload in RAW.items():
            with contextlib.suppress(Fdc3Error):
                await cast.bob.do("ask", type_, payload)

        asked = {frame.body["type"] for frame in cast.bob.frames if frame.is_sent} - {"heartbeatAcknowledgementRequest"}
        answered = {frame.body["type"] for frame in cast.bob.frames if not frame.is_sent} - {"heartbeatEvent"}
        assert answered == {type_.removesuffix("Request") + "Response" for type_ in asked}
        assert {type_ for type_ in request_types() if "rivateChannel" not in type_} - OF_CHANNELS <= asked
        await cast.bob.hears_nothing()


async def test_nobody_speaks_as_another(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast, dacp(hall.market, hall.mallory) as mallory:
        channel = await cast.channel()
        await cast.alice.do("listen", channel, None)
        await mallory.ask("joinPrivateChannel", channelId=channel, invitationToken=await cast.invite(channel))
        alice = (await cast.alice.do("info"))["appMetadata"]
        source = {"appId": alice["appId"], "instanceId": alice["instanceId"]}

        await mallory.ask_as(source, "broadcastRequest", channelId=channel, context=CONTACT)
        await cast.alice.hears(["*", CONTACT])
        origin = cast.alice.came("broadcastEvent")[0]["originatingApp"]
        assert origin["appId"] == hall.mallory.handle
        assert origin["instanceId"] != source["instanceId"]
        with pytest.raises(Denied, match=DENIED):
            await mallory.ask_as(source, "createPrivateChannelInvitation", channelId=channel)


async def test_a_context_may_be_large_and_not_too_large(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        channel = await cast.seated()
        await cast.bob.do("listen", channel, None)
        frame_bytes = len('{"type":"x","text":""}')
        large = {"type": "x", "text": "ü" * ((CONTEXT_BYTES_MAX - frame_bytes) // 2)}

        await cast.alice.do("broadcast", channel, large)
        await cast.bob.hears(["*", large])
        larger = {"type": "x", "text": large["text"] + "ü"}
        assert await cast.alice.refused("broadcast", channel, larger) == "MalformedContext"
        assert await cast.bob.do("current", channel, "x") == large


async def test_the_door_is_open_to_agents_alone(hall: PrivateHall) -> None:
    url = hall.market.ws_url("/socket/dacp")
    token = hall.market.token(hall.bob.api_key)
    carol = hall.market.user("carol")["api_key"]
    operator = hall.market.operator_key or ""
    for headers in ({}, {"x-api-key": "nobody's"}, {"x-api-key": carol}, {"Authorization": f"Bearer {operator}"}):
        with pytest.raises(InvalidStatus, match="403"):
            await connect(url, additional_headers=headers)
    for query, headers in ((f"?token={token}", {}), ("", {"Authorization": f"Bearer {token}"})):
        async with connect(url + query, additional_headers=headers) as socket:
            one = Dacp(socket)
            told = await one.ask("getInfoRequest")
            assert told["implementationMetadata"]["appMetadata"]["appId"] == hall.bob.handle
            await one.close()


async def test_what_is_no_message_closes_the_socket_after_a_few(hall: PrivateHall) -> None:
    url = hall.market.ws_url("/socket/dacp")
    for frame, code in (("no JSON", 1003), ('{"no": "type"}', 1008), ("[]", 1008), (b"\x00", 1003)):
        async with connect(url, additional_headers={"x-api-key": hall.bob.api_key}) as socket:
            for _ in range(3):
                await socket.send(frame)
            await socket.wait_closed()
            assert socket.close_code == code, frame


async def test_whose_key_is_revoked_is_out(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast, dacp(hall.market, hall.mallory) as mallory:
        channel = await cast.channel()
        await cast.alice.do("watch", channel, None)
        await mallory.ask("joinPrivateChannel", channelId=channel, invitationToken=await cast.invite(channel))
        await mallory.ask("addContextListenerRequest", channelId=channel, contextType=None)
        await cast.alice.hears(["*", opened(None)])

        key = hall.market.here("key", "rotate", hall.mallory.handle)["api_key"]
        hall.market.secrets.add(key)
        hall.mallory.api_key = key
        await mallory.socket.wait_closed()
        await cast.alice.hears(["*", unsubscribed(None)], ["*", GONE])
