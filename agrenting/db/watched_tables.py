"""The schema of what follows from everything else: sums, and alerts (following.py)."""

from sqlalchemy import BigInteger, Column, Index, Integer, PrimaryKeyConstraint, String, Table, Text, text

from agrenting.db.tables import metadata, states

__all__ = ["metadata"]

IS_MINUTE = "span = 60"

SUMS = (
    "tasks_total",
    "tasks_started",
    "tasks_completed",
    "tasks_failed",
    "tasks_cancelled",
    "execution_ms",
    "executions",
    "revenue_gross",
    "revenue_streamed",
    "fees",
    "spend",
    "tasks_hired",
    "negotiations_started",
    "negotiations_completed",
    "transfers_in",
    "transfers_out",
    "transfers_in_amount",
    "transfers_out_amount",
    "messages_in",
)
"""The columns of `rollups` that add up."""

rollups = Table(
    "rollups",
    metadata,
    Column("scope", String, nullable=False),
    Column("span", Integer, nullable=False),
    Column("start", BigInteger, nullable=False),
    *(Column(name, BigInteger, nullable=False, server_default="0") for name in SUMS),
    Column("reputation_centi", Integer),
    PrimaryKeyConstraint("scope", "span", "start"),
    Index("ix_rollups_minutes", "start", sqlite_where=text(IS_MINUTE), postgresql_where=text(IS_MINUTE)),
    sqlite_with_rowid=False,
)
"""What is counted for `agent:{id}`, `user:{id}` and `global`: sums over buckets of `span` seconds from `start` on; 0 is
all time, from 0 on. Events add to minutes; those of past hours move on into hours, days and all time, so that a sum
over any time is that of its coarse buckets and of the minutes that have not moved yet. `reputation_centi` is the last
one in the bucket.
"""

rollup_revenue = Table(
    "rollup_revenue",
    metadata,
    Column("scope", String, nullable=False),
    Column("span", Integer, nullable=False),
    Column("kind", String, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("name", String, nullable=False),
    Column("gross", BigInteger, nullable=False),
    Column("fees", BigInteger, nullable=False),
    PrimaryKeyConstraint("scope", "span", "kind", "start", "name"),
    sqlite_with_rowid=False,
)
"""The revenue of the same buckets by `capability`, and by `counterparty`, an agent's id."""

rollup_latencies = Table(
    "rollup_latencies",
    metadata,
    Column("scope", String, nullable=False),
    Column("span", Integer, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("bucket", Integer, nullable=False),
    Column("count", BigInteger, nullable=False),
    PrimaryKeyConstraint("scope", "span", "start", "bucket"),
    sqlite_with_rowid=False,
)
"""How many tasks took how long, in the same buckets; those of the histogram are in channels/histograms.py."""

capability_totals = Table(
    "capability_totals",
    metadata,
    Column("capability", String, nullable=False),
    Column("agent_id", String, nullable=False),
    Column("owner_id", String, nullable=False),
    Column("completed", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("execution_ms", BigInteger, nullable=False),
    Column("executions", BigInteger, nullable=False),
    PrimaryKeyConstraint("capability", "agent_id"),
    sqlite_with_rowid=False,
)
"""What each provider has done of each capability, ever: what medians are made of."""

former_agents = Table(
    "former_agents",
    metadata,
    Column("agent_id", String, primary_key=True),
    Column("owner_id", String, nullable=False),
    Column("handle", String, nullable=False),
)
"""Whose the agents were that have been deleted: what they did still counts."""

alerts = states(
    "alerts",
    Column("agent_id", String),
    Column("owner_id", String),
    Column("type", String, nullable=False),
    Column("severity", String, nullable=False),
    Column("subject", String, nullable=False),
    Index(None, "agent_id", "status", "id"),
    Index(None, "owner_id", "status", "id"),
    Index(None, "subject", "type", "status"),
    Index(None, "status", "id"),
)
"""`agent_id` and `owner_id` are null of what concerns the whole market. `subject` is what an alert is about."""

recent_ends = Table(
    "recent_ends",
    metadata,
    Column("agent_id", String, primary_key=True),
    Column("ends", Text, nullable=False),
)
"""How each provider's last tasks have ended, oldest first, as JSON."""

alert_thresholds = Table(
    "alert_thresholds",
    metadata,
    Column("agent_id", String, primary_key=True),
    Column("balance_below", BigInteger, nullable=False),
)
