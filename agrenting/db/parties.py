"""Two agents and what they have with each other: their parts in it, and what of it has not ended."""

from typing import Final

ROLES: Final = {
    "negotiation": {"client": "client_agent_id", "provider": "provider_agent_id"},
    "task": {"client": "client_agent_id", "provider": "provider_agent_id"},
    "payment": {"opener": "agent_a_id", "counterparty": "agent_b_id"},
}
"""Store → the parts that an agent may have in one, and their columns."""

SIDES_OF: Final = {store: tuple(roles.values()) for store, roles in ROLES.items()}
UNFINISHED: Final = {
    "negotiation": "'open'",
    "task": "'pending', 'in_progress', 'disputed'",
    "payment": "'pending', 'open', 'closing', 'disputed'",
}
"""Store → the statuses of what has not ended, as SQL."""

IS_HELD: Final = "status = 'completed' AND json_extract(state, '$.escrow_status') = 'held'"
"""Of a task that has ended, as SQL: its price is held still, so that its client can look at the work."""
