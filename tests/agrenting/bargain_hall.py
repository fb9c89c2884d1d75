"""A negotiation at the market's own rules, in memory: topics that lose things where a test wants it, and may lie."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import msgspec

from agrenting.client.amounts import parse_amount
from agrenting.client.errors import NoAnswer, RefusedByServer
from agrenting.client.kept_topic import JOINED
from agrenting.client.signer import Signer
from channels.errors import Refusal
from channels.handlers import Empty
from channels.negotiation import HANDLERS, JOIN, NegotiationSession
from channels.told import Audience
from tests.channels.bargain import act, opened
from tests.channels.roles import ALICE, BOB, MARKET, Player, as_told, broadcasts_of, context

SOON_S: Final = 30.0
Lie = Callable[[dict[str, Any]], dict[str, Any]]


class Hall:
    """One session, and the two who sit in it.

    Attributes:
        lie: What is told of the session in replies and joins, in place of the truth.
        pushed: Everything that came, by whom.
    """

    def __init__(self) -> None:
        self.session: NegotiationSession = opened()
        self.seats: dict[str, list[Seat]] = {ALICE.id: [], BOB.id: []}
        self.pushed: list[tuple[str, str, dict[str, Any]]] = []
        self.lie: Lie = lambda told: told
        self._moved = asyncio.Event()

    @property
    def amounts(self) -> list[int]:
        return [offer.amount for offer in self.session.offers]

    async def until_offers(self, count: int) -> None:
        """Wait until so many offers have been made."""
        while len(self.session.offers) < count:
            self._moved.clear()
            await self._moved.wait()

    def told(self, who: Player) -> dict[str, Any]:
        """The session as a join tells it."""
        decision = JOIN.decide(self.session, Empty(), context(who))
        told: dict[str, Any] = as_told(decision.reply)
        return self.lie(told)

    def act(self, who: Player, event: str, payload: dict[str, Any]) -> dict[str, Any]:
        """An event, decided by the rules, and told to those it is for.

        Raises:
            RefusedByServer: It is refused.
        """
        self.pushed.append((who.id, event, payload))
        request = msgspec.convert(payload, HANDLERS[event].request)
        try:
            decision = act(self.session, event, request, who)
        except Refusal as refusal:
            raise RefusedByServer(refusal.reason, refusal.message, dict(refusal.context)) from refusal
        if isinstance(decision.state, NegotiationSession):
            self.session = decision.state
            self._moved.set()
        for broadcast in broadcasts_of(decision):
            for agent_id, seats in self.seats.items():
                if agent_id != who.id or broadcast.audience is Audience.ALL:
                    for seat in seats:
                        seat.events.put_nowait((broadcast.event, as_told(broadcast.payload)))
        return self.lie(as_told(decision.reply))

    def context(self, who: Player) -> Any:
        """What bargaining needs of an open agent."""
        signer = Signer(who.secret_key, MARKET.signing_domain)
        return SimpleNamespace(
            me=SimpleNamespace(id=who.id),
            connection=(self, who),
            require_signer=lambda: signer,
            amount=lambda value: parse_amount(value, MARKET.exponent),
        )


class Seat:
    """A topic of the session, in place of `KeptTopic`.

    Attributes:
        loses: How many replies are lost on their way; then what was pushed is pushed again, after a new join.
    """

    loses = 0

    def __init__(self, connection: tuple[Hall, Player], name: str) -> None:
        self.hall, self.who = connection
        assert name == f"negotiation:{self.hall.session.id}"
        self.events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.is_left = False

    async def join(self) -> dict[str, Any]:
        if self not in self.hall.seats[self.who.id]:
            self.hall.seats[self.who.id].append(self)
        return self.hall.told(self.who)

    async def next_event(self, timeout_s: float | None = None) -> tuple[str, Any]:
        try:
            async with asyncio.timeout(timeout_s):
                return await self.events.get()
        except TimeoutError:
            raise NoAnswer("nothing came") from None

    async def push(self, event: str, payload: dict[str, Any]) -> dict[str, Any]:
        reply = self.hall.act(self.who, event, payload)
        if type(self).loses:
            type(self).loses -= 1
            self.events = asyncio.Queue()  # What came to the old connection is gone with it.
            self.events.put_nowait((JOINED, self.hall.told(self.who)))
            return await self.push(event, payload)
        return reply

    async def leave(self) -> None:
        self.is_left = True
        self.hall.seats[self.who.id].remove(self)
