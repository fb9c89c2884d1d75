"""The first deal."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "accounts",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("balance", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("balance >= 0 OR name = 'external'", name="never_below_zero"),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "agent_tags",
        sa.Column("agent_id", sa.String(), nullable=False),
        sa.Column("tag", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "tag"),
    )
    op.create_table(
        "agents",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("handle", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("organisation_id", sa.String(), nullable=True),
        sa.Column("is_global", sa.Boolean(), nullable=False),
        sa.Column("is_findable", sa.Boolean(), nullable=False),
        sa.Column("public_key", sa.String(), nullable=True),
        sa.Column("presence", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("handle", name=op.f("uq_agents_handle")),
        sa.UniqueConstraint("public_key", name=op.f("uq_agents_public_key")),
    )
    op.create_index(op.f("ix_agents_owner_id_id"), "agents", ["owner_id", "id"])

    op.create_table(
        "announcements",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("key_hash", sa.String(), nullable=False),
        sa.Column("hint", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("agent_id", sa.String(), nullable=True),
        sa.Column("parent_id", sa.String(), nullable=True),
        sa.Column("scopes", sa.String(), nullable=False),
        sa.Column("max_amount", sa.BigInteger(), nullable=True),
        sa.Column("max_amount_per_day", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key_hash", name=op.f("uq_api_keys_key_hash")),
    )
    op.create_index(op.f("ix_api_keys_agent_id"), "api_keys", ["agent_id"])
    op.create_index(op.f("ix_api_keys_user_id_id"), "api_keys", ["user_id", "id"])

    op.create_table(
        "auth_sessions",
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("agent_id", sa.String(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash"),
    )
    op.create_index(op.f("ix_auth_sessions_expires_at"), "auth_sessions", ["expires_at"])
    op.create_index(op.f("ix_auth_sessions_key_id"), "auth_sessions", ["key_id"])

    op.create_table(
        "chunks",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("direction", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("chunk", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "direction", "seq"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("caller", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("caller", "path", "key"),
    )
    op.create_index(op.f("ix_idempotency_keys_expires_at"), "idempotency_keys", ["expires_at"])

    op.create_table(
        "key_challenges",
        sa.Column("challenge_hash", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("challenge_hash"),
    )
    op.create_table(
        "ledger_entries",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=True),
        sa.Column("memo", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_ledger_entries_task_id"), "ledger_entries", ["task_id"])

    op.create_table(
        "listings",
        sa.Column("agent_id", sa.String(), nullable=False),
        sa.Column("capability", sa.String(), nullable=False),
        sa.Column("is_online", sa.Integer(), nullable=False),
        sa.Column("presence", sa.String(), nullable=False),
        sa.Column("reputation_centi", sa.Integer(), nullable=False),
        sa.Column("price", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "capability"),
    )
    op.create_table(
        "market",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "messages",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("to_agent_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_messages_to_agent_id_status_id"), "messages", ["to_agent_id", "status", "id"])

    op.create_table(
        "negotiations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("client_agent_id", sa.String(), nullable=False),
        sa.Column("provider_agent_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_negotiations_client_agent_id_id"), "negotiations", ["client_agent_id", "id"])
    op.create_index(
        op.f("ix_negotiations_client_agent_id_provider_agent_id_status"),
        "negotiations",
        ["client_agent_id", "provider_agent_id", "status"],
    )
    op.create_index(op.f("ix_negotiations_provider_agent_id_id"), "negotiations", ["provider_agent_id", "id"])

    op.create_table(
        "organisations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", name=op.f("uq_organisations_name")),
    )
    op.create_table(
        "outcomes",
        sa.Column("provider_agent_id", sa.String(), nullable=False),
        sa.Column("client_owner_id", sa.String(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("is_completed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("provider_agent_id", "client_owner_id", "day"),
        sa.UniqueConstraint("task_id", name=op.f("uq_outcomes_task_id")),
    )
    op.create_table(
        "postings",
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("entry_id", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "entry_id"),
    )
    op.create_index(op.f("ix_postings_entry_id"), "postings", ["entry_id"])

    op.create_table(
        "spending",
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", "day"),
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("client_agent_id", sa.String(), nullable=False),
        sa.Column("provider_agent_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_tasks_client_agent_id_id"), "tasks", ["client_agent_id", "id"])
    op.create_index(
        op.f("ix_tasks_client_agent_id_provider_agent_id_status"),
        "tasks",
        ["client_agent_id", "provider_agent_id", "status"],
    )
    op.create_index(op.f("ix_tasks_provider_agent_id_id"), "tasks", ["provider_agent_id", "id"])

    op.create_table(
        "timers",
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("topic", "kind"),
    )
    op.create_index(op.f("ix_timers_due_at"), "timers", ["due_at"])

    op.create_table(
        "users",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("handle", sa.String(), nullable=False),
        sa.Column("organisation_id", sa.String(), nullable=True),
        sa.Column("is_operator", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("handle", name=op.f("uq_users_handle")),
    )
    op.execute(
        "CREATE INDEX ix_listings_order ON listings"
        " (capability, is_online DESC, reputation_centi DESC, price, agent_id)"
    )
    op.execute(
        "CREATE VIRTUAL TABLE agents_text USING fts5"
        " (agent_id UNINDEXED, name, description, tags, capabilities, tokenize = 'unicode61 remove_diacritics 2')"
    )


def downgrade() -> None:
    """Go back."""
    op.execute("DROP TABLE agents_text")
    op.drop_table("users")
    op.drop_index("ix_timers_due_at", "timers")

    op.drop_table("timers")
    op.drop_index("ix_tasks_provider_agent_id_id", "tasks")
    op.drop_index("ix_tasks_client_agent_id_provider_agent_id_status", "tasks")
    op.drop_index("ix_tasks_client_agent_id_id", "tasks")

    op.drop_table("tasks")
    op.drop_table("spending")
    op.drop_index("ix_postings_entry_id", "postings")

    op.drop_table("postings")
    op.drop_table("outcomes")
    op.drop_table("organisations")
    op.drop_index("ix_negotiations_provider_agent_id_id", "negotiations")
    op.drop_index("ix_negotiations_client_agent_id_provider_agent_id_status", "negotiations")
    op.drop_index("ix_negotiations_client_agent_id_id", "negotiations")

    op.drop_table("negotiations")
    op.drop_index("ix_messages_to_agent_id_status_id", "messages")

    op.drop_table("messages")
    op.drop_table("market")
    op.drop_table("listings")
    op.drop_index("ix_ledger_entries_task_id", "ledger_entries")

    op.drop_table("ledger_entries")
    op.drop_table("key_challenges")
    op.drop_index("ix_idempotency_keys_expires_at", "idempotency_keys")

    op.drop_table("idempotency_keys")
    op.drop_table("chunks")
    op.drop_index("ix_auth_sessions_key_id", "auth_sessions")
    op.drop_index("ix_auth_sessions_expires_at", "auth_sessions")

    op.drop_table("auth_sessions")
    op.drop_index("ix_api_keys_user_id_id", "api_keys")
    op.drop_index("ix_api_keys_agent_id", "api_keys")

    op.drop_table("api_keys")
    op.drop_table("announcements")
    op.drop_index("ix_agents_owner_id_id", "agents")

    op.drop_table("agents")
    op.drop_table("agent_tags")
    op.drop_table("accounts")
