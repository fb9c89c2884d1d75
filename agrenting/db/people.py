"""Organisations, users, API keys, sessions and key challenges: who may ask."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from agrenting.clock import from_ms, to_ms
from agrenting.db.transaction import Tx, WriterTx
from channels.contacts import Party
from channels.errors import Conflict


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person, or an operator."""

    id: str
    handle: str
    organisation_id: str | None = None
    is_operator: bool = False
    created_at: datetime
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None

    @property
    def name(self) -> str:
        """As others are told: its first and last name, or its handle where it has given none."""
        return " ".join(part for part in (self.first_name, self.last_name) if part) or self.handle

    @property
    def party(self) -> Party:
        """What its relation to others rests on."""
        return Party(
            id=self.id,
            user_id=self.id,
            organisation_id=self.organisation_id,
            owner_organisation_id=self.organisation_id,
        )


class Organisation(msgspec.Struct, frozen=True, kw_only=True):
    """A company or community whose members see each other's shared agents."""

    id: str
    name: str
    created_at: datetime


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """An API key, without the key: only its hash is kept. `hint` is its beginning, for people to tell keys apart."""

    id: str
    hint: str
    name: str
    user_id: str
    agent_id: str | None
    parent_id: str | None
    scopes: tuple[str, ...]
    max_amount: int | None
    max_amount_per_day: int | None
    created_at: datetime
    revoked_at: datetime | None = None


_KEY = "id, hint, name, user_id, agent_id, parent_id, scopes, max_amount, max_amount_per_day, created_at, revoked_at"
_USER = "id, handle, organisation_id, is_operator, created_at, first_name, last_name, email"


def insert_organisation(tx: WriterTx, organisation: Organisation) -> None:
    """Store a new organisation.

    Raises:
        Conflict: `name_taken`.
    """
    if organisation_by_name(tx, organisation.name) is not None:
        raise Conflict("name_taken", "There is an organisation of this name already.", name=organisation.name)
    tx.run(
        "INSERT INTO organisations (id, name, created_at) VALUES (:id, :name, :created_at)",
        id=organisation.id,
        name=organisation.name,
        created_at=to_ms(organisation.created_at),
    )


def organisation_by_name(tx: Tx, name: str) -> Organisation | None:
    """The organisation of an exact name."""
    row = tx.one("SELECT id, name, created_at FROM organisations WHERE name = :name", name=name)
    return None if row is None else Organisation(id=row[0], name=row[1], created_at=from_ms(row[2]))


def organisations(tx: Tx, *, after: str, limit: int) -> list[Organisation]:
    """Organisations by id, after `after`."""
    rows = tx.all(
        "SELECT id, name, created_at FROM organisations WHERE id > :after ORDER BY id LIMIT :limit",
        after=after,
        limit=limit,
    )
    return [Organisation(id=row[0], name=row[1], created_at=from_ms(row[2])) for row in rows]


def insert_user(tx: WriterTx, user: User) -> None:
    """Store a new user.

    Raises:
        Conflict: `handle_taken`.
    """
    if user_by_handle(tx, user.handle) is not None:
        raise Conflict("handle_taken", "Somebody has this handle already; choose another one.", handle=user.handle)
    tx.run(
        f"INSERT INTO users ({_USER})"
        " VALUES (:id, :handle, :organisation_id, :is_operator, :created_at, :first_name,"
        " :last_name, :email)",
        id=user.id,
        handle=user.handle,
        organisation_id=user.organisation_id,
        is_operator=user.is_operator,
        created_at=to_ms(user.created_at),
        first_name=user.first_name,
        last_name=user.last_name,
        email=user.email,
    )


def update_user(tx: WriterTx, user: User) -> None:
    """Store what has changed of a user: its organisation, names and e-mail address."""
    tx.run(
        "UPDATE users SET organisation_id = :organisation_id, first_name = :first_name, last_name = :last_name,"
        " email = :email WHERE id = :id",
        id=user.id,
        organisation_id=user.organisation_id,
        first_name=user.first_name,
        last_name=user.last_name,
        email=user.email,
    )


def members(tx: Tx, organisation_id: str) -> list[User]:
    """The users of an organisation, oldest first."""
    rows = tx.all(f"SELECT {_USER} FROM users WHERE organisation_id = :id ORDER BY id", id=organisation_id)
    return [_user(row) for row in rows]


def user_by_id(tx: Tx, id_: str) -> User | None:
    """The user of an id."""
    row = tx.one(f"SELECT {_USER} FROM users WHERE id = :id", id=id_)
    return None if row is None else _user(row)


def users_by_id(tx: Tx, ids: Sequence[str]) -> list[User]:
    """Those users of these ids that there are."""
    rows = tx.all(
        f"SELECT {_USER} FROM users WHERE id IN (SELECT value FROM json_each(:ids))",
        ids=msgspec.json.encode(ids).decode(),
    )
    return [_user(row) for row in rows]


def user_by_handle(tx: Tx, handle: str) -> User | None:
    """The user of an exact handle."""
    row = tx.one(f"SELECT {_USER} FROM users WHERE handle = :handle", handle=handle)
    return None if row is None else _user(row)


def users(tx: Tx, *, after: str, limit: int) -> list[User]:
    """Users by id, after `after`."""
    rows = tx.all(
        f"SELECT {_USER} FROM users WHERE id > :after ORDER BY id LIMIT :limit",
        after=after,
        limit=limit,
    )
    return [_user(row) for row in rows]


def has_operator(tx: Tx) -> bool:
    """Whether there is an operator: without one this is the first start."""
    return tx.one("SELECT 1 FROM users WHERE is_operator") is not None


def insert_key(tx: WriterTx, key: ApiKey, *, key_hash: str) -> None:
    """Store a new API key by its hash."""
    tx.run(
        "INSERT INTO api_keys (key_hash, id, hint, name, user_id, agent_id, parent_id, scopes, max_amount,"
        " max_amount_per_day, created_at) VALUES (:key_hash, :id, :hint, :name, :user_id, :agent_id, :parent_id,"
        " :scopes, :max_amount, :max_amount_per_day, :created_at)",
        key_hash=key_hash,
        id=key.id,
        hint=key.hint,
        name=key.name,
        user_id=key.user_id,
        agent_id=key.agent_id,
        parent_id=key.parent_id,
        scopes=" ".join(key.scopes),
        max_amount=key.max_amount,
        max_amount_per_day=key.max_amount_per_day,
        created_at=to_ms(key.created_at),
    )


def replace_key_secret(tx: WriterTx, *, key_id: str, key_hash: str, hint: str) -> None:
    """Put a new secret behind a key: its scopes, caps and what it has spent stay; its sessions die."""
    tx.run(
        "UPDATE api_keys SET key_hash = :key_hash, hint = :hint WHERE id = :id", id=key_id, key_hash=key_hash, hint=hint
    )
    delete_sessions_of_key(tx, key_id)


def revoke_key(tx: WriterTx, *, key_id: str, now: datetime) -> None:
    """Revoke a key and end its sessions. Keys that it has made stay; they have owners of their own."""
    tx.run("UPDATE api_keys SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL", id=key_id, now=to_ms(now))
    delete_sessions_of_key(tx, key_id)


def key_by_hash(tx: Tx, key_hash: str) -> ApiKey | None:
    """The key of a hash, revoked or not."""
    row = tx.one(f"SELECT {_KEY} FROM api_keys WHERE key_hash = :key_hash", key_hash=key_hash)
    return None if row is None else _key(row)


def has_live_key(tx: Tx, key_hash: str) -> bool:
    """Whether there is a key of a hash that has not been revoked. Asked with every event, so nothing more is read."""
    return tx.one("SELECT 1 FROM api_keys WHERE key_hash = :h AND revoked_at IS NULL", h=key_hash) is not None


def key_by_id(tx: Tx, id_: str) -> ApiKey | None:
    """The key of an id, revoked or not."""
    row = tx.one(f"SELECT {_KEY} FROM api_keys WHERE id = :id", id=id_)
    return None if row is None else _key(row)


def keys_of(tx: Tx, *, user_id: str, agent_id: str | None, after: str, limit: int) -> list[ApiKey]:
    """A user's keys (its own and its agents'), or one agent's, by id."""
    rows = tx.all(
        f"SELECT {_KEY} FROM api_keys WHERE user_id = :user_id AND (:agent_id IS NULL OR agent_id = :agent_id)"
        " AND id > :after ORDER BY id LIMIT :limit",
        user_id=user_id,
        agent_id=agent_id,
        after=after,
        limit=limit,
    )
    return [_key(row) for row in rows]


def insert_session(tx: WriterTx, *, token_hash: str, key_id: str, agent_id: str | None, expires_at: datetime) -> None:
    """Store a session by its token's hash."""
    tx.run(
        "INSERT INTO auth_sessions (token_hash, key_id, agent_id, expires_at)"
        " VALUES (:token_hash, :key_id, :agent_id, :expires_at)",
        token_hash=token_hash,
        key_id=key_id,
        agent_id=agent_id,
        expires_at=to_ms(expires_at),
    )


def session_by_hash(tx: Tx, token_hash: str) -> tuple[str, str | None, datetime] | None:
    """A session's key id, agent id and end."""
    row = tx.one(
        "SELECT key_id, agent_id, expires_at FROM auth_sessions WHERE token_hash = :token_hash", token_hash=token_hash
    )
    return None if row is None else (row[0], row[1], from_ms(row[2]))


def delete_session(tx: WriterTx, token_hash: str) -> bool:
    """End a session; whether there was one."""
    return tx.run("DELETE FROM auth_sessions WHERE token_hash = :token_hash", token_hash=token_hash) == 1


def delete_sessions_of_key(tx: WriterTx, key_id: str) -> None:
    """End every session of a key."""
    tx.run("DELETE FROM auth_sessions WHERE key_id = :key_id", key_id=key_id)


def delete_expired(tx: WriterTx, now: datetime) -> None:
    """Forget expired sessions, challenges and idempotency keys."""
    for table in ("auth_sessions", "key_challenges", "idempotency_keys"):
        tx.run(f"DELETE FROM {table} WHERE expires_at <= :now", now=to_ms(now))


def insert_challenge(tx: WriterTx, *, challenge_hash: str, user_id: str, expires_at: datetime) -> None:
    """Store a one-time challenge by its hash."""
    tx.run(
        "INSERT INTO key_challenges (challenge_hash, user_id, expires_at) VALUES (:hash, :user_id, :expires_at)",
        hash=challenge_hash,
        user_id=user_id,
        expires_at=to_ms(expires_at),
    )


def take_challenge(tx: WriterTx, *, challenge_hash: str, user_id: str, now: datetime) -> bool:
    """Use a challenge up: whether it was this user's and still good."""
    taken = tx.run(
        "DELETE FROM key_challenges WHERE challenge_hash = :hash AND user_id = :user_id AND expires_at > :now",
        hash=challenge_hash,
        user_id=user_id,
        now=to_ms(now),
    )
    return taken == 1


def delete_keys_of_agent(tx: WriterTx, agent_id: str, now: datetime) -> None:
    """Revoke every key of an agent and end its sessions."""
    for (key_id,) in tx.all("SELECT id FROM api_keys WHERE agent_id = :id AND revoked_at IS NULL", id=agent_id):
        revoke_key(tx, key_id=key_id, now=now)
    tx.run("DELETE FROM auth_sessions WHERE agent_id = :id", id=agent_id)


def _user(row: tuple[Any, ...]) -> User:
    return User(
        id=row[0],
        handle=row[1],
        organisation_id=row[2],
        is_operator=bool(row[3]),
        created_at=from_ms(row[4]),
        first_name=row[5],
        last_name=row[6],
        email=row[7],
    )


def _key(row: tuple[Any, ...]) -> ApiKey:
    return ApiKey(
        id=row[0],
        hint=row[1],
        name=row[2],
        user_id=row[3],
        agent_id=row[4],
        parent_id=row[5],
        scopes=tuple(row[6].split()),
        max_amount=row[7],
        max_amount_per_day=row[8],
        created_at=from_ms(row[9]),
        revoked_at=None if row[10] is None else from_ms(row[10]),
    )
