"""Credentials to identities: API keys and session tokens, by their hashes.

A key is 256 random bits, so one SHA-256 is hash enough: there is nothing to guess. Keys and tokens are shown once, when
they are made, and never logged.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from agrenting.db import people, states
from agrenting.db.people import ApiKey, User
from agrenting.db.transaction import Tx, WriterTx
from agrenting.ids import new_id, new_secret
from channels.agents import Agent, AgentStatus
from channels.errors import Forbidden, Unauthorized
from channels.identity import AGENT_SCOPES, SCOPES, Identity

HINT_CHARS = 8
KEY_PREFIX = "agk"
SESSION_PREFIX = "ags"
CREDENTIAL_CHARS_MAX = 256


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """A proven credential: who it stands for, and until when (None: until it is revoked)."""

    identity: Identity
    expires_at: datetime | None = None


def hash_secret(secret: str) -> str:
    """What is stored of a key, token or challenge: lower-case hex SHA-256."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def resolve(tx: Tx, secret: str, *, agent_id: str | None, now: datetime) -> Credential:
    """Who a key or a session token stands for.

    Args:
        tx: Any transaction.
        secret: An API key or a session token.
        agent_id: The agent to act as, where the credential can stand for several: a user's key and an agent it owns.
        now: The present, for expiry.

    Raises:
        Unauthorized: `invalid_credential`: unknown, revoked or expired.
        Forbidden: `wrong_agent`: an `agent_id` that the credential does not stand for; `agent_banned`.
    """
    if len(secret) > CREDENTIAL_CHARS_MAX:
        raise _bad_credential()
    secret_hash = hash_secret(secret)
    if secret.startswith(f"{SESSION_PREFIX}_"):
        session = people.session_by_hash(tx, secret_hash)
        if session is None or session[2] <= now:
            raise _bad_credential()
        key = people.key_by_id(tx, session[0])
        if key is None or key.revoked_at is not None:
            raise _bad_credential()
        identity = _identity(tx, key, agent_id=agent_id, bound_to=session[1], credential=f"session:{secret_hash}")
        return Credential(identity=identity, expires_at=session[2])
    key = people.key_by_hash(tx, secret_hash)
    if key is None or key.revoked_at is not None:
        raise _bad_credential()
    return Credential(identity=_identity(tx, key, agent_id=agent_id, bound_to=None, credential=f"key:{secret_hash}"))


def _bad_credential() -> Unauthorized:
    return Unauthorized(
        "invalid_credential", "This key or token is unknown, revoked or expired; authenticate with a current one."
    )


def _identity(tx: Tx, key: ApiKey, *, agent_id: str | None, bound_to: str | None, credential: str) -> Identity:
    own_agent_id = key.agent_id or bound_to
    if own_agent_id is not None and agent_id not in {None, own_agent_id}:
        raise _wrong_agent()
    user = people.user_by_id(tx, key.user_id)
    if user is None:
        raise _bad_credential()
    acting_id = own_agent_id or agent_id
    if acting_id is None:
        return identity_of_user(user, key, credential=credential)
    agent: Agent | None = states.load(tx, "agent", acting_id)
    if agent is None or agent.owner_id != user.id:
        raise _wrong_agent()
    if agent.status is AgentStatus.BANNED:
        raise Forbidden("agent_banned", "This agent has been banned by the operator.")
    return Identity(
        kind="agent",
        user_id=user.id,
        agent_id=agent.id,
        handle=agent.handle,
        key_id=key.id,
        credential=credential,
        organisation_id=user.organisation_id,
        agent_organisation_id=agent.organisation_id,
        scopes=frozenset(key.scopes) - {"admin"},
        spend_max=key.max_amount,
    )


def identity_of_user(user: User, key: ApiKey, *, credential: str) -> Identity:
    """A user who acts for itself."""
    return Identity(
        kind="user",
        user_id=user.id,
        handle=user.handle,
        key_id=key.id,
        credential=credential,
        organisation_id=user.organisation_id,
        scopes=frozenset(key.scopes),
        is_operator=user.is_operator and "admin" in key.scopes,
        spend_max=key.max_amount,
    )


def _wrong_agent() -> Forbidden:
    return Forbidden("wrong_agent", "This credential does not stand for that agent_id.")


def require_live(tx: Tx, identity: Identity, *, now: datetime) -> None:
    """Refuse what comes with a credential that has died since the socket was opened.

    Raises:
        Unauthorized: `invalid_credential`.
        Forbidden: `agent_banned`.
    """
    if not identity.credential:
        return  # The house itself: timers and the command line.
    kind, _, secret_hash = identity.credential.partition(":")
    if kind == "session":
        session = people.session_by_hash(tx, secret_hash)
        is_good = session is not None and session[2] > now
    else:
        is_good = people.has_live_key(tx, secret_hash)
    if not is_good:
        raise _bad_credential()


def open_session(tx: WriterTx, identity: Identity, *, now: datetime, ttl_s: int) -> tuple[str, datetime]:
    """Make a session token for who asks, with its key's scopes and caps. Shown once.

    Returns:
        The token, and when it ends.
    """
    token, expires_at = new_secret(SESSION_PREFIX), now + timedelta(seconds=ttl_s)
    people.insert_session(
        tx, token_hash=hash_secret(token), key_id=identity.key_id, agent_id=identity.agent_id, expires_at=expires_at
    )
    return token, expires_at


def make_key(
    tx: WriterTx,
    *,
    user_id: str,
    agent_id: str | None,
    parent_id: str | None,
    name: str,
    scopes: Iterable[str] | None,
    is_operator: bool,
    now: datetime,
    max_amount: int | None = None,
    max_amount_per_day: int | None = None,
) -> tuple[str, ApiKey]:
    """Make an API key. The key itself is shown once.

    Args:
        scopes: None for all that such a key can have.

    Returns:
        The key, and what is stored of it.
    """
    secret = new_secret(KEY_PREFIX)
    default = SCOPES if is_operator and agent_id is None else AGENT_SCOPES
    key = ApiKey(
        id=new_id(),
        hint=secret[: HINT_CHARS + len(KEY_PREFIX) + 1],
        name=name,
        user_id=user_id,
        agent_id=agent_id,
        parent_id=parent_id,
        scopes=tuple(default if scopes is None else sorted(set(scopes))),
        max_amount=max_amount,
        max_amount_per_day=max_amount_per_day,
        created_at=now,
    )
    people.insert_key(tx, key, key_hash=hash_secret(secret))
    return secret, key


def rotate_key(tx: WriterTx, key_id: str) -> str:
    """Put a new secret behind a key; the old one and its sessions die in this transaction. Shown once."""
    secret = new_secret(KEY_PREFIX)
    people.replace_key_secret(
        tx, key_id=key_id, key_hash=hash_secret(secret), hint=secret[: HINT_CHARS + len(KEY_PREFIX) + 1]
    )
    return secret
