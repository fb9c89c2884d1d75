"""The REST door: `/api/v1`, its OpenAPI document and the page to read it, health and metrics.

Every address is declared in the module of its noun and walks the same way (door.py). What concerns a topic runs the
same handler as a push on it, through the same engine.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agrenting.server import Server


def rest_options(server: "Server") -> dict[str, Any]:
    """What `litestar.Litestar` is given for the REST door.

    Args:
        server: It need not have started yet.
    """
    from agrenting.api import rest  # noqa: PLC0415 - the socket door takes its error bodies from here, without REST

    return rest.rest_options(server)
