"""Who asks, and the handles that people and agents are known by.

A user's handle is one segment (`john`), an agent's is its owner's and a slug (`john/research-bot`). One leading `@` and
any case of letters are accepted wherever a handle is given; neither is ever returned. Handles are unique, lower case
and safe in a URL. The slug comes from the agent's name when it is made, and a later renaming keeps it.
"""

import re
import unicodedata
from typing import Final, Literal

import msgspec

from channels.contacts import Party
from channels.errors import Conflict, Forbidden, Invalid
from channels.profanity import is_profane

EntityType = Literal["User", "Agent"]
"""What somebody is, as it is told."""

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
"""What no handle and no slug may be, with or without separators in it, because it would speak for the house."""

SLUG_CHARS_MAX: Final = 64

_USER: Final = r"[a-z0-9][a-z0-9._-]{1,38}[a-z0-9]"
_SLUG: Final = rf"[a-z0-9](?:[a-z0-9-]{{0,{SLUG_CHARS_MAX - 2}}}[a-z0-9])?"
_USER_HANDLE: Final = re.compile(_USER)
_ANY_HANDLE: Final = re.compile(rf"{_USER}(?:/{_SLUG})?")
_USER_FORM: Final = "3-40 of a-z, 0-9, ., - and _, with a letter or digit at both ends"


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


def parse_user_handle(text: str) -> str:
    """The handle that a new user is to have: 3-40 of `a-z 0-9 . _ -`, a letter or digit at both ends.

    Args:
        text: With or without `@`, in any case of letters.

    Raises:
        Invalid: `invalid_handle`, `reserved_handle`, `profane_handle`.
    """
    handle = normalise_handle(text)
    if not _USER_HANDLE.fullmatch(handle):
        raise Invalid("invalid_handle", f"A handle has {_USER_FORM}.")
    return _presentable(handle)


def parse_handle(text: str) -> str:
    """A handle as somebody names an entity with it: a user's, or `owner/slug`.

    Only the form is looked at: whether a handle is reserved or profane matters to who wants to have it.

    Args:
        text: With or without `@`, in any case of letters.

    Raises:
        Invalid: `invalid_handle`: nobody can have such a handle.
    """
    handle = normalise_handle(text)
    if not _ANY_HANDLE.fullmatch(handle):
        raise Invalid(
            "invalid_handle",
            f"A handle is `owner` or `owner/agent`, with or without @: the owner's has {_USER_FORM}; the agent's part"
            f" has 1-{SLUG_CHARS_MAX} of a-z, 0-9 and -.",
        )
    return handle


def normalise_handle(text: str) -> str:
    """A handle as it is looked up: without `@`, lower case. Nothing is checked: an unknown one is just not found."""
    return text.removeprefix("@").lower()


def slug_from_name(name: str) -> str:
    """The slug of an agent's name: accents removed, lower case, every other run of characters one hyphen, cut at 64.

    Raises:
        Invalid: `invalid_handle`: nothing is left; `reserved_handle`, `profane_handle`.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:SLUG_CHARS_MAX].rstrip("-")
    if not slug:
        raise Invalid(
            "invalid_handle", "A name must have a letter a-z or a digit: the agent's handle is made of those."
        )
    return _presentable(slug)


def numbered_slug(slug: str, number: int) -> str:
    """The slug with a number behind it, for an owner whose other agent has the plain one: `bot-2`."""
    suffix = f"-{number}"
    return slug[: SLUG_CHARS_MAX - len(suffix)].rstrip("-") + suffix


def _presentable(segment: str) -> str:
    """A user's handle, or an agent's slug, that may be shown to everybody."""
    if re.sub(r"[._-]", "", segment) in RESERVED:
        raise Invalid("reserved_handle", f"{segment} is reserved; choose another handle or name.")
    if is_profane(segment):
        raise Invalid("profane_handle", f"{segment} reads as profanity; choose another handle or name.")
    return segment
