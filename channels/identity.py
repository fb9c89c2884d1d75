"""Who asks, and the handles that people and agents are known by.

A user's handle is one segment (`john`), an agent's is its owner's and a slug (`john/research-bot`). A leading `@` is
accepted wherever a handle is given and never returned. Handles are unique, lower case and safe in a URL; the slug comes
from the agent's name when it is made, and a later renaming keeps it.
"""

import re
import unicodedata
from typing import Final, Literal

import msgspec

from channels.contacts import Party
from channels.errors import Conflict, Forbidden, Invalid

SCOPES: Final = (
    "agents:read",
    "discover",
    "negotiate",
    "tasks",
    "payments",
    "messages",
    "contacts",
    "rooms",
    "analytics",
    "admin",
)
"""Every scope that a key can have."""

AGENT_SCOPES: Final = SCOPES[:-1]
"""The scopes of an ordinary key: all but `admin`."""

RESERVED: Final = frozenset(("thenvoi", "band", "agrenting", "admin", "support", "system", "official", "api", "root"))
"""Handles and slugs that nobody may take, because they would speak for the house."""

SEGMENT: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,38}[a-z0-9])?\Z")
SEGMENT_CHARS_MAX: Final = 40


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, proven by a credential.

    Args:
        kind: `agent` acts as `agent_id`; `user` acts as its user alone.
        user_id: The user, or the agent's owner.
        agent_id: The agent; None for a user.
        handle: The agent's or the user's handle, without `@`.
        organisation_id: The organisation of the user or owner; None without one.
        agent_organisation_id: The organisation that the agent itself belongs to.
        scopes: What the key may do.
        key_id: The API key behind the credential: spending counts against it.
        credential: What names the credential itself, by its hash: `key:…` or `session:…`.
        is_operator: The user is an operator and the key has the scope `admin`.
        spend_max: The key's cap on one operation, in minor units; None without one.
    """

    kind: Literal["agent", "user"]
    user_id: str
    handle: str
    key_id: str
    credential: str = ""
    agent_id: str | None = None
    organisation_id: str | None = None
    agent_organisation_id: str | None = None
    scopes: frozenset[str] = frozenset(AGENT_SCOPES)
    is_operator: bool = False
    spend_max: int | None = None

    @property
    def id(self) -> str:
        """The acting entity: the agent, or the user."""
        return self.agent_id or self.user_id

    @property
    def socket_id(self) -> str:
        """What a disconnect is addressed to: `agent_socket:{agent_id}` or `user_socket:{user_id}`."""
        return f"agent_socket:{self.agent_id}" if self.agent_id else f"user_socket:{self.user_id}"

    @property
    def party(self) -> Party:
        """Who acts, as one side of a relation."""
        return Party(
            id=self.id,
            user_id=self.user_id,
            organisation_id=self.agent_organisation_id if self.agent_id else self.organisation_id,
            owner_organisation_id=self.organisation_id,
        )

    def require_agent(self) -> str:
        """The acting agent's id.

        Raises:
            Forbidden: `agent_required`: the credential stands for a user.
        """
        if self.agent_id is None:
            raise Forbidden("agent_required", "Only an agent may do this: use an agent's key, or name your agent_id.")
        return self.agent_id

    def require_cap(self, amount: int) -> None:
        """Refuse an amount above the key's cap on one operation.

        Raises:
            Conflict: `spend_cap_exceeded`, with the cap.
        """
        if self.spend_max is not None and amount > self.spend_max:
            raise Conflict(
                "spend_cap_exceeded",
                f"This key may spend at most {self.spend_max} in one operation, not {amount}.",
                max_amount=self.spend_max,
            )

    def require_scope(self, scope: str) -> None:
        """Refuse who acts with a key without `scope`.

        Raises:
            Forbidden: `missing_scope`.
        """
        if scope and scope not in self.scopes:
            raise Forbidden("missing_scope", f"This key does not have the scope {scope}.", scope=scope)


def parse_segment(text: str) -> str:
    """A user's handle or an agent's slug: 1-40 of `a-z 0-9 _ -`, a letter or digit at both ends.

    Raises:
        Invalid: `invalid_handle`.
        Conflict: `reserved_handle`.
    """
    if not SEGMENT.match(text):
        raise Invalid(
            "invalid_handle",
            f"A handle has 1-{SEGMENT_CHARS_MAX} of a-z, 0-9, - and _, with a letter or digit at both ends.",
        )
    if text in RESERVED:
        raise Conflict("reserved_handle", "This handle is reserved; choose another one.")
    return text


def parse_user_handle(text: str) -> str:
    """A new user's handle, with or without `@`.

    Raises:
        Invalid: `invalid_handle`.
        Conflict: `reserved_handle`.
    """
    return parse_segment(text.removeprefix("@"))


def normalise_handle(text: str) -> str:
    """A handle as it is looked up: without `@`, lower case. Nothing is checked: an unknown one is just not found."""
    return text.removeprefix("@").lower()


def slug_from_name(name: str) -> str:
    """The slug of an agent's name: accents removed, lower case, every other run of characters one hyphen.

    Raises:
        Invalid: `invalid_handle`: nothing is left.
        Conflict: `reserved_handle`.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:SEGMENT_CHARS_MAX].strip("-")
    return parse_segment(slug)


def numbered_slug(slug: str, number: int) -> str:
    """The slug with a number behind it, for an owner whose other agent has the plain one: `bot-2`."""
    suffix = f"-{number}"
    return slug[: SEGMENT_CHARS_MAX - len(suffix)].rstrip("-_") + suffix
