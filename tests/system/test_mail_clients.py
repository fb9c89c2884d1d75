"""Mailboxes with clients that others wrote: `phoenix` from npm, `phoenix-channels-python-client` from PyPI."""

import asyncio
from collections.abc import Iterator

import pytest
from phoenix_channels_python_client.client_types import ReconnectPolicy
from phoenix_channels_python_client.protocol_handler import PhoenixChannelsProtocolVersion

from tests.system.harness import ROOT, MarketProcess
from tests.system.mail_halls import NEW_MESSAGE, PATIENCE_S, MailHall, mail_market, payloads
from tests.system.node import steps_of
from tests.system.test_phoenix_python import V1, V2, Heard, connect, push

SCRIPT = ROOT / "tests/system/js/phoenix_mail.mjs"


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    with mail_market(tmp_path_factory.mktemp("clients") / "var") as market:
        yield market


@pytest.fixture
def hall(market: MarketProcess) -> MailHall:
    return MailHall(market)


@pytest.mark.parametrize("vsn", ["2.0.0", "1.0.0"])
async def test_the_npm_client_takes_and_rejects_what_waited_and_the_sender_is_told(
    node: str, hall: MailHall, vsn: str
) -> None:
    async with hall.writer(hall.alice) as alice, hall.writer(hall.bob) as bob:
        first, second, third = [await alice.write({"number": number, "text": "ä🙂"}) for number in range(3)]
        tokens = [(await who.call("POST", "auth/authenticate"))["session_token"] for who in (bob, alice)]
        told = await asyncio.to_thread(
            steps_of, node, SCRIPT, hall.market, tokens, RECEIVER=hall.bob.id, SENDER=hall.alice.id, VSN=vsn
        )

        assert told["joined"] == {"undelivered": 3}
        assert payloads(told["messages"]) == [one["payload"] for one in (first, second, third)]
        assert all(message.keys() == NEW_MESSAGE for message in told["messages"])
        reply = {"message_id": first["id"], "status": "acknowledged"}
        assert told["acknowledged"] == {"ok": reply}
        assert told["again"] == {"ok": {**reply, "duplicate": True}}
        assert told["rejected"]["ok"]["status"] == "rejected"
        assert told["too late"]["error"]["reason"] == "already_rejected"
        assert told["wrong"]["error"]["reason"] == "invalid_payload"
        assert told["updated"] == [
            *([one["id"], "delivered", None] for one in (first, second, third)),
            [first["id"], "acknowledged", None],
            [second["id"], "rejected", "We do not do that."],
        ]
        assert told["done"] is True
        assert [one["id"] for one in await bob.listed("messages")] == [third["id"]]


@pytest.mark.parametrize("version", [V2, V1])
async def test_the_pypi_client_comes_again_by_itself_and_is_given_what_it_has_not_answered(
    hall: MailHall, version: PhoenixChannelsProtocolVersion
) -> None:
    heard, back = Heard(), asyncio.Event()

    async def reconnected() -> None:
        back.set()

    policy = ReconnectPolicy(
        base_delay_s=0.05, max_delay_s=0.2, rapid_first_min_delay_s=0.05, rapid_second_min_delay_s=0.05
    )
    async with hall.writer(hall.alice) as alice:
        written = [await alice.write(number) for number in range(3)]
        async with connect(
            hall.market, hall.bob.api_key, version, on_reconnect=reconnected, reconnect_policy=policy
        ) as client:
            await client.subscribe_to_topic(hall.topic, heard.callback)
            for message in written:
                assert (await heard.expect("new_message"))["id"] == message["id"]
            await push(client, hall.topic, "acknowledge", {"message_id": written[0]["id"]}, "ref-1")
            assert (await heard.expect("phx_reply", "ref-1"))["status"] == "ok"

            hall.market.kill()  # All at once, so that the client finds the server there when it comes again.
            hall.market.start(hall.ground.port)
            await asyncio.wait_for(back.wait(), PATIENCE_S)
            for message in written[1:]:
                assert (await heard.expect("new_message"))["id"] == message["id"]
            live = await alice.write("live")
            assert (await heard.expect("new_message"))["id"] == live["id"]
