"""Payment channels."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

INDEXES = (
    ["agent_a_id", "agent_b_id", "status"],
    ["agent_a_id", "id"],
    ["agent_b_id", "id"],
    ["agent_b_id", "status"],
    ["status", "id"],
)


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "payment_channels",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("agent_a_id", sa.String(), nullable=False),
        sa.Column("agent_b_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    for columns in INDEXES:
        op.create_index(f"ix_payment_channels_{'_'.join(columns)}", "payment_channels", columns)
    op.create_table(
        "channel_steps",
        sa.Column("channel_id", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("channel_id", "number"),
    )
    op.create_index("uq_channel_steps_nonce", "channel_steps", ["channel_id", "nonce"], unique=True)
    with op.batch_alter_table("ledger_entries") as entries:
        entries.add_column(sa.Column("channel_id", sa.String(), nullable=True))
    op.create_index("ix_ledger_entries_channel_id", "ledger_entries", ["channel_id"])


def downgrade() -> None:
    """Go back, unless money is locked: the tables that say whose it is would be gone.

    Raises:
        RuntimeError: A channel has not ended.
    """
    locked = op.get_bind().execute(
        sa.text("SELECT count(*) FROM payment_channels WHERE status NOT IN ('closed', 'declined', 'expired')")
    )
    if locked.scalar():
        raise RuntimeError("money is locked in payment channels: close them before going back")
    op.execute("DELETE FROM timers WHERE topic LIKE 'payment:%'")  # An earlier program does not know what to do then.
    op.drop_index("ix_ledger_entries_channel_id", "ledger_entries")
    with op.batch_alter_table("ledger_entries") as entries:
        entries.drop_column("channel_id")
    op.drop_table("channel_steps")
    op.drop_table("payment_channels")
