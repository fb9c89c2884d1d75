"""The unmodified `phoenix-channels-python-client` from PyPI streams a task, and goes on after the server was killed.

It joins without parameters, and its frames are text: so it gets base64 for what others send in binary frames, and after
a reconnection asks REST for the chunks that it missed.
"""

import asyncio
import base64
from typing import Any

import httpx
import pytest
from phoenix_channels_python_client.client import PHXChannelsClient
from phoenix_channels_python_client.client_types import ReconnectPolicy
from phoenix_channels_python_client.phx_messages import ChannelMessage

from tests.system.halls import Hall, OpenTask, open_task
from tests.system.harness import AgentAccount, MarketProcess
from tests.system.streaming import digests_of
from tests.system.test_phoenix_python import V1, V2, WITHIN_S, connect, push
from tests.system.translating import checksum

COUNT, KILLED_AT, ANSWERED = 240, 150, 90
INPUT = [f"word {seq} ü ".encode() for seq in range(COUNT)]
OUTPUT = [chunk.decode().upper().encode() for chunk in INPUT]
FAST = ReconnectPolicy(base_delay_s=0.05, max_delay_s=0.2, rapid_first_min_delay_s=0.05, rapid_second_min_delay_s=0.05)


class Provider:
    """Bob: hears the input live, and asks for what he missed; sends the output.

    Args:
        market: The server.
        account: His.
        task_id: The task.
    """

    def __init__(self, market: MarketProcess, account: AgentAccount, task_id: str) -> None:
        self.market = market
        self.topic = f"task:{task_id}"
        self.path = f"/api/v1/tasks/{task_id}"
        self.key = account.api_key
        self.client: PHXChannelsClient
        self.chunks: dict[int, bytes] = {}
        self.live: list[int] = []
        self.encodings: set[str] = set()
        self.replies: dict[str, dict[str, Any]] = {}
        self.news = asyncio.Condition()

    async def callback(self, message: ChannelMessage) -> None:
        """Take a message of the topic."""
        async with self.news:
            if str(message.event) == "phx_reply" and message.ref is not None:
                self.replies[message.ref] = message.payload
            elif str(message.event) == "input_stream":
                self.live.append(message.payload["seq"])
                self._keep(message.payload)
            self.news.notify_all()

    def _keep(self, payload: dict[str, Any]) -> None:
        text, encoding = payload["chunk"], payload["encoding"]
        self.encodings.add(encoding)
        chunk = text.encode() if encoding == "utf8" else base64.b64decode(text, validate=True)
        assert self.chunks.setdefault(payload["seq"], chunk) == chunk

    async def until_has(self, count: int) -> None:
        """Wait until every chunk before one is here."""
        async with asyncio.timeout(WITHIN_S), self.news:
            await self.news.wait_for(lambda: all(seq in self.chunks for seq in range(count)))

    async def catch_up(self) -> None:
        """Ask for what is stored from the first missing chunk on."""
        first: int | None = next(seq for seq in range(COUNT + 1) if seq not in self.chunks)
        async with httpx.AsyncClient(
            base_url=self.market.url, headers={"x-api-key": self.key}, timeout=WITHIN_S
        ) as rest:
            while first is not None:
                answer = await rest.get(
                    f"{self.path}/chunks", params={"direction": "input", "from": first, "limit": 20}
                )
                assert answer.is_success, answer.text
                async with self.news:
                    for payload in answer.json()["data"]:
                        self._keep(payload)
                    self.news.notify_all()
                after = answer.json()["metadata"]["next_cursor"]
                first = None if after is None else int(after)

    async def state(self) -> dict[str, Any]:
        """The task."""
        async with httpx.AsyncClient(
            base_url=self.market.url, headers={"x-api-key": self.key}, timeout=WITHIN_S
        ) as rest:
            task: dict[str, Any] = (await rest.get(self.path)).json()["data"]
            return task

    async def push(self, event: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Push, and the whole answer."""
        ref = f"{event}-{len(self.replies)}"
        await push(self.client, self.topic, event, payload, ref)
        async with asyncio.timeout(WITHIN_S), self.news:
            await self.news.wait_for(lambda: ref in self.replies)
        return self.replies[ref]

    async def answer(self, first: int, last: int) -> None:
        """Send chunks of the output."""
        for seq in range(first, last):
            form = "base64" if seq % 2 else "utf8"
            text = OUTPUT[seq].decode() if form == "utf8" else base64.b64encode(OUTPUT[seq]).decode()
            reply = await self.push("output_stream", {"seq": seq, "chunk": text, "encoding": form})
            assert reply["status"] == "ok", reply
            assert reply["response"]["digest"] == digests_of(OUTPUT[: seq + 1])[-1]


async def send(task: OpenTask, first: int, last: int) -> None:
    """Alice's client sends chunks; every third in a binary frame."""
    for seq in range(first, last):
        if seq % 3 == 2:
            await task.send_binary(task.alice, "input_stream", seq.to_bytes(8, "big") + INPUT[seq])
        else:
            await task.send("input", [INPUT[seq]], first=seq)


@pytest.mark.parametrize("version", [V2, V1])
async def test_the_pypi_client_streams_and_goes_on_after_the_server_was_killed(
    market: MarketProcess, version: Any
) -> None:
    client, provider = market.pair()
    hall, back, port = Hall(market, client, provider), asyncio.Event(), market.url.rpartition(":")[2]

    async def reconnected() -> None:
        back.set()

    async with market.client(client.api_key) as alice:
        await alice.join("agents:discovery")
        fields = await open_task(alice, provider)
    bob = Provider(market, provider, fields["task_id"])
    async with connect(
        market, provider.api_key, version, on_reconnect=reconnected, reconnect_policy=FAST
    ) as bob.client:
        await bob.client.subscribe_to_topic(bob.topic, bob.callback)
        async with market.client(client.api_key) as alice:
            await alice.join(bob.topic)
            await send(OpenTask(hall, fields, alice, alice), 0, KILLED_AT)
            await bob.until_has(KILLED_AT)
            await bob.answer(0, ANSWERED)
            market.kill()
        market.start(port)
        async with market.client(client.api_key) as alice:
            state = await alice.join(bob.topic, {"output_from": 0})
            assert state["streams"]["input"]["next_seq"] == KILLED_AT
            assert state["streams"]["output"]["next_seq"] == ANSWERED
            sending = asyncio.create_task(send(OpenTask(hall, fields, alice, alice), KILLED_AT, COUNT))
            await asyncio.wait_for(back.wait(), WITHIN_S)
            await bob.catch_up()
            await sending
            await bob.until_has(COUNT)
            assert b"".join(bob.chunks[seq] for seq in range(COUNT)) == b"".join(INPUT)
            assert bob.live == sorted(set(bob.live)), "live chunks come once and in order"
            assert bob.encodings == {"utf8", "base64"}

            await bob.answer((await bob.state())["streams"]["output"]["next_seq"], COUNT)
            refused = await bob.push("input_stream", {"seq": COUNT, "chunk": "x"})
            assert (refused["status"], refused["response"]["reason"]) == ("error", "forbidden_role")
            assert (await bob.push("output_complete", checksum(OUTPUT)))["response"]["verified"] is True
            assert (await bob.push("complete", {"result": None}))["response"]["status"] == "completed"
            assert (await alice.expect("task_completed"))["task"]["streams"]["output"]["digest"] == digests_of(OUTPUT)[
                -1
            ]
            outputs = [payload for _, event, payload in alice.inbox if event == "output_stream"]
            assert [payload["seq"] for payload in outputs] == list(range(COUNT))
            assert [payload.get("replay", False) for payload in outputs] == [seq < ANSWERED for seq in range(COUNT)]
