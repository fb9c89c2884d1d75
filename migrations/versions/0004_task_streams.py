"""Task streams that resume: how each chunk was sent, checkpoints, the running digest, and when chunks are deleted."""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

KEPT = timedelta(days=7)
PRICE_IS_HELD = sa.text("json_extract(state, '$.escrow_status') = 'held'")
IS_DISPUTED = sa.text("status = 'disputed'")


def upgrade() -> None:
    """Go forward. Streams that there are get their running digest, and ended tasks the time their chunks are kept."""
    with op.batch_alter_table("chunks") as chunks:
        chunks.add_column(sa.Column("encoding", sa.String(), nullable=False, server_default="base64"))
    op.create_table(
        "checkpoints",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("task_id"),
    )
    for name, column, where in (
        ("ix_tasks_held", "client_agent_id", PRICE_IS_HELD),
        ("ix_tasks_disputed", "id", IS_DISPUTED),
    ):
        op.create_index(name, "tasks", [column], sqlite_where=where, postgresql_where=where)
    bind = op.get_bind()
    for id_, text in bind.execute(sa.text("SELECT id, state FROM tasks ORDER BY id")).fetchall():
        state: dict[str, Any] = json.loads(text)
        for direction in ("input", "output"):
            stream = state.get(f"{direction}_stream")
            if stream and stream.get("next_seq"):
                stream["digest"] = _digest(bind, id_, direction)
        if state.get("ended_at"):
            kept_until = datetime.fromisoformat(state["ended_at"]) + KEPT
            state["kept_until"] = kept_until.isoformat()
            bind.execute(
                sa.text("INSERT INTO timers (topic, kind, due_at) VALUES (:topic, 'task_retention', :due_at)"),
                {"topic": f"task:{id_}", "due_at": int(kept_until.timestamp() * 1_000)},
            )
        bind.execute(sa.text("UPDATE tasks SET state = :state WHERE id = :id"), {"id": id_, "state": json.dumps(state)})


def downgrade() -> None:
    """Go back, unless a price is held that the version before does not know of.

    Raises:
        RuntimeError: A task is disputed, or its price is held after its completion, or was split, or it is paid as it
            streams.
    """
    unknown = op.get_bind().execute(
        sa.text(
            "SELECT count(*) FROM tasks WHERE status = 'disputed' OR (status = 'completed'"
            " AND json_extract(state, '$.escrow_status') IN ('held', 'split')) OR (status IN ('pending', 'in_progress')"
            " AND json_extract(state, '$.stream_price') IS NOT NULL)"
        )
    )
    if unknown.scalar_one():
        raise RuntimeError("tasks are disputed, held, split or paid as they stream: the version before has no such")
    # What came out of order the version before takes again, in order.
    op.execute(
        "DELETE FROM chunks WHERE seq >= (SELECT CASE chunks.direction WHEN 'input' THEN"
        " json_extract(state, '$.input_stream.next_seq') ELSE json_extract(state, '$.output_stream.next_seq') END"
        " FROM tasks WHERE tasks.id = chunks.task_id)"
    )
    op.execute(
        "UPDATE tasks SET state = json_remove(state, '$.input_stream.ahead', '$.output_stream.ahead',"
        " '$.checkpoint_seq')"
    )
    op.execute("DELETE FROM timers WHERE kind IN ('task_retention', 'task_hold', 'task_decision')")
    op.drop_table("checkpoints")
    op.drop_index("ix_tasks_held", "tasks")
    op.drop_index("ix_tasks_disputed", "tasks")
    with op.batch_alter_table("chunks") as chunks:
        chunks.drop_column("encoding")


def _digest(bind: sa.Connection, task_id: str, direction: str) -> str:
    """SHA-256 of the digest before, the seq in 8 bytes and the chunk, chunk by chunk."""
    digest = bytes(32)
    rows = bind.execute(
        sa.text("SELECT seq, chunk FROM chunks WHERE task_id = :id AND direction = :direction ORDER BY seq"),
        {"id": task_id, "direction": direction},
    )
    for seq, chunk in rows:
        digest = hashlib.sha256(digest + seq.to_bytes(8, "big") + chunk).digest()
    return digest.hex()
