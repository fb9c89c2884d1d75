"""Bargaining: a strategy plays a negotiation, over losses, and nothing is signed beyond its limit.

    agreement = await bargaining.negotiate(found, "translate", strategy=Boulware(limit="8.00"))

Two guards stand before every signature. `Signer` computes anew whatever the market told of the session: its digest, all
offers with their signatures, the midpoint. And each move is held against the strategy's limit, whatever the strategy
says: an offer and its midpoint, or the midpoint that is accepted.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .agreement import Agreement
from .asking import converted, post
from .discovering import FoundAgent, agent_id_of
from .errors import BeyondLimit, ClientError, NoAnswer, NotAgreed, RefusedByServer, telling
from .playing import Play, Terms
from .sessions import require_opened
from .strategies import Strategy

if TYPE_CHECKING:
    from .context import AgentContext

FAREWELL_S: Final = 5.0
"""How long a session that is given up may take to be rejected."""

_LOG = logging.getLogger(__name__)


class Announced(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider is told of a new session, in a message of type `negotiation`."""

    session_id: str
    capability: str


class Bargaining:
    """Negotiations of one agent.

    Args:
        context: The agent's.
    """

    def __init__(self, context: "AgentContext") -> None:
        self._context = context

    async def negotiate(
        self,
        provider: FoundAgent | str,
        capability: str,
        *,
        strategy: Strategy,
        terms: dict[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> Agreement:
        """Bargain with a provider about the price of one task, as its client.

        No money moves: the agreement is used once, within a day, by hiring with it. Left early, by a timeout, a
        cancellation or an error, the session is rejected.

        Args:
            provider: Whom; found, or named by handle or id.
            capability: What for.
            strategy: How; its limit is the most that is agreed on.
            terms: What both sign beside the price: JSON whose only numbers are integers.
            timeout_s: None: as long as the session lasts, half an hour as a rule.

        Raises:
            NotAgreed: The session ended without an agreement.
            NoAnswer: It took longer than `timeout_s`.
            BeyondLimit: The strategy has made a move beyond its own limit; nothing of it was signed.
            RefusedByServer: It was not opened: `contact_required`, `capability_not_offered`, `pricing_model_fixed`,
                `free_agent`, `too_many_open` and more.
            NoSigningKey: The agent cannot sign.
            LyingServer: What the server tells of the session does not hold.
            Disconnected: The connection is closed.
        """
        context = self._context
        context.require_signer()
        limit = context.amount(strategy.limit)
        provider_id = await agent_id_of(context, provider)
        signed = None if terms is None else msgspec.json.decode(msgspec.json.encode(terms), type=dict[str, Any])
        asked = {"provider_agent_id": provider_id, "capability": capability, "terms": signed}
        opening = asyncio.ensure_future(post(context, "/negotiations", asked, dict[str, Any]))
        waiting = asyncio.timeout(timeout_s)
        try:
            async with waiting:
                opened = await asyncio.shield(opening)
                with telling("the session"):
                    require_opened(
                        opened,
                        client_agent_id=context.me.id,
                        provider_agent_id=provider_id,
                        capability=capability,
                        terms=signed,
                    )
                    play = Play(context, opened, strategy, limit=limit, side="client")
                session = await play.play()
        except TimeoutError:
            await self._give_up(opening, "no time left")
            if not waiting.expired():
                raise
            raise NoAnswer(f"no agreement within {timeout_s} s") from None
        except BaseException as error:
            await self._give_up(opening, "cancelled" if isinstance(error, asyncio.CancelledError) else "given up")
            raise
        if session["status"] != "agreed":
            raise NotAgreed(session["id"], session["status"], session.get("reason"))
        agreement = self._agreement(session)
        if agreement.amount > limit:
            raise BeyondLimit(limit=limit, exposed=agreement.amount)
        return agreement

    async def answer(
        self, announced: dict[str, Any], strategy: Strategy, *, terms: Terms | None = None
    ) -> Agreement | None:
        """Bargain in a session that a client has opened, as its provider. To do so again goes on where it was.

        Args:
            announced: The payload of the message of type `negotiation`.
            strategy: How; its limit is the least that is agreed on.
            terms: Says whether terms that the client has put into the session are agreed to; None: none are. A session
                with others is rejected before anything of it is signed, and so it is where this raises.

        Returns:
            The agreement; None where the session ended without one, or has never been.

        Raises:
            BeyondLimit: The strategy has made a move beyond its own limit; nothing of it was signed, and the session
                was rejected.
            NoSigningKey: The agent cannot sign.
            RefusedByServer: A move was refused: `contact_scope_exceeded`, `amount_out_of_range` and more.
            LyingServer: What the server tells of the session does not hold.
            Disconnected: The connection is closed.
        """
        context = self._context
        context.require_signer()
        limit = context.amount(strategy.limit)
        told = converted(announced, Announced)
        opened = {"id": told.session_id, "capability": told.capability}
        try:
            session = await Play(context, opened, strategy, limit=limit, side="provider", terms=terms).play()
        except RefusedByServer as refusal:
            if refusal.reason != "not_found":
                raise
            return None
        except BeyondLimit:
            await self.reject(told.session_id, "given up")
            raise
        return self._agreement(session) if session["status"] == "agreed" else None

    async def reject(self, session_id: str, reason: str) -> None:
        """End a session without an agreement. One that has ended already stays as it is.

        Raises:
            Disconnected: The connection is closed.
        """
        try:
            await post(self._context, f"/negotiations/{session_id}/reject", {"reason": reason}, dict[str, Any])
        except RefusedByServer as refusal:
            _LOG.debug("the negotiation %s was not rejected: %s", session_id, refusal.reason)

    def _agreement(self, session: dict[str, Any]) -> Agreement:
        """What was agreed, once every signature of it holds."""
        context = self._context
        return Agreement.of(context, session, context.require_signer().agreed(session, agent_id=context.me.id))

    async def _give_up(self, opening: "asyncio.Future[dict[str, Any]]", reason: str) -> None:
        """End a session that may have been opened, if the market can be reached: open ones are counted."""
        try:
            async with asyncio.timeout(FAREWELL_S):
                opened = await opening
                await self.reject(str(opened.get("id")), reason)
        except (ClientError, TimeoutError) as error:
            _LOG.debug("a negotiation was given up, and not rejected: %s", error)
