"""Band's own runtime, unmodified: it starts, listens and answers as its contact strategy says."""

import asyncio
from typing import Any

import pytest

from tests.system.band import (
    ADDED,
    RECEIVED,
    REMOVED,
    UPDATED,
    AgentAlreadyRunningError,
    BandLink,
    ConflictPolicy,
    ContactEventConfig,
    ContactEventStrategy,
    ContactTools,
    Player,
    Stage,
    aclose_rest_client,
)
from tests.system.harness import MarketProcess

WITHIN_S = 30
REFUSALS = ("Connection failed", "Initial WebSocket connection permanently failed")
"""What the client underneath says of a connection that it is refused."""
EXPECTED_COMPLAINTS = REFUSALS


def joined(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The topics that the runtime has joined, in order, as it logs them."""
    prefix = "[WebSocket] Subscribed to topic: "
    return [text.removeprefix(prefix) for text in caplog.messages if text.startswith(prefix)]


class Callback:
    """A callback that approves some and rejects the rest, and keeps what it is called with."""

    def __init__(self, *approved: Player) -> None:
        self._approved = {player.handle for player in approved}
        self._called: asyncio.Queue[tuple[str, Any, ContactTools]] = asyncio.Queue()

    async def __call__(self, event: Any, tools: ContactTools) -> None:
        """Answer a request; whatever it is, keep it."""
        if event.type == RECEIVED:
            action = "approve" if event.payload.from_handle in self._approved else "reject"
            await tools.respond_contact_request(action, request_id=event.payload.id)
        await self._called.put((event.type, event.payload, tools))

    async def next(self, event: str) -> tuple[Any, ContactTools]:
        """The next call, which is with such an event."""
        async with asyncio.timeout(WITHIN_S):
            name, payload, tools = await self._called.get()
        assert name == event, f"{name} came before {event}: {payload}"
        return payload, tools

    @property
    def config(self) -> ContactEventConfig:
        return ContactEventConfig(strategy=ContactEventStrategy.CALLBACK, on_event=self)


async def test_disabled_leaves_requests_pending_and_never_listens(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob, mallory = stage.agent("alice"), stage.agent("bob", called="Bob"), stage.agent("mallory")
    running = await stage.run(bob)
    of_alice = await stage.listen(alice)

    asked, refused = await alice.ask(bob), await mallory.ask(bob)

    assert (running.agent_name, running.agent_description) == ("Bob", "Bob of bob")
    assert running.is_running
    assert not running.is_contacts_subscribed
    assert joined(caplog) == [f"agent_control:{bob.id}", f"agent_rooms:{bob.id}", f"agent_contacts:{alice.id}"]
    assert {row.id for row in await bob.received()} == {asked.id, refused.id}

    # Its owner answers the one, the agent's key by REST the other.
    await bob.owner.my_contacts.approve_contact_request(asked.id)
    rest = running.runtime.link.rest
    await rest.agent_api_contacts.respond_to_agent_contact_request(action="reject", request_id=refused.id)

    assert (await of_alice.next(UPDATED)).status == "approved"
    assert (await of_alice.next(ADDED)).handle == bob.handle
    assert set(await bob.friends()) == {alice.handle}
    assert (await alice.friends())[bob.handle].online is True


async def test_callback_approves_one_and_rejects_another_and_both_are_told(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob, mallory = stage.agent("alice", called="Alice"), stage.agent("bob"), stage.agent("mallory")
    callback = Callback(alice)
    running = await stage.run(bob, callback.config)
    assert running.is_contacts_subscribed
    assert joined(caplog) == [f"{kind}:{bob.id}" for kind in ("agent_control", "agent_rooms", "agent_contacts")]
    of_alice, of_mallory = await stage.listen(alice), await stage.listen(mallory)

    wanted = await alice.ask(bob, "We translate")
    received, _tools = await callback.next(RECEIVED)
    approved, _tools = await callback.next(UPDATED)
    added, tools = await callback.next(ADDED)
    unwanted = await mallory.ask(bob)
    second, _tools = await callback.next(RECEIVED)
    rejected, _tools = await callback.next(UPDATED)

    assert (received.id, received.from_name, received.message) == (wanted.id, "Alice", "We translate")
    assert (approved.id, approved.status) == (wanted.id, "approved")
    assert added.handle == alice.handle
    assert (second.id, rejected.id, rejected.status) == (unwanted.id, unwanted.id, "rejected")
    assert (await of_alice.next(UPDATED)).status == "approved"
    assert (await of_alice.next(ADDED)).handle == bob.handle
    updated = await of_mallory.next(UPDATED)
    assert (updated.id, updated.status) == (unwanted.id, "rejected")
    listed = await tools.list_contacts()
    assert {row["handle"] for row in listed["contacts"]} == {alice.handle, bob.owner.handle}
    assert [*await bob.received(), *await mallory.friends()] == []


async def test_a_callback_hears_of_its_own_requests_and_of_every_new_contact_with_the_same_one(stage: Stage) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    callback = Callback(alice)
    await stage.run(bob, callback.config)
    records = []

    for _ in range(2):  # The runtime drops what it takes for a repetition: the second time is a contact of its own.
        asked = await bob.ask(alice)
        await alice.answer("approve", asked.id)
        updated, _tools = await callback.next(UPDATED)
        added, tools = await callback.next(ADDED)
        await tools.remove_contact(handle=f"@{alice.handle}")
        removed, _tools = await callback.next(REMOVED)
        assert (updated.id, updated.status) == (asked.id, "approved")
        assert removed.id == added.id
        records.append(added.id)

    assert len(set(records)) == 2
    assert await bob.friends() == {}


async def test_a_callback_that_fails_leaves_the_request_pending(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    called = asyncio.Event()

    async def fail(_event: Any, _tools: ContactTools) -> None:
        called.set()
        raise RuntimeError("a defect of the agent's author")

    await stage.run(bob, ContactEventConfig(strategy=ContactEventStrategy.CALLBACK, on_event=fail))
    asked = await alice.ask(bob)
    await asyncio.wait_for(called.wait(), WITHIN_S)

    assert [row.id for row in await bob.received()] == [asked.id]
    caplog.clear()  # The runtime has complained of that defect, as it should.


async def test_the_sdk_comes_back_after_the_server_was_killed_and_hears_on(
    stage: Stage, market: MarketProcess, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    link = await stage.link(bob)
    await link.subscribe_agent_contacts(bob.id)
    before = await alice.ask(bob)
    first = await asyncio.wait_for(anext(link), WITHIN_S)

    market.kill()
    market.start(port=market.url.rpartition(":")[2])
    reconnected = await asyncio.wait_for(anext(link), WITHIN_S)
    await alice.answer("cancel", before.id)
    second = await asyncio.wait_for(anext(link), WITHIN_S)

    assert [event.type for event in (first, reconnected, second)] == [RECEIVED, "reconnected", UPDATED]
    caplog.clear()  # The SDK has complained of the loss, as it should.


async def test_a_second_runtime_of_one_agent_that_asks_to_be_refused_is_refused(stage: Stage) -> None:
    bob = stage.agent("bob")
    await stage.run(bob)
    second = BandLink(
        bob.id,
        bob.key,
        ws_url=stage.socket_url,
        rest_url=stage.market.url,
        conflict_policy=ConflictPolicy.REJECT,
    )

    with pytest.raises(AgentAlreadyRunningError):
        await second.connect()

    await aclose_rest_client(second.rest)
