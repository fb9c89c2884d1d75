"""For whoever runs the server: is it up, can it serve, what does it count. Beside the API's root, for everybody."""

import sqlite3

from sqlalchemy.exc import SQLAlchemyError

from agrenting.api.answers import Done
from agrenting.api.call import Call, Raw
from agrenting.api.errors import Unavailable
from agrenting.api.operation import Callers, Noun
from channels.errors import not_found

NOUN = Noun("health", "Whether the server is up, and what it counts.", is_rooted=False)
METRICS_TYPE = "text/plain; version=0.0.4"


@NOUN.get("/health/live", answer=Done, callers=Callers.ANYBODY)
async def read_liveness(call: Call) -> object:
    """Whether the process answers."""
    del call
    return Done("ok")


@NOUN.get("/health/ready", answer=Done, callers=Callers.ANYBODY, errors={503: "draining"})
async def read_readiness(call: Call) -> object:
    """Whether it can serve: the database answers, and it is not about to stop."""
    if call.server.hub.is_draining:
        raise Unavailable("draining", "The server is stopping.")
    try:
        await call.read(lambda tx: tx.one("SELECT 1 FROM market"))
    except (sqlite3.Error, SQLAlchemyError) as error:
        raise Unavailable("unavailable", "The database does not answer.") from error
    return Done("ok")


@NOUN.get(
    "/metrics",
    callers=Callers.ANYBODY,
    errors={404: "not_found"},
    files={METRICS_TYPE: "Prometheus's text format."},
)
async def read_metrics(call: Call) -> object:
    """What is counted, for Prometheus. Not found where the setting `on_metrics` is off."""
    server = call.server
    if not server.settings.on_metrics:
        raise not_found("address")
    metrics = server.metrics
    metrics.outbox_bytes.set(sum(connection.protocol.outbox_bytes for connection in server.hub.connections))
    metrics.timers_due.set(server.timers.due_count)
    await metrics.market.read(server.engine, server.settings.database_path)
    return Raw(metrics.text(), METRICS_TYPE)
