"""Messages between agents, chat rooms, and private channels."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

KEPT = timedelta(days=7)
NEW_TABLES = ("private_contexts", "private_members", "private_channels", "room_deliveries", "room_messages")
OLD_INDEX = ("ix_messages_to_agent_id_status_id", ["to_agent_id", "status", "id"])
NEW_INDEXES = (
    ("ix_messages_to_agent_id_status_id_expires_at", ["to_agent_id", "status", "id", "expires_at"]),
    ("ix_messages_to_agent_id_from_agent_id_status", ["to_agent_id", "from_agent_id", "status"]),
    ("ix_messages_to_agent_id_from_owner_id_status", ["to_agent_id", "from_owner_id", "status"]),
    ("ix_messages_from_agent_id_id", ["from_agent_id", "id"]),
    (
        "ix_messages_from_agent_id_status_id_expires_at",
        ["from_agent_id", "status", "id", "expires_at"],
    ),
    ("ix_messages_from_agent_id_dedup_key", ["from_agent_id", "dedup_key"]),
)
PAGE_ROWS_MAX = 256
PAGE = "SELECT id, status, state, created_at FROM messages WHERE id > :last ORDER BY id LIMIT :limit"
"""A mailbox can be larger than the memory: messages are read page by page."""

DATED = "UPDATE messages SET state = :state, from_agent_id = :from_agent_id, expires_at = :expires_at WHERE id = :id"
STATE = (
    ("status", sa.String()),
    ("version", sa.Integer()),
    ("state", sa.Text()),
    ("created_at", sa.BigInteger()),
)


def upgrade() -> None:
    """Go forward. Messages that there are get the time at which they expire."""
    with op.batch_alter_table("messages") as messages:
        messages.add_column(sa.Column("from_agent_id", sa.String()))
        messages.add_column(sa.Column("dedup_key", sa.String()))
        messages.add_column(sa.Column("expires_at", sa.BigInteger(), nullable=False, server_default="0"))
        messages.add_column(sa.Column("from_owner_id", sa.String()))
    op.drop_index(OLD_INDEX[0], "messages")
    for name, columns in NEW_INDEXES:
        op.create_index(name, "messages", columns)
    _date_messages()
    _create_rooms()
    _create_private_channels()


def downgrade() -> None:
    """Go back. Rooms, private channels, and messages that were rejected or have expired are lost.

    So are messages that agents wrote, answered or not: the version before shows whatever it has as the market's own.
    And it reads no payload but objects, so what an operator wrote in another form is lost, too. It delivers what is
    queued, and knows nothing of what was delivered and not acknowledged: that is queued again.
    """
    for table in (*NEW_TABLES, "room_sides", "rooms"):
        op.drop_table(table)
    op.execute("DELETE FROM timers WHERE kind IN ('mailbox', 'private_idle', 'deal_lapses')")
    op.execute(
        "DELETE FROM messages WHERE status IN ('rejected', 'expired') OR NOT json_extract(state, '$.is_from_market')"
        " OR json_type(state, '$.payload') <> 'object'"
    )
    op.execute(
        "UPDATE messages SET status = 'queued', state = json_set(state, '$.status', 'queued')"
        " WHERE status = 'delivered'"
    )
    for name, _ in NEW_INDEXES:
        op.drop_index(name, "messages")
    with op.batch_alter_table("messages") as messages:
        for column in ("from_owner_id", "expires_at", "dedup_key", "from_agent_id"):
            messages.drop_column(column)
    op.create_index(OLD_INDEX[0], "messages", OLD_INDEX[1])


def _date_messages() -> None:
    """What there is expires as what comes: a week after it was written; its mailbox is looked through from then on."""
    bind = op.get_bind()
    last = ""
    while rows := bind.execute(sa.text(PAGE), {"last": last, "limit": PAGE_ROWS_MAX}).fetchall():
        bind.execute(sa.text(DATED), [_dated(*row) for row in rows])
        last = rows[-1][0]
    bind.execute(
        sa.text(
            "INSERT INTO timers (topic, kind, due_at) SELECT 'messages:' || to_agent_id, 'mailbox', min(expires_at)"
            " FROM messages GROUP BY to_agent_id"
        )
    )


def _dated(id_: str, status: str, text: str, created_ms: int) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(text)
    expires_at = datetime.fromtimestamp(created_ms / 1_000, UTC) + KEPT
    state |= {"expires_at": expires_at.isoformat(), "is_from_market": True}
    if status == "acknowledged":
        state["ended_at"] = state["inserted_at"]
    return {
        "id": id_,
        "state": json.dumps(state),
        "from_agent_id": state.get("from_agent_id"),
        "expires_at": _ms(expires_at),
    }


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)


def _create_rooms() -> None:
    _create_states("rooms", "maker_user_id")
    op.create_index("ix_rooms_maker_user_id_status", "rooms", ["maker_user_id", "status"])
    op.create_table(
        "room_sides",
        sa.Column("room_id", sa.String(), nullable=False),
        sa.Column("entity_id", sa.String(), nullable=False),
        sa.Column("maker_user_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("entity_id", "room_id"),
    )
    op.create_index("ix_room_sides_room_id", "room_sides", ["room_id"])
    op.create_index("ix_room_sides_entity_id_maker_user_id", "room_sides", ["entity_id", "maker_user_id"])
    op.create_table(
        "room_messages",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("room_id", sa.String(), nullable=False),
        sa.Column("sender_id", sa.String(), nullable=False),
        sa.Column("is_text", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_room_messages_room_id_id", "room_messages", ["room_id", "id"])
    op.create_index("ix_room_messages_sender_id_room_id_id", "room_messages", ["sender_id", "room_id", "id"])
    _create_states("room_deliveries", "message_id", "room_id", "recipient_id")
    op.create_index(
        "ix_room_deliveries_recipient_id_room_id_status_message_id",
        "room_deliveries",
        ["recipient_id", "room_id", "status", "message_id"],
    )
    op.create_index("ix_room_deliveries_message_id", "room_deliveries", ["message_id"])


def _create_private_channels() -> None:
    _create_states("private_channels", "owner_agent_id")
    op.add_column("private_channels", sa.Column("party_agent_id", sa.String(), nullable=True))
    op.create_index("ix_private_channels_party_agent_id_id", "private_channels", ["party_agent_id", "id"])
    op.create_index("ix_private_channels_owner_agent_id_status", "private_channels", ["owner_agent_id", "status"])
    op.create_index("ix_private_channels_owner_agent_id_id", "private_channels", ["owner_agent_id", "id"])
    op.create_table(
        "private_members",
        sa.Column("channel_id", sa.String(), nullable=False),
        sa.Column("agent_id", sa.String(), nullable=False),
        sa.Column("instance_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("channel_id", "agent_id", "instance_id"),
    )
    op.create_index("ix_private_members_agent_id_channel_id", "private_members", ["agent_id", "channel_id"])
    op.create_table(
        "private_contexts",
        sa.Column("channel_id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("channel_id", "type"),
    )
    op.create_index("ix_private_contexts_channel_id_number", "private_contexts", ["channel_id", "number"])


def _create_states(name: str, *columns: str) -> None:
    """A table of states, with columns that say whose they are."""
    op.create_table(
        name,
        sa.Column("id", sa.String(), primary_key=True),
        *(sa.Column(column, sa.String(), nullable=False) for column in columns),
        *(sa.Column(column, kind, nullable=False) for column, kind in STATE),
    )
