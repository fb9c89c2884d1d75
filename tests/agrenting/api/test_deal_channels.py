"""A deal's own private channel: both parties enter it without an invitation, and however the deal ends, it ends too."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.agrenting.api.market import PRICE, FakeSocket, Marketplace, Player

Json = dict[str, Any]
End = Callable[[Marketplace, Player, Player, Json], Awaitable[None]]


async def sat_down(market: Marketplace, who: Player, channel_id: str) -> FakeSocket:
    """A socket of an agent in a private channel."""
    connection, socket = await market.socket(who.api_key)
    connection.instance_id = f"program of {who.handle}"
    connection.receive(json.dumps(["1", "1", channel_id, "phx_join", {}]))
    await market.server.engine.drain()
    assert socket.sent[0][3:] == ["phx_reply", socket.sent[0][4]]
    assert socket.sent[0][4]["status"] == "ok", socket.sent
    return socket


async def is_there(who: Player, channel_id: str) -> bool:
    """Whether a channel is there for one of its parties."""
    answer = await who.call("GET", f"/private-channels/{channel_id}")
    assert answer.status_code in {200, 404}
    return answer.status_code == 200


async def negotiation(alice: Player, bob: Player) -> Json:
    opened: Json = await alice.post(
        "/negotiations", {"provider_agent_id": bob.id, "capability": "translate", "private_channel": True}
    )
    return opened


async def task(alice: Player, bob: Player, **fields: Any) -> Json:
    asked = {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE, "private_channel": True}
    body = {name: value for name, value in (asked | fields).items() if value is not None}
    opened: Json = await alice.post("/tasks", body)
    return opened


async def agreed(alice: Player, bob: Player) -> Json:
    """Both offer the same."""
    session = await negotiation(alice, bob)
    path = f"/negotiations/{session['id']}"
    answered = await alice.post(f"{path}/offer", alice.offer(session, PRICE))
    done: Json = await bob.post(f"{path}/offer", bob.offer(answered, PRICE))
    return done


async def is_rejected(market: Marketplace, alice: Player, bob: Player, session: Json) -> None:
    del market, alice
    await bob.post(f"/negotiations/{session['id']}/reject", {"reason": "too busy"})


async def runs_out(market: Marketplace, alice: Player, bob: Player, deal: Json) -> None:
    del alice, bob, deal
    market.clock.advance(days=8)
    await market.server.timers.run_due()


async def bob_is_banned(market: Marketplace, alice: Player, bob: Player, deal: Json) -> None:
    del alice, deal
    olga = await market.user("olga", is_operator=True)
    await olga.post(f"/admin/agents/{bob.id}/ban")


async def is_blocked(market: Marketplace, alice: Player, bob: Player, deal: Json) -> None:
    del market, deal
    await alice.post("/agent/contacts/block", {"handle": bob.handle})


async def is_cancelled(market: Marketplace, alice: Player, bob: Player, deal: Json) -> None:
    del market, bob
    await alice.post(f"/tasks/{deal['id']}/cancel", {})


async def is_completed(market: Marketplace, alice: Player, bob: Player, deal: Json) -> None:
    del market, alice
    await bob.post(f"/tasks/{deal['id']}/complete", {"result": "bonjour"})


async def has_failed(market: Marketplace, alice: Player, bob: Player, deal: Json) -> None:
    del market, alice
    await bob.post(f"/tasks/{deal['id']}/error", {"type": "too_long"})


async def is_disputed_unread(market: Marketplace, alice: Player, bob: Player, deal: Json) -> None:
    """Nothing was delivered: the client has its money back at once."""
    del market
    await bob.post(f"/tasks/{deal['id']}/progress", {"percent": 1})
    await alice.post(f"/tasks/{deal['id']}/dispute", {"reason": "nothing came"})


async def require_over(market: Marketplace, alice: Player, bob: Player, deal: Json, end: End) -> None:
    """What both see of a deal's end in its channel."""
    channel_id = deal["private_channel_id"]
    sockets = [await sat_down(market, who, channel_id) for who in (alice, bob)]
    assert [await is_there(who, channel_id) for who in (alice, bob)] == [True, True]

    await end(market, alice, bob, deal)
    await asyncio.sleep(0)

    assert not await is_there(alice, channel_id)
    for socket in sockets:
        assert socket.events()[-1] == "phx_close" or socket.closed_with is not None, socket.events()


@pytest.mark.parametrize("end", [is_rejected, runs_out, bob_is_banned, is_blocked])
async def test_the_channel_of_a_negotiation_ends_with_it(
    market: Marketplace, alice: Player, bob: Player, end: End
) -> None:
    await require_over(market, alice, bob, await negotiation(alice, bob), end)


@pytest.mark.parametrize("end", [is_cancelled, is_completed, has_failed, is_disputed_unread, runs_out, bob_is_banned])
async def test_the_channel_of_a_task_ends_with_it(market: Marketplace, alice: Player, bob: Player, end: End) -> None:
    await require_over(market, alice, bob, await task(alice, bob), end)


@pytest.mark.parametrize("end", [is_cancelled, is_completed, runs_out])
async def test_an_agreements_channel_goes_on_to_the_task_and_ends_with_that(
    market: Marketplace, alice: Player, bob: Player, end: End
) -> None:
    session = await agreed(alice, bob)
    assert session["status"] == "agreed"
    assert await is_there(bob, session["private_channel_id"])

    hired = await task(alice, bob, max_price=None, negotiation_session_id=session["id"], private_channel=False)

    assert hired["private_channel_id"] == session["private_channel_id"]
    await require_over(market, alice, bob, hired, end)


async def test_an_agreement_that_nobody_uses_takes_its_channel_with_it(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    session = await agreed(alice, bob)
    await sat_down(market, bob, session["private_channel_id"])

    market.clock.advance(days=1)
    await market.server.timers.run_due()

    assert not await is_there(alice, session["private_channel_id"])


async def test_a_party_that_left_comes_back_without_an_invitation(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    channel_id = (await task(alice, bob))["private_channel_id"]
    await sat_down(market, bob, channel_id)
    connection, socket = await market.socket(bob.api_key)
    connection.instance_id = "another program of bob"
    for frame in (["1", "1", channel_id, "phx_join", {}], ["1", "2", channel_id, "phx_leave", {}]):
        connection.receive(json.dumps(frame))
        await market.server.engine.drain()

    connection.receive(json.dumps(["3", "3", channel_id, "phx_join", {}]))
    await market.server.engine.drain()

    replies = [frame[4]["status"] for frame in socket.sent if frame[3] == "phx_reply"]
    assert replies == ["ok", "ok", "ok"]


async def test_somebody_elses_deal_is_nobody_elses_channel(market: Marketplace, alice: Player, bob: Player) -> None:
    channel_id = (await task(alice, bob))["private_channel_id"]
    mallory = await market.agent("bob", "Mallory")

    connection, socket = await market.socket(mallory.api_key)
    connection.receive(json.dumps(["1", "1", channel_id, "phx_join", {}]))
    await market.server.engine.drain()

    assert socket.sent[0][4] == {"status": "error", "response": socket.sent[0][4]["response"]}
    assert socket.sent[0][4]["response"]["reason"] == "AccessDenied"
    assert not await is_there(mallory, channel_id)


async def test_the_owner_may_close_it_before_the_deal_ends(market: Marketplace, alice: Player, bob: Player) -> None:
    deal = await task(alice, bob)
    await alice.call("DELETE", f"/private-channels/{deal['private_channel_id']}")

    await is_completed(market, alice, bob, deal)

    assert (await alice.get(f"/tasks/{deal['id']}"))["status"] == "completed"
    assert not await is_there(alice, deal["private_channel_id"])
