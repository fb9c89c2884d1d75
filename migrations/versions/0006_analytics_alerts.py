"""Sums for analytics, and alerts."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations.first_sums import NAMES, make_first_sums

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

BUCKET = (
    ("scope", sa.String()),
    ("span", sa.Integer()),
)
IS_MINUTE = sa.text("span = 60")
NEW_TABLES = (
    "alert_thresholds",
    "recent_ends",
    "alerts",
    "former_agents",
    "capability_totals",
    "rollup_latencies",
    "rollup_revenue",
    "rollups",
)

LAST_ENDS = """
INSERT INTO recent_ends (agent_id, ends)
SELECT provider_agent_id,
       json_group_array(json_array(id, json(CASE WHEN status = 'failed' THEN 'false' ELSE 'true' END)))
FROM (SELECT * FROM (SELECT id, status, provider_agent_id,
                            row_number() OVER (PARTITION BY provider_agent_id
                                               ORDER BY json_extract(state, '$.ended_at') DESC, id DESC) AS place
                     FROM tasks
                     WHERE status IN ('completed', 'failed')
                        OR (status = 'disputed' AND json_extract(state, '$.ended_at') IS NOT NULL))
      WHERE place <= 10 ORDER BY provider_agent_id, place DESC)
GROUP BY provider_agent_id
"""
"""How each provider's last ten tasks have ended, oldest first; a dispute does not unmake an end."""


def upgrade() -> None:
    """Go forward. What happened before is summed up, as far as it is known still."""
    _create_sums()
    _create_alerts()
    make_first_sums(op.get_bind())
    op.execute(LAST_ENDS)


def downgrade() -> None:
    """Go back. Alerts, their thresholds, and whose deleted agents were, are lost; sums can be made again."""
    op.execute("DELETE FROM timers WHERE kind = 'alert_retention'")  # Nobody would know what to do when it is due.
    for table in NEW_TABLES:
        op.drop_table(table)


def _create_sums() -> None:
    op.create_table(
        "rollups",
        *(sa.Column(name, kind, nullable=False) for name, kind in BUCKET),
        sa.Column("start", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False, server_default="0") for name in NAMES),
        sa.Column("reputation_centi", sa.Integer()),
        sa.PrimaryKeyConstraint("scope", "span", "start"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_rollups_minutes", "rollups", ["start"], sqlite_where=IS_MINUTE, postgresql_where=IS_MINUTE)
    op.create_table(
        "rollup_revenue",
        *(sa.Column(name, kind, nullable=False) for name, kind in BUCKET),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("gross", sa.BigInteger(), nullable=False),
        sa.Column("fees", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "span", "kind", "start", "name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rollup_latencies",
        *(sa.Column(name, kind, nullable=False) for name, kind in BUCKET),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "span", "start", "bucket"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "capability_totals",
        *(sa.Column(name, sa.String(), nullable=False) for name in ("capability", "agent_id", "owner_id")),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("completed", "failed", "execution_ms", "executions")
        ),
        sa.PrimaryKeyConstraint("capability", "agent_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "former_agents",
        sa.Column("agent_id", sa.String(), primary_key=True),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("handle", sa.String(), nullable=False),
    )


def _create_alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("agent_id", sa.String()),
        sa.Column("owner_id", sa.String()),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("type", "severity", "subject")),
    )
    for columns in (
        ("agent_id", "status", "id"),
        ("owner_id", "status", "id"),
        ("subject", "type", "status"),
        ("status", "id"),
    ):
        op.create_index(f"ix_alerts_{'_'.join(columns)}", "alerts", list(columns))
    op.create_table(
        "recent_ends",
        sa.Column("agent_id", sa.String(), primary_key=True),
        sa.Column("ends", sa.Text(), nullable=False),
    )
    op.create_table(
        "alert_thresholds",
        sa.Column("agent_id", sa.String(), primary_key=True),
        sa.Column("balance_below", sa.BigInteger(), nullable=False),
    )
