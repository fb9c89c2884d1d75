"""What handlers are given: the loaders that `Handler.loads` names, in one table.

A loader is `(tx, topic_id, request, context) → loaded`. It asks the database and decides nothing.
"""

from collections.abc import Callable
from typing import Any, Final

from agrenting.db import (
    alerts,
    analytics,
    contacts,
    messages,
    payment_channels,
    private,
    rooms,
    search,
    states,
    streams,
)
from agrenting.db.parties import SIDES_OF, UNFINISHED
from agrenting.db.transaction import Tx
from channels.agents import Agent
from channels.contacts import Tie
from channels.discovery import Arrival
from channels.errors import not_found
from channels.handlers import Context
from channels.negotiation import NegotiationSession
from channels.opening import Opening
from channels.private_state import PrivateChannel
from channels.streams import TaskFacts
from channels.task import TaskOpening

Loader = Callable[[Any, str, Any, Context], Any]


def _state(store: str) -> Loader:
    def load(tx: Tx, topic_id: str, _request: Any, _context: Context) -> Any:
        return states.load(tx, store, topic_id)

    return load


def _own_agent(tx: Tx, _topic_id: str, _request: Any, context: Context) -> Agent:
    agent: Agent | None = states.load(tx, "agent", context.sender.require_agent())
    if agent is None:
        raise not_found("agent")
    return agent


def _arrival(tx: Tx, topic_id: str, request: Any, context: Context) -> Arrival:
    agent = _own_agent(tx, topic_id, request, context)
    return Arrival(agent=agent, ties=contacts.ties_of(tx, agent.id, now=context.now))


def _opening(count_open: Callable[[Tx, str, str], int], names: Callable[[Any], str]) -> Loader:
    def load(tx: Tx, topic_id: str, request: Any, context: Context) -> Opening:
        client, other_id = _own_agent(tx, topic_id, request, context), names(request)
        tie = contacts.tie(tx, client.id, other_id, now=context.now)
        return Opening(
            client=client,
            provider=states.load(tx, "agent", other_id),
            open_count=count_open(tx, client.id, other_id),
            tie=tie,
            open_of_all_kinds=_open_of_all_kinds(tx, client.id, other_id, tie),
        )

    return load


def _count_hired(store: str) -> Callable[[Tx, str, str], int]:
    table, statuses = states.STORES[store].table, UNFINISHED[store]

    def count(tx: Tx, client_id: str, provider_id: str) -> int:
        row = tx.one(
            f"SELECT count(*) FROM {table} WHERE client_agent_id = :client AND provider_agent_id = :provider"
            f" AND status IN ({statuses})",
            client=client_id,
            provider=provider_id,
        )
        return 0 if row is None else int(row[0])

    return count


def _open_of_all_kinds(tx: Tx, client_id: str, provider_id: str, tie: Tie) -> int:
    """What the client has opened with the provider and has not ended; 0 where nobody asks."""
    if tie.scope is None or tie.scope.max_open is None:
        return 0
    counts = (
        f"(SELECT count(*) FROM {states.STORES[store].table} WHERE {SIDES_OF[store][0]} = :client"
        f" AND {SIDES_OF[store][1]} = :provider AND status IN ({UNFINISHED[store]}))"
        for store in ("negotiation", "task", "payment")
    )
    row = tx.one(f"SELECT {' + '.join(counts)}", client=client_id, provider=provider_id)
    return 0 if row is None else int(row[0])


_open_negotiation = _opening(_count_hired("negotiation"), lambda request: request.provider_agent_id)
_open_task = _opening(_count_hired("task"), lambda request: request.provider_agent_id)
_open_channel = _opening(payment_channels.count_open, lambda request: request.counterparty_agent_id)


def _task_opening(tx: Tx, topic_id: str, request: Any, context: Context) -> TaskOpening:
    opening = _open_task(tx, topic_id, request, context)
    session_id = request.negotiation_session_id
    session = None if session_id is None else states.load(tx, "negotiation", session_id)
    is_of_it = session is not None and context.sender.agent_id in {session.client_agent_id, session.provider_agent_id}
    channel = None if request.channel_id is None else states.load(tx, "payment", request.channel_id)
    agreement = session if is_of_it else None
    return TaskOpening(opening=opening, agreement=agreement, channel=channel, talk=_talk(tx, agreement))


def _talk(tx: Tx, agreement: NegotiationSession | None) -> PrivateChannel | None:
    """The private channel of a negotiation, while it is there."""
    if agreement is None or agreement.private_channel_id is None:
        return None
    talk: PrivateChannel | None = states.load(tx, "private", agreement.private_channel_id)
    return talk if talk is not None and talk.is_open else None


def _task(tx: Tx, topic_id: str, _request: Any, _context: Context) -> TaskFacts:
    return TaskFacts(task=states.load(tx, "task", topic_id), stored=streams.StoredStreams(tx, topic_id))


LOADERS: Final[dict[str, Loader]] = {
    "agent": _own_agent,
    "arrival": _arrival,
    "negotiation": _state("negotiation"),
    "task": _state("task"),
    "task_facts": _task,
    "opening": _open_negotiation,
    "task_opening": _task_opening,
    "discovery": search.discover,
    "mailbox": messages.mailbox,
    "mail_pushed": messages.pushed,
    "mail_sending": messages.sending,
    "message": messages.message,
    "contact_asking": contacts.asking,
    "contact_answering": contacts.answering,
    "contact_removing": contacts.removing,
    "contact_request": _state("contact_request"),
    "contact_pair": contacts.contact_pair,
    "blocking": contacts.blocking,
    "block_pair": contacts.block_pair,
    "channel_opening": _open_channel,
    "figures": analytics.figures,
    "alert": _state("alert"),
    **alerts.LOADERS,
    **payment_channels.LOADERS,
    **private.LOADERS,
    **rooms.LOADERS,
}

STATE_OF: Final = {
    "agent": "agent",
    "negotiation": "negotiation",
    "task": "task",
    "task_facts": "task",
    "message": "message",
    "alert": "alert",
    **dict.fromkeys(payment_channels.LOADERS, "payment"),
    **dict.fromkeys(private.STATES, "private"),
    **rooms.STATES,
}
"""The store that `Decision.state` goes to, by the loader that the handler named."""
