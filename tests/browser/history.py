"""Twelve days of trade, made by the server itself under a clock that is moved: what the views have to show.

Alice's agents hire, Bob's, Carol's, Dave's, Erin's and Frank's work; Olga operates the market. Tasks are completed,
fail, are cancelled and disputed, over two payment channels money moves, messages come and go, and a stranger waits for
an answer. What stands open at the end, the tests go on with.
"""

import asyncio
import hashlib
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from agrenting.db.migrate import migrate
from channels.registration import CapabilityDraft
from tests import paying
from tests.agrenting.api.market import Clock, Marketplace, Player, good, marketplace, settings_of

Json = dict[str, Any]

DAYS: Final = 12
"""Messages can be counted in their table for two weeks."""
DEALS: Final = 120
LATE_DEALS: Final = 36
"""Of these, in the last day."""
LAST_DEALS: Final = 6
"""And of those, in the last hour, all with Bob's translator, so that there is something to see of it."""
DOLLAR: Final = 1_000_000
PURSE: Final = 4_000 * DOLLAR
DEPOSIT: Final = 40 * DOLLAR

CLIENTS: Final = ("alice/reader", "alice/courier", "dave/desk")
PROVIDERS: Final[Mapping[str, tuple[str, int]]] = {
    "bob/translator": ("translate", 4 * DOLLAR),
    "bob/proofreader": ("proofread", 2 * DOLLAR + 250_000),
    "carol/polyglot": ("translate", 5 * DOLLAR + 500_000),
    "carol/digest": ("summarize", DOLLAR + 750_000),
    "dave/lingua": ("translate", 3 * DOLLAR + 120_000),
    "erin/verba": ("translate", 6 * DOLLAR),
    "frank/globe": ("translate", 2 * DOLLAR + 900_000),
}
OFTEN: Final = ("bob/translator", "bob/translator", "bob/translator", "bob/proofreader", *PROVIDERS)
"""Whom the clients draw from: mostly Bob's agents."""
CHUNKS: Final = ("A market is a place ", "where those meet who ", "have something to ", "give each other.")


class Account(NamedTuple):
    """An agent as its author knows it."""

    id: str
    handle: str
    api_key: str
    seed: bytes


class Cast(NamedTuple):
    """Who is in the market, and what stands open there.

    Args:
        folder: The data folder.
        user_keys: API keys of the users, by handle.
        user_ids: Their ids.
        agents: By handle.
        open: Ids: `task` (under way, with streams), `pending`, `disputed`, `session`, `channel`, `closed_channel`,
            `request` (Grace's scout asks Bob's proofreader for contact).
    """

    folder: Path
    user_keys: dict[str, str]
    user_ids: dict[str, str]
    agents: dict[str, Account]
    open: dict[str, str]


def write_history(folder: Path) -> Cast:
    """Make the market in a new data folder."""
    folder.mkdir(parents=True)
    return asyncio.run(_write(folder))


async def _write(folder: Path) -> Cast:
    settings = settings_of(folder)
    migrate(settings.database_path)
    clock = Clock()
    clock.now = datetime.now(UTC) - timedelta(days=DAYS)
    async with marketplace(folder, clock) as market:
        town = Town(market, random.Random(7))
        await town.settle_in()
        await town.trade()
        await town.leave_open()
        return town.cast(folder)


def post_body(body: Json | None) -> Json:
    return {} if body is None else body


class Town:
    """Everybody, at work.

    Args:
        market: The server.
        chance: Draws who hires whom, for how much, and how it ends.
    """

    def __init__(self, market: Marketplace, chance: random.Random) -> None:
        self.market = market
        self.chance = chance
        self.players: dict[str, Player] = {}
        self.user_ids: dict[str, str] = {}
        self.open: dict[str, str] = {}
        self._busy: set[str] = set()

    def cast(self, folder: Path) -> Cast:
        """Who is here, for those who come later."""
        agents = {name: Account(one.id, one.handle, one.api_key, one.seed) for name, one in self.players.items()}
        return Cast(folder, {**self.market.user_keys}, self.user_ids, agents, self.open)

    async def post(self, who: str, path: str, body: Json | None = None) -> Any:
        """An agent's call. Its answers are held against the document elsewhere, which would take most of the time."""
        player = self.players[who]
        answer = await player.http.post(f"/api/v1{path}", json=post_body(body), headers=player.headers)
        return good(answer)["data"]

    async def get(self, who: str, path: str) -> Any:
        """An agent's question."""
        player = self.players[who]
        return good(await player.http.get(f"/api/v1{path}", headers=player.headers))["data"]

    def later(self, seconds: float) -> None:
        """Time goes by."""
        self.market.clock.advance(seconds=seconds)

    # Who is there.

    async def settle_in(self) -> None:
        """Users, agents, money, and the two payment channels."""
        caller = await self.market.user("olga", is_operator=True)
        self.user_ids["olga"] = caller.headers["x-user-id"]
        for handle in ("alice", "bob", "carol", "dave", "erin", "frank", "grace"):
            self.user_ids[handle] = (await self.market.user(handle)).headers["x-user-id"]
        for handle in CLIENTS:
            await self._arrive(handle, deposit=PURSE)
        for handle, (capability, price) in PROVIDERS.items():
            offered = (CapabilityDraft(name=capability, price=price),)
            await self._arrive(handle, capabilities=offered, tags=("words",), is_global=True, deposit=DEPOSIT)
        await self._arrive("grace/scout", deposit=DEPOSIT)
        await self._arrive("erin/idle")

    async def _arrive(self, handle: str, **draft: Any) -> None:
        owner, _, name = handle.partition("/")
        self.players[handle] = await self.market.agent(owner, name.capitalize(), **draft)

    # What they do.

    async def trade(self) -> None:
        """Deals by day more than by night, the last of them within the hour; in between, transfers and messages."""
        now, moments = self.market.clock.now, self._moments()
        kept = await self._open_channel("alice/reader", "bob/translator")
        spent = await self._open_channel("dave/desk", "bob/translator")
        for number, moment in enumerate(moments):
            self.market.clock.now = max(self.market.clock.now, moment)
            is_last = number >= DEALS - LAST_DEALS
            await self._deal(self.chance.choice(CLIENTS), OFTEN[0] if is_last else self.chance.choice(OFTEN))
            if number % 3 == 0:
                await self._pay(kept, "alice/reader", "bob/translator", self.chance.randrange(10, 90) * 10_000)
            if number % 9 == 0:
                await self._pay(spent, "dave/desk", "bob/translator", DOLLAR)
            if number % 5 == 0:
                await self._write_to("bob/translator", "bob/proofreader")
            for reader in {"bob/proofreader", *self._busy}:
                await self._read_mail(reader)
            self._busy.clear()
        assert self.market.clock.now <= now + timedelta(days=DAYS), "the history has run into the present"
        closing = await self.get("dave/desk", f"/payment-channels/{spent}")
        seeds = self.players["dave/desk"].seed, self.players["bob/translator"].seed
        await self.post("dave/desk", f"/payment-channels/{spent}/close", paying.close(closing, *seeds))
        self.open.update(channel=kept, closed_channel=spent)
        for reader in self.players:
            await self._read_mail(reader)

    def _moments(self) -> list[datetime]:
        start = self.market.clock.now
        moments: list[datetime] = []
        # How often is drawn depends on the time of day, so by a chance of its own: who deals with whom must not.
        times = random.Random(8)
        while len(moments) < DEALS - LATE_DEALS:
            moment = start + timedelta(seconds=times.uniform(600, (DAYS - 1) * 86_400))
            if times.random() < (1.0 if 8 <= moment.hour < 18 else 0.25):
                moments.append(moment)
        end = start + timedelta(days=DAYS)
        ago_min = [self.chance.triangular(60, 1_380, 240) for _ in range(LATE_DEALS - LAST_DEALS)]
        ago_min += [self.chance.uniform(25, 50) for _ in range(LAST_DEALS)]
        return sorted([*moments, *(end - timedelta(minutes=minutes) for minutes in ago_min)])

    async def _deal(self, client: str, provider: str) -> None:
        if client.partition("/")[0] == provider.partition("/")[0]:
            provider = "erin/verba"
        self._busy = {client, provider}
        capability, price = PROVIDERS[provider]
        order: Json = {"provider_agent_id": self.players[provider].id, "capability": capability, "hold_seconds": 0}
        if self.chance.random() < 0.4:
            session = await self._bargain(client, provider, price)
            if session is None:
                return
            order["negotiation_session_id"] = session
        else:
            order["max_price"] = price
        task = await self.post(client, "/tasks", order)
        self.later(self.chance.uniform(1, 4))
        await self._work(client, provider, f"/tasks/{task['id']}")

    async def _bargain(self, client: str, provider: str, price: int) -> str | None:
        wanted = {"provider_agent_id": self.players[provider].id, "capability": PROVIDERS[provider][0]}
        session = await self.post(client, "/negotiations", wanted)
        path = f"/negotiations/{session['id']}"
        bid = price * self.chance.randrange(80, 100) // 100
        session = await self.post(client, f"{path}/offer", self.players[client].offer(session, bid))
        self.later(1)
        if self.chance.random() < 0.12:
            await self.post(provider, f"{path}/reject", {"reason": "too low"})
            return None
        session = await self.post(provider, f"{path}/offer", self.players[provider].offer(session, price))
        self.later(1)
        await self.post(client, f"{path}/accept", self.players[client].acceptance(session))
        id_: str = session["id"]
        return id_

    async def _work(self, client: str, provider: str, path: str) -> None:
        ending = self.chance.random()
        if ending < 0.06:
            await self.post(client, f"{path}/cancel", {"reason": "changed my mind"})
            return
        await self.post(provider, f"{path}/progress", {"percent": 10, "message": "started"})
        self.later(self.chance.lognormvariate(2.3, 0.8))
        if ending < (0.6 if provider == "dave/lingua" else 0.12):
            await self.post(provider, f"{path}/error", {"type": "timeout", "details": "The model was away."})
        else:
            await self.post(provider, f"{path}/complete", {"result": {"words": 250}})

    async def _open_channel(self, opener: str, counterparty: str) -> str:
        terms = {"counterparty_agent_id": self.players[counterparty].id, "deposit": DEPOSIT}
        channel = await self.post(opener, "/payment-channels", terms)
        await self.post(counterparty, f"/payment-channels/{channel['id']}/accept", {"deposit": 0})
        id_: str = channel["id"]
        return id_

    async def _pay(self, channel_id: str, payer: str, payee: str, amount: int) -> None:
        path = f"/payment-channels/{channel_id}"
        fresh = await self.get(payer, path)
        sender, receiver = self.players[payer], self.players[payee]
        body = paying.proposal(fresh, sender.seed, from_agent_id=sender.id, amount=amount)
        proposed = await self.post(payer, f"{path}/propose_transfer", body)
        acknowledged = paying.acknowledgement(proposed, receiver.seed, proposed["pending_proposal"])
        await self.post(payee, f"{path}/acknowledge_transfer", acknowledged)

    async def _write_to(self, sender: str, receiver: str) -> None:
        letter = {
            "to_agent_id": self.players[receiver].id,
            "type": "x_note",
            "payload": {"text": "Please look over it."},
        }
        await self.post(sender, "/messages", letter)

    async def _read_mail(self, reader: str) -> None:
        """What is not acknowledged expires, and is told to owners as an alert."""
        for letter in await self.get(reader, "/messages?limit=100"):
            await self.post(reader, f"/messages/{letter['id']}/acknowledge")

    # What stands open at the end.

    async def leave_open(self) -> None:
        """A task under way, one that waits, one in dispute, a negotiation, a stranger's request."""
        await self._leave_task_under_way()
        self.open["pending"] = (await self._hire("alice/courier", "bob/translator"))["id"]
        disputed = (await self._hire("alice/courier", "bob/proofreader"))["id"]
        await self.post("bob/proofreader", f"/tasks/{disputed}/complete", {"result": {"text": "Ein Markt"}})
        await self.post("alice/courier", f"/tasks/{disputed}/dispute", {"reason": "The wrong language."})
        wanted = {"provider_agent_id": self.players["bob/translator"].id, "capability": "translate"}
        session = await self.post("alice/reader", "/negotiations", wanted)
        offer = self.players["alice/reader"].offer(session, 3 * DOLLAR)
        await self.post("alice/reader", f"/negotiations/{session['id']}/offer", offer)
        asked = {"handle": "bob/proofreader", "message": "May I send you my reports?"}
        request = await self.post("grace/scout", "/agent/contacts/add", asked)
        self.open.update(disputed=disputed, session=session["id"], request=request["id"])

    async def _leave_task_under_way(self) -> None:
        task = await self._hire("alice/reader", "bob/translator", input={"text": "Translate what I stream."})
        path = f"/tasks/{task['id']}"
        for seq, chunk in enumerate(CHUNKS):
            await self.post("alice/reader", f"{path}/input_stream", {"chunk": chunk, "seq": seq})
        whole = "".join(CHUNKS).encode()
        checksum = {"checksum": hashlib.sha256(whole).hexdigest(), "total_size": len(whole)}
        await self.post("alice/reader", f"{path}/input_complete", checksum)
        await self.post("bob/translator", f"{path}/progress", {"percent": 25, "message": "one of four"})
        await self.post("bob/translator", f"{path}/output_stream", {"chunk": "Ein Markt ist ein Ort, ", "seq": 0})
        self.open["task"] = task["id"]

    async def _hire(self, client: str, provider: str, **fields: Any) -> Json:
        capability, price = PROVIDERS[provider]
        order = {
            "provider_agent_id": self.players[provider].id,
            "capability": capability,
            "max_price": price,
            "deadline": None,
            **fields,
        }
        task: Json = await self.post(client, "/tasks", {name: one for name, one in order.items() if one is not None})
        return task
