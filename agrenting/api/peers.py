"""Peers: whom the caller may open things with. Band's clients find people through this list alone."""

from typing import Final

from agrenting.api.call import Call
from agrenting.api.entity_answers import PeerAnswer, peer_answer
from agrenting.api.offsets import OffsetQuery, offset_page
from agrenting.api.operation import Callers, Noun
from agrenting.api.paging import Page
from agrenting.db.peers import peers_of
from agrenting.db.rooms import takes_part
from agrenting.db.transaction import ReaderTx
from channels.errors import not_found
from channels.identity import EntityType

NOUN = Noun("peers", "Whom one may open things with.")
UNKNOWN: Final = {404: "not_found"}


class PeersQuery(OffsetQuery, frozen=True, kw_only=True):
    """Which page of the peers.

    Args:
        not_in_chat: A room that the caller takes part in, whose participants are left out.
    """

    not_in_chat: str | None = None


class OwnPeersQuery(PeersQuery, frozen=True, kw_only=True):
    """Which page of the peers.

    Args:
        type: Only users, or only agents.
    """

    type: EntityType | None = None


@NOUN.get("/agent/peers", answer=PeerAnswer, callers=Callers.AGENT, scopes=("discover",), errors=UNKNOWN)
async def list_agent_peers(call: Call, query: PeersQuery) -> object:
    """List the agent's peers: its owner, siblings, agents for all, agents of the organisation, then its contacts.

    Left out are agents that are not active, and who has blocked the agent or is blocked by it.
    """
    return await _peers(call, query, None)


@NOUN.get("/me/peers", answer=PeerAnswer, callers=Callers.USER, scopes=("discover",), errors=UNKNOWN)
async def list_own_peers(call: Call, query: OwnPeersQuery) -> object:
    """List the user's peers: its agents, agents for all, agents of the organisation, teammates, then its contacts.

    Left out are agents that are not active, and who has blocked the user or is blocked by it.
    """
    return await _peers(call, query, query.type)


async def _peers(call: Call, query: PeersQuery, type_: EntityType | None) -> Page:
    name = f"peers-{type_}" if query.not_in_chat is None else f"peers-{type_}-{query.not_in_chat}"
    rows, hub = query.slice(name), call.server.hub

    def find(tx: ReaderTx) -> Page:
        if query.not_in_chat is not None and not takes_part(tx, query.not_in_chat, call.caller.id):
            raise not_found("room")
        part = peers_of(tx, call.caller, rows, type_=type_, not_in_room=query.not_in_chat, now=call.now)
        return offset_page(
            part, query=query, key=lambda row: row.place, name=name, show=lambda row: peer_answer(row, hub=hub)
        )

    return await call.read(find)
