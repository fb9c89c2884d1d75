"""The schema; what is counted and watched stands in watched_tables.py. Migrations create it; a test compares the two.

Times are integers: milliseconds since 1970, UTC. States are JSON as msgspec writes it, beside the columns that queries
and constraints need. `version` counts a row's changes: every save is conditional on it.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s"}
)

PRICE_IS_HELD = "json_extract(state, '$.escrow_status') = 'held'"
IS_DISPUTED = "status = 'disputed'"


def states(name: str, *more: Column[Any] | Index) -> Table:
    """A table of states: the JSON, what every state has beside it, and the columns that it is found by."""
    return Table(
        name,
        metadata,
        Column("id", String, primary_key=True),
        Column("status", String, nullable=False),
        Column("version", Integer, nullable=False),
        Column("state", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        *more,
    )


market = Table("market", metadata, Column("name", String, primary_key=True), Column("value", String, nullable=False))
"""What is fixed for this deployment: signing_domain, currency, exponent."""

organisations = Table(
    "organisations",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", String, primary_key=True),
    Column("handle", String, nullable=False, unique=True),
    Column("organisation_id", String),
    Column("is_operator", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("first_name", String),
    Column("last_name", String),
    Column("email", String),
    Index(None, "organisation_id"),
)

agents = Table(
    "agents",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner_id", String, nullable=False),
    Column("handle", String, nullable=False, unique=True),
    Column("status", String, nullable=False),
    Column("organisation_id", String),
    Column("is_global", Boolean, nullable=False),
    Column("is_findable", Boolean, nullable=False),
    Column("public_key", String, unique=True),
    Column("presence", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("place", BigInteger, nullable=False),
    Index(None, "owner_id", "id"),
    Index(None, "number", unique=True),
    Index(None, "is_findable", "place"),
    Index(None, "is_global", "id"),
    Index(None, "organisation_id", "id"),
)
"""`is_findable`: active, listed, with a tag: strangers find it in `discover` and the directory. `number` counts them.
`place` is that and the reputation, best first: the order of the directory, and the rowid of its text in `agents_text`.
"""

agent_tags = Table(
    "agent_tags",
    metadata,
    Column("agent_id", String, nullable=False),
    Column("tag", String, nullable=False),
    PrimaryKeyConstraint("agent_id", "tag"),
)

listings = Table(
    "listings",
    metadata,
    Column("agent_id", String, nullable=False),
    Column("capability", String, nullable=False),
    Column("is_online", Integer, nullable=False),
    Column("presence", String, nullable=False),
    Column("reputation_centi", Integer, nullable=False),
    Column("price", BigInteger, nullable=False),
    PrimaryKeyConstraint("agent_id", "capability"),
    Index(
        "ix_listings_order", "capability", text("is_online DESC"), text("reputation_centi DESC"), "price", "agent_id"
    ),
)
"""Active agents in the order of `discover`: one row per capability, and one with an empty capability for them all."""

key_challenges = Table(
    "key_challenges",
    metadata,
    Column("challenge_hash", String, primary_key=True),
    Column("user_id", String, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("key_hash", String, nullable=False, unique=True),
    Column("hint", String, nullable=False),
    Column("name", String, nullable=False),
    Column("user_id", String, nullable=False),
    Column("agent_id", String),
    Column("parent_id", String),
    Column("scopes", String, nullable=False),
    Column("max_amount", BigInteger),
    Column("max_amount_per_day", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Index(None, "user_id", "id"),
    Index(None, "agent_id"),
)
"""`parent_id`: the key that made it. Spending counts against a key and all that it descends from."""

auth_sessions = Table(
    "auth_sessions",
    metadata,
    Column("token_hash", String, primary_key=True),
    Column("key_id", String, nullable=False),
    Column("agent_id", String),
    Column("expires_at", BigInteger, nullable=False),
    Index(None, "key_id"),
    Index(None, "expires_at"),
)

spending = Table(
    "spending",
    metadata,
    Column("key_id", String, nullable=False),
    Column("day", String, nullable=False),
    Column("amount", BigInteger, nullable=False),
    PrimaryKeyConstraint("key_id", "day"),
)
"""What left `available` by a key in one UTC day."""

negotiations = states(
    "negotiations",
    Column("client_agent_id", String, nullable=False),
    Column("provider_agent_id", String, nullable=False),
    Index(None, "client_agent_id", "provider_agent_id", "status"),
    Index(None, "client_agent_id", "id"),
    Index(None, "provider_agent_id", "id"),
)

tasks = states(
    "tasks",
    Column("client_agent_id", String, nullable=False),
    Column("provider_agent_id", String, nullable=False),
    Index(None, "client_agent_id", "provider_agent_id", "status"),
    Index(None, "client_agent_id", "id"),
    Index(None, "provider_agent_id", "id"),
    Index("ix_tasks_held", "client_agent_id", sqlite_where=text(PRICE_IS_HELD), postgresql_where=text(PRICE_IS_HELD)),
    Index("ix_tasks_disputed", "id", sqlite_where=text(IS_DISPUTED), postgresql_where=text(IS_DISPUTED)),
)
"""Those whose price is held, and those that are disputed, are few among all that there ever were."""


payment_channels = states(
    "payment_channels",
    Column("agent_a_id", String, nullable=False),
    Column("agent_b_id", String, nullable=False),
    Index(None, "agent_a_id", "agent_b_id", "status"),
    Index(None, "agent_a_id", "id"),
    Index(None, "agent_b_id", "id"),
    Index(None, "agent_b_id", "status"),
    Index(None, "status", "id"),
)

channel_steps = Table(
    "channel_steps",
    metadata,
    Column("channel_id", String, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("kind", String, nullable=False),
    Column("nonce", BigInteger),
    Column("state", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("channel_id", "number"),
    Index("uq_channel_steps_nonce", "channel_id", "nonce", unique=True),
)
"""The history of each payment channel: only appended. A nonce is used up once."""

chunks = Table(
    "chunks",
    metadata,
    Column("task_id", String, nullable=False),
    Column("direction", String, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("chunk", LargeBinary, nullable=False),
    Column("encoding", String, nullable=False, server_default="base64"),
    PrimaryKeyConstraint("task_id", "direction", "seq"),
)
"""`encoding`: as the chunk was sent, `utf8`, `base64` or `binary`."""

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("task_id", String, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
)
"""The newest one of each task."""

accounts = Table(
    "accounts",
    metadata,
    Column("name", String, primary_key=True),
    Column("balance", BigInteger, nullable=False),
    CheckConstraint("balance >= 0 OR name = 'external'", name="never_below_zero"),
)

ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("task_id", String),
    Column("memo", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("channel_id", String),
    Index(None, "task_id"),
    Index(None, "channel_id"),
)

postings = Table(
    "postings",
    metadata,
    Column("account", String, nullable=False),
    Column("entry_id", String, nullable=False),
    Column("amount", BigInteger, nullable=False),
    PrimaryKeyConstraint("account", "entry_id"),
    Index(None, "entry_id"),
)

timers = Table(
    "timers",
    metadata,
    Column("topic", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("topic", "kind"),
    Index(None, "due_at"),
)

messages = states(
    "messages",
    Column("to_agent_id", String, nullable=False),
    Column("from_agent_id", String),
    Column("dedup_key", String),
    Column("expires_at", BigInteger, nullable=False, server_default="0"),
    Column("from_owner_id", String),
    Index(None, "to_agent_id", "status", "id", "expires_at"),
    Index(None, "to_agent_id", "from_agent_id", "status"),
    Index(None, "to_agent_id", "from_owner_id", "status"),
    Index(None, "from_agent_id", "id"),
    Index(None, "from_agent_id", "status", "id", "expires_at"),
    Index(None, "from_agent_id", "dedup_key"),
)

rooms = states(
    "rooms",
    Column("maker_user_id", String, nullable=False),
    Index(None, "maker_user_id", "status"),
)

room_sides = Table(
    "room_sides",
    metadata,
    Column("room_id", String, nullable=False),
    Column("entity_id", String, nullable=False),
    Column("maker_user_id", String, nullable=False),
    PrimaryKeyConstraint("entity_id", "room_id"),
    Index(None, "room_id"),
    Index(None, "entity_id", "maker_user_id"),
)
"""Who takes part in which room that is there, and whose house has made it."""

room_messages = Table(
    "room_messages",
    metadata,
    Column("id", String, primary_key=True),
    Column("room_id", String, nullable=False),
    Column("sender_id", String, nullable=False),
    Column("is_text", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "room_id", "id"),
    Index(None, "sender_id", "room_id", "id"),
)
"""Texts and events: only appended."""

room_deliveries = states(
    "room_deliveries",
    Column("message_id", String, nullable=False),
    Column("room_id", String, nullable=False),
    Column("recipient_id", String, nullable=False),
    Index(None, "recipient_id", "room_id", "status", "message_id"),
    Index(None, "message_id"),
)
"""Each text, as it stands for each of those whom it names."""

private_channels = states(
    "private_channels",
    Column("owner_agent_id", String, nullable=False),
    Column("party_agent_id", String),
    Index(None, "owner_agent_id", "status"),
    Index(None, "owner_agent_id", "id"),
    Index(None, "party_agent_id", "id"),
)
"""`party_agent_id` is the other agent of the deal that a channel was made for."""

private_members = Table(
    "private_members",
    metadata,
    Column("channel_id", String, nullable=False),
    Column("agent_id", String, nullable=False),
    Column("instance_id", String, nullable=False),
    PrimaryKeyConstraint("channel_id", "agent_id", "instance_id"),
    Index(None, "agent_id", "channel_id"),
)
"""Who sits in which private channel that is there."""

private_contexts = Table(
    "private_contexts",
    metadata,
    Column("channel_id", String, nullable=False),
    Column("type", String, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("context", Text, nullable=False),
    PrimaryKeyConstraint("channel_id", "type"),
    Index(None, "channel_id", "number"),
)
"""The newest context of each type; `number` says which is newer."""

contact_requests = states(
    "contact_requests",
    Column("requester_id", String, nullable=False),
    Column("recipient_id", String, nullable=False),
    Column("is_to_stranger", Boolean, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index(None, "requester_id", "status", "id"),
    Index(None, "requester_id", "created_at"),
    Index(None, "recipient_id", "status", "id"),
    Index(
        "uq_contact_requests_pending",
        "requester_id",
        "recipient_id",
        unique=True,
        sqlite_where=text("status = 'pending'"),
        postgresql_where=text("status = 'pending'"),
    ),
)
"""At most one is pending for each ordered pair."""

contacts = states(
    "contacts",
    Column("requester_id", String, nullable=False),
    Column("recipient_id", String, nullable=False),
    Index(None, "requester_id", "recipient_id"),
)
"""Every contact that there ever was; those that hold have two rows in `contact_sides`."""

contact_sides = Table(
    "contact_sides",
    metadata,
    Column("entity_id", String, nullable=False),
    Column("other_id", String, nullable=False),
    Column("contact_id", String, nullable=False),
    Column("expires_at", BigInteger),
    PrimaryKeyConstraint("entity_id", "other_id"),
    Index(None, "entity_id", "contact_id"),
)
"""Each contact that holds, as it stands for each of its two sides: one at most for a pair."""

blocks = states(
    "blocks",
    Column("blocker_id", String, nullable=False),
    Column("blocked_id", String, nullable=False),
    Column("expires_at", BigInteger),
    Index(None, "blocker_id", "status", "id"),
    Index(None, "blocked_id", "status"),
    Index(
        "uq_blocks_active",
        "blocker_id",
        "blocked_id",
        unique=True,
        sqlite_where=text("status = 'active'"),
        postgresql_where=text("status = 'active'"),
    ),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("provider_agent_id", String, nullable=False),
    Column("client_owner_id", String, nullable=False),
    Column("day", String, nullable=False),
    Column("task_id", String, nullable=False),
    Column("is_completed", Boolean, nullable=False),
    PrimaryKeyConstraint("provider_agent_id", "client_owner_id", "day"),
    UniqueConstraint("task_id"),
)
"""What counts for a provider's reputation: one task per client owner and UTC day."""

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("caller", String, nullable=False),
    Column("path", String, nullable=False),
    Column("key", String, nullable=False),
    Column("fingerprint", String, nullable=False),
    Column("status_code", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("caller", "path", "key"),
    Index(None, "expires_at"),
)

announcements = Table(
    "announcements",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("body", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
"""What another process on the same database has decided and a running server has to tell its sockets."""
