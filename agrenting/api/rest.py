"""Every operation of the REST door, put together for Litestar."""

from typing import TYPE_CHECKING, Any, Final

from litestar.config.cors import CORSConfig

from agrenting.api import (
    admin,
    agent_chats,
    agents,
    alerts,
    analytics,
    channel_decisions,
    contacts,
    directory,
    discovery,
    health,
    keys,
    ledger,
    messages,
    meta,
    moderation,
    negotiations,
    own_agents,
    own_chats,
    own_contacts,
    payment_channels,
    payment_events,
    peers,
    private_channels,
    profile,
    reading,
    sessions,
    task_decisions,
    tasks,
)
from agrenting.api.door import Addresses, Door
from agrenting.api.observing import observe_with, refuse_with
from agrenting.api.operation import Noun, Operation

if TYPE_CHECKING:
    from agrenting.server import Server

NOUNS: Final[tuple[Noun, ...]] = (
    meta.NOUN,
    sessions.NOUN,
    profile.NOUN,
    agents.NOUN,
    own_agents.NOUN,
    keys.NOUN,
    discovery.NOUN,
    directory.NOUN,
    peers.NOUN,
    contacts.NOUN,
    own_contacts.NOUN,
    negotiations.NOUN,
    tasks.NOUN,
    payment_channels.NOUN,
    payment_events.NOUN,
    private_channels.NOUN,
    messages.NOUN,
    agent_chats.NOUN,
    own_chats.NOUN,
    ledger.NOUN,
    analytics.NOUN,
    alerts.NOUN,
    admin.NOUN,
    moderation.NOUN,
    task_decisions.NOUN,
    channel_decisions.NOUN,
    health.NOUN,
    reading.NOUN,
)
"""In the order of the document."""

OPERATIONS: Final[tuple[Operation, ...]] = tuple(operation for noun in NOUNS for operation in noun.operations)

ALLOWED_HEADERS: Final = ("authorization", "content-type", "idempotency-key", "x-agent-id", "x-api-key", "x-request-id")
EXPOSED_HEADERS: Final = ("idempotency-replayed", "retry-after", "x-next-cursor", "x-request-id")

reading.describe(NOUNS)


def rest_options(server: "Server") -> dict[str, Any]:
    """What `litestar.Litestar` is given for the REST door.

    Args:
        server: It need not have started yet.
    """
    door = Door(server)
    addresses = Addresses(OPERATIONS)
    return {
        "route_handlers": [*addresses.options_handlers(), *(door.handler(operation) for operation in OPERATIONS)],
        "exception_handlers": {Exception: refuse_with(server, addresses.methods)},
        "openapi_config": None,  # The document is made from the declarations (document.py), not from signatures.
        "request_max_body_size": server.settings.body_bytes_max,
        "cors_config": cors_of(server.settings.allowed_origins),
        "on_startup": [observe_with(server)],
        "debug": False,
    }


def cors_of(allowed_origins: tuple[str, ...]) -> CORSConfig | None:
    """Which pages of other origins may call; none unless the operator names them."""
    if not allowed_origins:
        return None
    return CORSConfig(
        allow_origins=[*allowed_origins],
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=[*ALLOWED_HEADERS],
        expose_headers=[*EXPOSED_HEADERS],
    )
