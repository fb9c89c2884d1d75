"""Contacts."""

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

PENDING = sa.text("status = 'pending'")
PLACE = ("number", "place")
INDEXES = (["is_findable", "place"], ["is_global", "id"], ["organisation_id", "id"])
TEXTS = ("agent_id", "name", "description", "tags", "capabilities")
PROFILE = ("first_name", "last_name", "email")
ACTIVE = sa.text("status = 'active'")


def upgrade() -> None:
    """Go forward."""
    _contact_requests()
    _contacts()
    _blocks()
    with op.batch_alter_table("users") as users:
        for name in PROFILE:
            users.add_column(sa.Column(name, sa.String(), nullable=True))
    op.create_index("ix_users_organisation_id", "users", ["organisation_id"])
    _known_are_contacts()
    _places()


def _contact_requests() -> None:
    op.create_table(
        "contact_requests",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("requester_id", sa.String(), nullable=False),
        sa.Column("recipient_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("is_to_stranger", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    for columns in (
        ["requester_id", "status", "id"],
        ["requester_id", "created_at"],
        ["recipient_id", "status", "id"],
    ):
        op.create_index(f"ix_contact_requests_{'_'.join(columns)}", "contact_requests", columns)
    op.create_index(
        "uq_contact_requests_pending",
        "contact_requests",
        ["requester_id", "recipient_id"],
        unique=True,
        sqlite_where=PENDING,
        postgresql_where=PENDING,
    )


def _contacts() -> None:
    op.create_table(
        "contacts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("requester_id", sa.String(), nullable=False),
        sa.Column("recipient_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_contacts_requester_id_recipient_id", "contacts", ["requester_id", "recipient_id"])
    op.create_table(
        "contact_sides",
        sa.Column("entity_id", sa.String(), nullable=False),
        sa.Column("other_id", sa.String(), nullable=False),
        sa.Column("contact_id", sa.String(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("entity_id", "other_id"),
    )
    op.create_index("ix_contact_sides_entity_id_contact_id", "contact_sides", ["entity_id", "contact_id"])


def _blocks() -> None:
    op.create_table(
        "blocks",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("blocker_id", sa.String(), nullable=False),
        sa.Column("blocked_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_blocks_blocker_id_status_id", "blocks", ["blocker_id", "status", "id"])
    op.create_index("ix_blocks_blocked_id_status", "blocks", ["blocked_id", "status"])
    op.create_index(
        "uq_blocks_active",
        "blocks",
        ["blocker_id", "blocked_id"],
        unique=True,
        sqlite_where=ACTIVE,
        postgresql_where=ACTIVE,
    )


def _known_are_contacts() -> None:
    """Who would be contacts had they been made today: each agent and its owner, and the members of an organisation."""
    connection = op.get_bind()
    for agent_id, owner_id, created_at in connection.execute(sa.text("SELECT id, owner_id, created_at FROM agents")):
        _befriend(_side(owner_id), _side(agent_id, owner_id), "owner", created_at)
    members = connection.execute(
        sa.text(
            "SELECT a.id, b.id, max(a.created_at, b.created_at) FROM users a JOIN users b"
            " ON a.organisation_id = b.organisation_id AND a.id < b.id"
        )
    )
    for one, other, since in members:
        _befriend(_side(other), _side(one), "organisation", since)


def _side(id_: str, owner_id: str | None = None) -> dict[str, str]:
    return {"id": id_, "type": "User" if owner_id is None else "Agent", "user_id": owner_id or id_}


def _befriend(requester: dict[str, str], recipient: dict[str, str], origin: str, created_at: int) -> None:
    contact_id = str(uuid.uuid4())
    state = {
        "id": contact_id,
        "requester": requester,
        "recipient": recipient,
        "origin": origin,
        "status": "active",
        "inserted_at": datetime.fromtimestamp(created_at / 1_000, UTC).isoformat(timespec="milliseconds"),
    }
    connection = op.get_bind()
    connection.execute(
        sa.text(
            "INSERT INTO contacts (id, requester_id, recipient_id, status, version, state, created_at)"
            " VALUES (:id, :requester, :recipient, 'active', 1, :state, :created_at)"
        ),
        {
            "id": contact_id,
            "requester": requester["id"],
            "recipient": recipient["id"],
            "state": json.dumps(state),
            "created_at": created_at,
        },
    )
    for one, other in ((requester, recipient), (recipient, requester)):
        connection.execute(
            sa.text("INSERT INTO contact_sides (entity_id, other_id, contact_id) VALUES (:one, :other, :contact_id)"),
            {"one": one["id"], "other": other["id"], "contact_id": contact_id},
        )


def _places() -> None:
    """Each agent's place in the directory, which is the rowid of its text."""
    with op.batch_alter_table("agents") as agents:
        for name in PLACE:
            agents.add_column(sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    connection = op.get_bind()
    texts = {
        row[0]: row
        for row in connection.execute(
            sa.text("SELECT agent_id, name, description, tags, capabilities FROM agents_text")
        )
    }
    op.execute("DROP TABLE agents_text")
    op.execute(
        "CREATE VIRTUAL TABLE agents_text USING fts5 (agent_id UNINDEXED, name, description, tags, capabilities,"
        " tokenize = 'unicode61 remove_diacritics 2', prefix = '1 2 3')"
    )
    agents_found = connection.execute(sa.text("SELECT id, state FROM agents ORDER BY id")).all()
    for number, (agent_id, state) in enumerate(agents_found, start=1):
        place = ((500 - _reputation_centi(json.loads(state))) << 40) | number
        connection.execute(
            sa.text("UPDATE agents SET number = :number, place = :place WHERE id = :id"),
            {"number": number, "place": place, "id": agent_id},
        )
        if agent_id in texts:
            connection.execute(
                sa.text(
                    "INSERT INTO agents_text (rowid, agent_id, name, description, tags, capabilities)"
                    " VALUES (:rowid, :agent_id, :name, :description, :tags, :capabilities)"
                ),
                {"rowid": place, **dict(zip(TEXTS, texts[agent_id], strict=True))},
            )
    op.create_index("ix_agents_number", "agents", ["number"], unique=True)
    for columns in INDEXES:
        op.create_index(f"ix_agents_{'_'.join(columns)}", "agents", columns)


def _reputation_centi(agent: dict[str, Any]) -> int:
    """Hundredths of stars, as they were reckoned when this was written."""
    completed: int = agent.get("tasks_completed", 0)
    failed: int = agent.get("tasks_failed", 0)
    counted = completed + failed + 5
    return min(500, (5 * (100 * completed + 350) * 2 + counted) // (2 * counted))


def downgrade() -> None:
    """Go back: contacts, requests and blocks are lost."""
    for columns in INDEXES:
        op.drop_index(f"ix_agents_{'_'.join(columns)}", table_name="agents")
    op.drop_index("ix_agents_number", table_name="agents")
    with op.batch_alter_table("agents") as agents:
        for name in PLACE:
            agents.drop_column(name)
    op.drop_index("ix_users_organisation_id", table_name="users")
    with op.batch_alter_table("users") as users:
        for name in PROFILE:
            users.drop_column(name)
    for table in ("blocks", "contact_sides", "contacts", "contact_requests"):
        op.drop_table(table)
