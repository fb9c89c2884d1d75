"""One negotiation, played by a strategy from its opening to its end, over losses.

Two guards stand before every signature. `Signer` computes anew whatever the market told of the session: its digest, all
offers with their signatures, the midpoint. And each move is held against the limit, whatever the strategy says.
"""

import copy
import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .asking import converted
from .errors import BeyondLimit, NoAnswer, RefusedByServer, RolledBack, WrongAnswer, telling
from .kept_topic import JOINED, KeptTopic
from .negotiation import negotiation_after
from .sessions import require_continued
from .strategies import Accept, Move, Offer, Reject, Side, Strategy, Turn

if TYPE_CHECKING:
    from .context import AgentContext

Terms = Callable[[dict[str, Any]], bool]
"""Says whether terms that a client has put into a session are agreed to: with `True` alone."""

OPENS_AFTER_S: Final = 30.0
"""How long a provider waits for the client to open; then it makes the first offer itself."""

AFTERWARDS: Final = frozenset(("offer", "negotiation_complete", "reject", "negotiation_expired"))
"""Events that tell how the session is after them."""

OVERTAKEN: Final = frozenset(("stale_state", "not_your_turn"))
"""Refusals of an offer that the other side was quicker than: its offer comes, or has come."""

OVER: Final = frozenset(("terminal_state", "expired"))
"""Refusals of whatever comes after the session's end: joining tells how it ended."""

_LOG = logging.getLogger(__name__)


class ToldSession(msgspec.Struct, frozen=True, kw_only=True):
    """What of a session a turn is made of, as the server tells it, and the signer has not to check."""

    id: str
    client_agent_id: str
    provider_agent_id: str
    capability: str
    base_max: int
    max_offer: int
    max_rounds: int
    max_price: int | None
    exponent: int
    status: str
    turn: str | None
    created_at: datetime
    expires_at: datetime

    @property
    def lasts_s(self) -> float:
        """How long the session may last, by the server's clock alone."""
        return max(1.0, (self.expires_at - self.created_at).total_seconds())


class Play:
    """One session, from its opening to its end.

    Args:
        context: The agent's.
        opened: The session as it was opened; at least its `id` and `capability`.
        strategy: Whose moves are made.
        limit: The strategy's, in minor units.
        side: The agent's part.
        terms: As a provider: says which terms are agreed to; None: none are. A client has put them there itself.
    """

    def __init__(
        self,
        context: "AgentContext",
        opened: dict[str, Any],
        strategy: Strategy,
        *,
        limit: int,
        side: Side,
        terms: Terms | None = None,
    ) -> None:
        self._context = context
        self._session = opened
        self._strategy = strategy
        self._limit = limit
        self._side: Side = side
        self._terms = terms
        self._is_agreed_to: bool | None = None
        """Whether the session's terms are agreed to; None before that was asked, which is done once."""
        self._topic = KeptTopic(context.connection, f"negotiation:{opened['id']}")
        self._began_at = time.monotonic()  # Not by the clock: it need not be the server's.
        self._is_told = "offers" in opened
        self._kept: tuple[int, Move] | None = None
        """The round that was thought about last, and the move in it."""

    async def play(self) -> dict[str, Any]:
        """Bargain until the session has ended; the session.

        Raises:
            BeyondLimit, LyingServer, RefusedByServer, Disconnected: As for `Bargaining.negotiate`.
        """
        try:
            self._take(await self._topic.join())
            while self._told.status == "open":
                if self._is_own_turn or not self._agrees_to_terms():
                    await self._move()
                else:
                    await self._listen()
        finally:
            await self._topic.leave()
        return self._session

    @property
    def _told(self) -> ToldSession:
        return converted(self._session, ToldSession)

    @property
    def _is_own_turn(self) -> bool:
        """Whether to move now. Before the first offer either side may: the client does, as it has asked."""
        if self._session["offers"]:
            return self._told.turn == self._context.me.id
        return self._side == "client"

    @property
    def _next_round(self) -> int:
        return len(self._session["offers"]) + 1

    async def _listen(self) -> None:
        """Wait for what comes. A provider whose client does not open does so itself after a while."""
        waits_for_opening = self._side == "provider" and not self._session["offers"]
        try:
            event, payload = await self._topic.next_event(OPENS_AFTER_S if waits_for_opening else None)
        except NoAnswer:
            await self._move()
            return
        if event == "negotiation_cancelled":
            self._take(await self._topic.join())
        with telling("the session"):
            if event == JOINED:
                self._take_joined(payload)
            elif event in AFTERWARDS and payload.get("round", self._next_round) == self._next_round:
                self._take(negotiation_after(self._session, event, payload))

    async def _move(self) -> None:
        move = self._chosen()
        try:
            self._take(await self._pushed(move))
        except RefusedByServer as refusal:
            if refusal.reason in OVERTAKEN:
                await self._listen()
            elif refusal.reason in OVER:
                self._take(await self._topic.join())
            else:
                raise

    def _chosen(self) -> Move:
        """The strategy's move, thought out once for a round: two offers signed in one round could both be used."""
        kept = self._kept
        if kept is not None and kept[0] == self._next_round:
            return kept[1]
        turn = self._turn()
        move: Move = self._strategy.move(turn) if self._agrees_to_terms() else Reject("these terms are not agreed to")
        require_within(turn, move, self._limit)
        self._kept = turn.round, move
        return move

    def _agrees_to_terms(self) -> bool:
        """Whether the terms, which were checked as they were told, may be signed: asked once, and before any move."""
        if self._is_agreed_to is None:
            terms = self._session.get("terms")
            self._is_agreed_to = self._side == "client" or terms is None or self._says_yes(terms)
        return self._is_agreed_to

    def _says_yes(self, terms: dict[str, Any]) -> bool:
        if self._terms is None:
            return False
        try:
            return self._terms(copy.deepcopy(terms)) is True  # A copy: what is signed must stay as it was told.
        except Exception:  # noqa: BLE001 - It is the application's: its failure is a no, and must not end other work.
            _LOG.exception("the terms of the negotiation %s could not be judged: they are refused", self._session["id"])
            return False

    async def _pushed(self, move: Move) -> dict[str, Any]:
        """Sign a move, once all that it answers was checked, and push it; after a loss the very same again."""
        signer, agent_id = self._context.require_signer(), self._context.me.id
        if isinstance(move, Offer):
            event, payload = "offer", signer.offer(self._session, agent_id=agent_id, amount=move.amount)
        elif isinstance(move, Accept):
            event, payload = "accept", signer.accept(self._session, agent_id=agent_id)
        else:
            event, payload = "reject", {"reason": move.reason}
        session = converted(await self._topic.push(event, payload), dict[str, Any])
        if isinstance(move, Offer):
            self._require_taken(session, payload)
        return session

    def _require_taken(self, session: dict[str, Any], offer: dict[str, Any]) -> None:
        """Refuse a reply to an offer that leaves it out: another one would be signed in the same round.

        Raises:
            RolledBack: It does.
            WrongAnswer, WrongSession: It is about another session.
        """
        require_continued(self._session, session)
        with telling("the session"):
            made = [one for one in session["offers"] if one["round"] == offer["round"]]
            signed = [(one["agent_id"], one["signature"]) for one in made]
        if signed != [(self._context.me.id, offer["signature"])]:
            raise RolledBack("the offer was taken, and is not among those that are told", expected=offer, told=made)

    def _take_joined(self, session: dict[str, Any]) -> None:
        """Take what a join has told, unless a reply that came over the same join has told more already."""
        if len(session["offers"]) < len(self._session["offers"]):
            require_continued(session, self._session)
        else:
            self._take(session)

    def _take(self, session: dict[str, Any]) -> None:
        """Take the session as it is told now, once all that it rests on was computed anew.

        Raises:
            LyingServer: It is another one, behind what was told before, or something of it does not hold.
        """
        if self._is_told:
            require_continued(self._session, session)
        told = converted(session, ToldSession)
        own_id = told.client_agent_id if self._side == "client" else told.provider_agent_id
        if (told.id, own_id, told.capability) != (
            self._session["id"],
            self._context.me.id,
            self._session["capability"],
        ):
            raise WrongAnswer("the session is another one than was asked for")
        self._context.require_signer().check(session, agent_id=self._context.me.id)
        self._session, self._is_told = session, True

    def _turn(self) -> Turn:
        told, agent_id = self._told, self._context.me.id
        offers = self._session["offers"]
        own = tuple(int(offer["amount"]) for offer in offers if offer["agent_id"] == agent_id)
        others = tuple(int(offer["amount"]) for offer in offers if offer["agent_id"] != agent_id)
        return Turn(
            side=self._side,
            base_max=told.base_max,
            max_offer=told.max_offer,
            max_price=told.max_price,
            rounds_left=told.max_rounds - len(own),
            round=self._next_round,
            own=own,
            others=others,
            elapsed=min(1.0, (time.monotonic() - self._began_at) / told.lasts_s),
            exponent=told.exponent,
        )


def require_within(turn: Turn, move: Move, limit: int) -> None:
    """Refuse a move that its maker could be held to beyond a limit, whoever has thought it out.

    Args:
        turn: Where it is made.
        move: An offer exposes to its midpoint, and to itself where the other side repeats it; accepting exposes to
            the midpoint.
        limit: The strategy's, in minor units.

    Raises:
        BeyondLimit: It could be.
    """
    if isinstance(move, Offer):
        exposed: int | None = turn.exposure(move.amount)
    else:
        exposed = turn.midpoint if isinstance(move, Accept) else None
    if exposed is not None and not turn.is_as_good(exposed, limit):
        raise BeyondLimit(limit=limit, exposed=exposed)
