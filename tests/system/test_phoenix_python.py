"""The unmodified `phoenix-channels-python-client` from PyPI, in V2 and V1."""

import asyncio
from typing import Any

import pytest
from phoenix_channels_python_client.client import PHXChannelsClient
from phoenix_channels_python_client.client_types import ReconnectPolicy
from phoenix_channels_python_client.exceptions import PHXConnectionError, PHXTopicError
from phoenix_channels_python_client.phx_messages import ChannelMessage, Event, PHXMessage
from phoenix_channels_python_client.protocol_handler import PhoenixChannelsProtocolVersion

from tests.system.harness import MarketProcess

V1, V2 = PhoenixChannelsProtocolVersion.V1, PhoenixChannelsProtocolVersion.V2
WITHIN_S = 30


class Heard:
    """Messages of one topic, as its callback gets them."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[ChannelMessage] = asyncio.Queue()

    async def callback(self, message: ChannelMessage) -> None:
        await self.messages.put(message)

    async def expect(self, event: str, ref: str | None = None) -> dict[str, Any]:
        while True:
            message = await asyncio.wait_for(self.messages.get(), WITHIN_S)
            if str(message.event) == event and (ref is None or message.ref == ref):
                return message.payload


async def push(client: PHXChannelsClient, topic: str, event: str, payload: dict[str, Any], ref: str) -> None:
    """The client has no push of its own: its protocol handler sends one."""
    assert client.connection is not None
    join_ref = client.get_current_subscriptions()[topic].join_ref
    message = PHXMessage(topic=topic, event=Event(event), payload=payload, ref=ref, join_ref=join_ref)
    await client.get_protocol_handler().send_message(client.connection, message)


def connect(market: MarketProcess, key: str, version: PhoenixChannelsProtocolVersion, **options: Any) -> Any:
    address = market.url.replace("http", "ws", 1) + "/socket/websocket"
    return PHXChannelsClient(address, key, protocol_version=version, additional_headers={"x-api-key": key}, **options)


@pytest.mark.parametrize("version", [V2, V1])
async def test_the_pypi_client_joins_pushes_hears_and_leaves(
    market: MarketProcess, version: PhoenixChannelsProtocolVersion
) -> None:
    account, other = market.pair()
    heard, others = Heard(), Heard()
    async with connect(market, account.api_key, version) as client, connect(market, other.api_key, version) as second:
        await client.subscribe_to_topic("room:py", heard.callback)
        state = await heard.expect("presence_state")
        await second.subscribe_to_topic("room:py", others.callback)
        joined: dict[str, Any] = {}
        while not joined.keys() - state.keys():
            joined = (await heard.expect("presence_diff"))["joins"]

        await push(client, "room:py", "echo", {"a": 1}, "ref-1")
        assert await heard.expect("phx_reply", "ref-1") == {"status": "ok", "response": {"a": 1}}
        await push(client, "room:py", "shout", {"b": 2}, "ref-2")
        assert await others.expect("shout") == {"b": 2}
        assert await heard.expect("shout") == {"b": 2}

        await second.unsubscribe_from_topic("room:py")
        leaves: dict[str, Any] = {}
        while not leaves:
            leaves = (await heard.expect("presence_diff"))["leaves"]
        assert leaves.keys() == joined.keys() - state.keys()


@pytest.mark.parametrize("version", [V2, V1])
async def test_the_pypi_client_reconnects_and_rejoins_after_the_server_was_killed(
    market: MarketProcess, version: PhoenixChannelsProtocolVersion
) -> None:
    account, _ = market.pair()
    heard, back = Heard(), asyncio.Event()
    port = market.url.rpartition(":")[2]

    async def reconnected() -> None:
        back.set()

    policy = ReconnectPolicy(
        base_delay_s=0.05, max_delay_s=0.2, rapid_first_min_delay_s=0.05, rapid_second_min_delay_s=0.05
    )
    async with connect(market, account.api_key, version, on_reconnect=reconnected, reconnect_policy=policy) as client:
        await client.subscribe_to_topic("room:py", heard.callback)
        market.kill()
        market.start(port=port)
        await asyncio.wait_for(back.wait(), WITHIN_S)

        await push(client, "room:py", "echo", {"again": True}, "ref-9")
        assert (await heard.expect("phx_reply", "ref-9"))["response"] == {"again": True}


async def test_a_denied_topic_and_a_wrong_key_are_told_to_the_pypi_client(market: MarketProcess) -> None:
    account, _ = market.pair()
    async with connect(market, account.api_key, V2) as client:
        with pytest.raises(PHXTopicError):
            await client.subscribe_to_topic("negotiation:unknown")
    with pytest.raises(PHXConnectionError):
        async with connect(market, "agk_wrong", V2, auto_reconnect=False):
            pass
