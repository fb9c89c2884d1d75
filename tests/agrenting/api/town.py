"""A town in which Alice's client stands in every relation to somebody, to be found or not.

Alice and Dave are of Acme, Bob and Frida of nothing, Olga operates. Every agent is listed with the tag `words`, unless
its name says otherwise.
"""

from typing import Any

from agrenting.db import contacts, states
from channels.agents import Agent
from channels.contacts import Party, Tie
from tests.agrenting.api.friends import ADD, BLOCK, RESPOND
from tests.agrenting.api.market import Caller, Marketplace

AGENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "client": ("alice", {}),
    "sibling": ("alice", {}),
    "shared": ("dave", {"organisation": "Acme"}),
    "personal": ("dave", {}),
    "listed": ("bob", {}),
    "untagged": ("bob", {"tags": []}),
    "unlisted": ("bob", {"is_listed": False}),
    "everybodys": ("bob", {"is_global": True}),
    "unlisted-everybodys": ("bob", {"is_global": True, "is_listed": False}),
    "friend": ("bob", {}),
    "unlisted-friend": ("bob", {"is_listed": False}),
    "blocker": ("bob", {}),
    "blocked": ("bob", {}),
    "blocking-sibling": ("alice", {}),
    "blocking-everybodys": ("bob", {"is_global": True}),
    "blocked-shared": ("dave", {"organisation": "Acme"}),
    "draft": ("alice", {"status": "draft"}),
    "inactive": ("alice", {"status": "inactive"}),
    "suspended": ("bob", {"is_global": True}),
    "banned": ("bob", {"is_global": True}),
}
"""Name → owner, and what is not as with the others."""


class Town:
    """Its people and agents, by name."""

    def __init__(self, market: Marketplace, olga: Caller) -> None:
        self.market = market
        self.olga = olga
        self.users: dict[str, Caller] = {}
        self.agents: dict[str, Caller] = {}
        self.ids: dict[str, str] = {}

    def __getitem__(self, name: str) -> Caller:
        return self.users.get(name) or self.agents[name]

    async def register(self, name: str, owner: str, **changed: Any) -> None:
        """A new agent, as an operator registers it."""
        draft = {"name": name, "description": f"Of {owner}", "tags": ["words"], "owner": owner, **changed}
        made = await self.olga.post("/agents", draft)
        self.agents[name], self.ids[name] = self.market.with_key(made["api_key"]), made["id"]

    def handle(self, name: str) -> str:
        """Of a user or an agent."""
        return name if name in self.users else f"{AGENTS[name][0]}/{name}"

    async def befriend(self, asker: str, answerer: str, *, scope: dict[str, Any] | None = None) -> None:
        """An agent asks another agent, or a user, and that approves."""
        made = await self.agents[asker].post(ADD, {"handle": self.handle(answerer)})
        body = {} if scope is None else {"scope": scope}
        if answerer in self.users:
            await self.users[answerer].post(f"/me/contacts/requests/{made['id']}/approve", body)
        else:
            await self.agents[answerer].post(RESPOND, {"action": "approve", "request_id": made["id"], **body})

    async def parties(self) -> dict[str, Party]:
        """Every user and agent, as relations take them."""

        def look(tx: Any) -> dict[str, Party]:
            found = {name: contacts.entity(tx, id_) for name, id_ in self.ids.items()}
            return {name: entity.party for name, entity in found.items() if entity is not None}

        return await self.market.server.database.read(look)

    async def tie(self, a: str, b: str) -> Tie:
        """That of a towards b."""
        now = self.market.clock()
        return await self.market.server.database.read(lambda tx: contacts.tie(tx, self.ids[a], self.ids[b], now=now))

    async def agent(self, name: str) -> Agent:
        """An agent as it is kept."""
        kept: Agent = await self.market.server.database.read(lambda tx: states.load(tx, "agent", self.ids[name]))
        return kept


async def town(market: Marketplace) -> Town:
    """The whole town."""
    olga = await market.user("olga", is_operator=True)
    await olga.post("/admin/organisations", {"name": "Acme"})
    made = Town(market, olga)
    for name, organisation in (("alice", "Acme"), ("dave", "Acme"), ("bob", None), ("frida", None)):
        made.users[name] = await market.user(name, organisation=organisation)
        made.ids[name] = made.users[name].headers["x-user-id"]
    for name, (owner, changed) in AGENTS.items():
        await made.register(name, owner, **changed)
    for answerer in ("friend", "unlisted-friend", "frida", "shared"):
        await made.befriend("client", answerer)
    for blocker in ("blocker", "blocking-sibling", "blocking-everybodys"):
        await made.agents[blocker].post(BLOCK, {"handle": "alice/client"})
    for blocked in ("blocked", "blocked-shared"):
        await made.agents["client"].post(BLOCK, {"handle": made.handle(blocked)})
    for action in ("suspend", "ban"):
        name = {"suspend": "suspended", "ban": "banned"}[action]
        await olga.post(f"/admin/agents/{made.ids[name]}/{action}")
    return made
