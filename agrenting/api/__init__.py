"""The REST door: `/api/v1`, its OpenAPI document and the page to read it, health and metrics.

Every address is declared in the module of its noun and walks the same way (door.py). What concerns a topic runs the
same handler as a push on it, through the same engine.
"""

from typing import TYPE_CHECKING, Any, Final

from litestar.config.cors import CORSConfig
from litestar.handlers import HTTPRouteHandler

from agrenting.api import (
    admin,
    agents,
    discovery,
    health,
    keys,
    ledger,
    messages,
    meta,
    moderation,
    negotiations,
    reading,
    sessions,
    tasks,
)
from agrenting.api.door import Door, refuse_method
from agrenting.api.observing import observe_with, refuse_with
from agrenting.api.operation import Noun, Operation

if TYPE_CHECKING:
    from agrenting.server import Server

NOUNS: Final[tuple[Noun, ...]] = (
    meta.NOUN,
    sessions.NOUN,
    agents.NOUN,
    keys.NOUN,
    discovery.NOUN,
    negotiations.NOUN,
    tasks.NOUN,
    messages.NOUN,
    ledger.NOUN,
    admin.NOUN,
    moderation.NOUN,
    health.NOUN,
)
"""In the order of the document."""

OPERATIONS: Final[tuple[Operation, ...]] = tuple(operation for noun in NOUNS for operation in noun.operations)

ALLOWED_HEADERS: Final = ["authorization", "content-type", "idempotency-key", "x-agent-id", "x-api-key", "x-request-id"]
EXPOSED_HEADERS: Final = ["idempotency-replayed", "retry-after", "x-next-cursor", "x-request-id"]


def rest_options(server: "Server") -> dict[str, Any]:
    """What `litestar.Litestar` is given for the REST door.

    Args:
        server: It need not have started yet.
    """
    door = Door(server)
    pages = reading.handlers(NOUNS, public_url="/")
    routes = [door.handler(operation) for operation in OPERATIONS]
    paths = sorted({path for route in (*routes, *pages) for path in route.paths})
    refusing = [HTTPRouteHandler(path, http_method="OPTIONS", include_in_schema=False)(refuse_method) for path in paths]
    return {
        "route_handlers": [*routes, *pages, *refusing],
        "exception_handlers": {Exception: refuse_with(server, Methods(OPERATIONS))},
        "openapi_config": None,  # The document is made from the declarations (document.py), not from signatures.
        "request_max_body_size": server.settings.body_bytes_max,
        "cors_config": _cors(server.settings.allowed_origins),
        "on_startup": [observe_with(server)],
        "debug": False,
    }
