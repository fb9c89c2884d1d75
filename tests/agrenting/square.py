"""A square of strangers: Alice and her client, Bob and his worker, and what the client may do.

All of it goes through the real server: REST, and a socket for presence.
"""

import json
from datetime import timedelta
from typing import Any, Final

import msgspec

from agrenting import registry
from agrenting.db import states
from agrenting.membership import join_organisation
from channels.registration import CapabilityDraft
from tests.agrenting.api.market import PRICE, Caller, Marketplace, Player

DISCOVERY: Final = "agents:discovery"
ORGANISATION: Final = "Acme"
BLOCKED: Final = (201, "blocked")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What the client may do about the worker.

    Args:
        found: In `discover`.
        present: In presence.
        named: Its exact handle leads to it, here to block it.
        negotiation, task, request: What opening one, or asking for contact, is answered.
    """

    found: bool
    present: bool
    named: tuple[int, str] = BLOCKED
    negotiation: tuple[int, str]
    task: tuple[int, str]
    request: tuple[int, str]


class Square:
    """Alice and her client, Bob and his worker, and what has happened between them."""

    def __init__(self, market: Marketplace, alice: Caller, bob: Caller, client: Player) -> None:
        self.market = market
        self.alice = alice
        self.bob = bob
        self.client = client
        self.worker = client

    async def engage(self, owner: str = "bob", **draft: Any) -> None:
        """Make the worker."""
        self.worker = await self.agent(owner, "Worker", **draft)

    async def agent(self, owner: str, name: str, *, is_shared: bool = False, **draft: Any) -> Player:
        """An agent with one capability, of a user or shared with the user's organisation."""
        capabilities = (CapabilityDraft(name="translate", price=PRICE),)
        player = await self.market.agent(owner, name, capabilities=capabilities, **draft)
        if is_shared:
            await self.share(player)
        return player

    async def share(self, player: Player) -> None:
        """An agent becomes one of the organisation itself."""

        def change(tx: Any) -> None:
            organisation = registry.require_organisation(tx, ORGANISATION)
            agent = states.load(tx, "agent", player.id)
            states.save(tx, "agent", player.id, msgspec.structs.replace(agent, organisation_id=organisation.id))

        await self.market.server.database.write(change)

    async def join(self, *handles: str) -> None:
        """Make users members of the organisation."""

        def change(tx: Any) -> None:
            now, market = self.market.clock(), self.market.server.engine.market
            for handle in handles:
                organisation = registry.require_organisation(tx, ORGANISATION)
                join_organisation(tx, registry.require_user(tx, handle), organisation, now=now, market=market)

        await self.market.server.database.write(change)

    async def befriend(self, asker: Player, asked: Player, **scope: Any) -> None:
        """The one asks, the other approves."""
        await asker.post("/agent/contacts/add", {"handle": asked.handle})
        body = {"action": "approve", "handle": asker.handle, **({"scope": scope} if scope else {})}
        await asked.post("/agent/contacts/requests/respond", body)

    async def block(self, blocker: Player, blocked: Player, **more: Any) -> None:
        """The one keeps the other away."""
        await blocker.post("/agent/contacts/block", {"handle": blocked.handle, **more})

    def in_a_minute(self) -> str:
        """A moment to come."""
        return (self.market.clock() + timedelta(minutes=1)).isoformat()

    # What the client may do.

    async def row(self, worker: Player | None = None) -> Row:
        """Ask for everything, what changes least first."""
        worker = worker or self.worker
        opened = {"provider_agent_id": worker.id, "capability": "translate"}
        return Row(
            found=worker.handle in [hit["handle"] for hit in await self.client.get("/discover")],
            present=await self.sees(worker),
            negotiation=await self.answer("/negotiations", opened),
            task=await self.answer("/tasks", {**opened, "max_price": PRICE}),
            request=await self.answer("/agent/contacts/add", {"handle": worker.handle}),
            named=await self.answer("/agent/contacts/block", {"handle": worker.handle}),
        )

    async def answer(self, path: str, body: dict[str, Any]) -> tuple[int, str]:
        """The status of an answer, and the status or the reason that stands in it."""
        answer = await self.client.call("POST", path, json=body)
        told = answer.json()
        return answer.status_code, told["error"]["code"] if "error" in told else told["data"].get("status", "blocked")

    async def sees(self, worker: Player) -> bool:
        """Whether the client is shown the worker's presence once both have joined, whoever comes first."""
        shown: list[bool] = []
        for first, second in ((worker, self.client), (self.client, worker)):
            sockets = {}
            for player in (first, second):
                if player.api_key:
                    connection, sockets[player.id] = await self.market.socket(player.api_key)
                    connection.receive(json.dumps(["1", "1", DISCOVERY, "phx_join", {}]))
                    await self.market.server.database.commits.drain()
            told = [message for message in sockets[self.client.id].sent if message[3].startswith("presence_")]
            assert [message[3] for message in told][:1] == ["presence_state"]
            states_told = {id_ for message in told for id_ in (*message[4], *message[4].get("joins", ()))}
            shown.append(worker.id in states_told)
            self.market.server.hub.disconnect(f"agent_socket:{worker.id}")
            self.market.server.hub.disconnect(f"agent_socket:{self.client.id}")
            for left in list(self.market.server.hub.connections):
                left.closed()
            await self.market.server.database.commits.drain()
        assert len(set(shown)) == 1, "who comes first decides nothing"
        return shown[0]
