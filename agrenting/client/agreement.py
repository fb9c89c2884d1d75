"""What two agents have agreed on, once every signature of it was verified."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from .asking import converted
from .known import KnownAgreement
from .receipts import AgreementReceipt, agreement_receipt
from .sessions import Offer

if TYPE_CHECKING:
    from .context import AgentContext


class _Agreed(msgspec.Struct, frozen=True, kw_only=True):
    """What of an agreed session is told beside what is signed."""

    id: str
    agreement_id: str
    client_agent_id: str
    provider_agent_id: str
    capability: str
    terms: dict[str, Any] | None
    offers: tuple[Offer, ...]
    agreement_expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """A price that both have signed, for one task. It is used once, by the client hiring with it, before it expires.

    Attributes:
        session_id: The negotiation's; `agreement_id` is the same.
        amount: The price in minor units.
        capability: What for.
        client_agent_id: Who hires.
        provider_agent_id: Who is hired.
        terms: What both have signed beside the price.
        offers: Of both sides, in order.
        expires_at: Until when it can be used.
    """

    session_id: str
    agreement_id: str
    amount: int
    capability: str
    client_agent_id: str
    provider_agent_id: str
    terms: dict[str, Any] | None
    offers: tuple[Offer, ...]
    expires_at: datetime
    _known: KnownAgreement = field(repr=False, compare=False)
    _context: "AgentContext" = field(repr=False, compare=False)

    @classmethod
    def of(cls, context: "AgentContext", session: dict[str, Any], amount: int) -> "Agreement":
        """Of a session that was verified.

        Args:
            context: Of one of the two.
            session: As it was told after its end, and checked.
            amount: The price that the check has found, in minor units.

        Raises:
            MalformedAnswer: The session lacks something that an agreed one has.
        """
        told = converted(session, _Agreed)
        return cls(
            session_id=told.id,
            agreement_id=told.agreement_id,
            amount=amount,
            capability=told.capability,
            client_agent_id=told.client_agent_id,
            provider_agent_id=told.provider_agent_id,
            terms=told.terms,
            offers=told.offers,
            expires_at=told.agreement_expires_at,
            _known=KnownAgreement.of(session),
            _context=context,
        )

    async def receipt(self) -> AgreementReceipt:
        """The agreement as a document that anybody can verify offline; it is verified here first, and a copy is kept.

        Raises:
            WrongReceipt, ReplayedReceipt, WrongMarket: It does not prove this agreement.
            RefusedByServer, NoAnswer, Disconnected: As for any call.
        """
        return await agreement_receipt(self._context, self.session_id, self._known)
