"""The unmodified `phoenix-channels-python-client` from PyPI pays over a payment channel, in V2 and V1."""

from typing import Any

import pytest
from phoenix_channels_python_client.client import PHXChannelsClient

from tests import paying
from tests.system.harness import MarketProcess
from tests.system.payers import PURSE, Payers, topic_of
from tests.system.test_phoenix_python import V1, V2, Heard, connect, push


class Party:
    """One side: its client, and what it hears of the channel."""

    def __init__(self, client: PHXChannelsClient, topic: str) -> None:
        self.client = client
        self.topic = topic
        self.heard = Heard()
        self._count = 0

    async def join(self) -> None:
        await self.client.subscribe_to_topic(self.topic, self.heard.callback)

    async def push(self, event: str, payload: dict[str, Any]) -> dict[str, Any]:
        """The whole answer: status and response. What comes before it is broadcast to both, and not looked at."""
        self._count += 1
        ref = f"{event}-{self._count}"
        await push(self.client, self.topic, event, payload, ref)
        return await self.heard.expect("phx_reply", ref)


@pytest.mark.parametrize("version", [V2, V1])
async def test_the_pypi_client_pays_and_is_paid(market: MarketProcess, version: Any) -> None:
    async with Payers(market) as pair:
        channel = await pair.open_channel(deposit=1_000, counter=0)
        topic = topic_of(channel)
        async with (
            connect(market, pair.alice.api_key, version) as first,
            connect(market, pair.bob.api_key, version) as second,
        ):
            alice, bob = Party(first, topic), Party(second, topic)
            await alice.join()
            await bob.join()

            now = channel
            for payer, payee, (who, whom), amount in [
                (alice, bob, (pair.alice, pair.bob), 700),
                (bob, alice, (pair.bob, pair.alice), 200),
            ]:
                proposed = await payer.push("propose_transfer", pair.proposal(now, who, amount))
                assert proposed["status"] == "ok"
                relayed = await payee.heard.expect("propose_transfer")
                answer = paying.acknowledgement(now, whom.seed, relayed)
                await push(payee.client, topic, "acknowledge_transfer", answer, f"ack-{amount}")
                complete = [await party.heard.expect("transfer_complete") for party in (payer, payee)]
                assert complete[0] == complete[1]
                assert complete[0].items() >= {"nonce": relayed["nonce"], "amount": amount}.items()
                done = await payee.heard.expect("phx_reply", f"ack-{amount}")
                now = done["response"]
            assert (now["balance_a"], now["balance_b"], now["last_nonce"]) == (500, 500, 2)

            refused = await alice.push("propose_transfer", pair.proposal(channel, pair.alice, 1))
            assert refused["status"] == "error"
            assert refused["response"].items() >= {"reason": "nonce_replayed", "expected_nonce": 3}.items()

            await push(second, topic, "close", pair.closing(now), "close")
            closed = [await party.heard.expect("channel_closed") for party in (alice, bob)]
            assert closed[0] == closed[1]
            assert (closed[0]["cause"], closed[0]["final_balance_a"]) == ("joint_close", 500)
            assert (await bob.heard.expect("phx_reply", "close"))["response"]["status"] == "closed"
        assert await pair.purses() == (PURSE - 500, PURSE + 500)
