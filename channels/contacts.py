"""Who may see whom, and who may open a session with whom: relations, ties, and the gate.

`relation` is the only place that knows how two entities stand to each other; every listing, presence and gate uses it.
What two parties have done about each other, a contact or a block, is their tie; what they are, their owners and
organisations, stands in the parties themselves. How a contact comes about and ends: contact_requests.py, revocation.py.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import Enum, StrEnum
from typing import Final

import msgspec

from channels.errors import Conflict, Forbidden, not_found


class Relation(Enum):
    """How `a`, acting, stands to `b`: the first that applies, in this order."""

    SELF = "self"
    OWNER = "owner"
    BLOCKED = "blocked"
    SIBLING = "sibling"
    SAME_ORGANISATION = "same_organisation"
    GLOBAL = "global"
    CONTACT = "contact"
    STRANGER = "stranger"


class Kind(StrEnum):
    """What a contact lets one open, or do."""

    NEGOTIATION = "negotiation"
    TASK = "task"
    PAYMENT_CHANNEL = "payment_channel"
    ROOM = "room"
    MESSAGE = "message"


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What the requester of a contact may open with the one who approved it; what is None is not narrowed.

    Args:
        kinds: These alone.
        max_price: Of an offer, of a task's held price, and of a payment channel's deposit, in minor units.
        max_open: Sessions that the requester has open with the other at once, of all kinds together.
        expires_at: The contact ends then, as if it had been revoked.
    """

    kinds: tuple[Kind, ...] | None = None
    max_price: int | None = None
    max_open: int | None = None
    expires_at: datetime | None = None


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """What the relation of two entities rests on.

    Args:
        id: The agent's id, or the user's.
        user_id: The agent's owner, or the user itself.
        organisation_id: The organisation that the agent itself belongs to; for a user, its own.
        owner_organisation_id: The organisation of the owner.
        is_global: An operator made this agent one for all.
        is_listed: In the directory and in `discover`, once it has a tag.
        has_tags: At least one tag.
    """

    id: str
    user_id: str
    organisation_id: str | None = None
    owner_organisation_id: str | None = None
    is_global: bool = False
    is_listed: bool = True
    has_tags: bool = False


class Tie(msgspec.Struct, frozen=True, kw_only=True):
    """What two entities have done about each other, as it stands for one of them, the acting one.

    Args:
        is_contact: The two are contacts.
        scope: What the contact lets the acting one open; None: everything.
        is_blocked: The other one has blocked the acting one.
        has_blocked: The acting one has blocked the other.
    """

    is_contact: bool = False
    scope: Scope | None = None
    is_blocked: bool = False
    has_blocked: bool = False

    @property
    def mirrored(self) -> "Tie":
        """The same tie as it stands for the other one, but for the scope, which binds one side alone."""
        return Tie(is_contact=self.is_contact, is_blocked=self.has_blocked, has_blocked=self.is_blocked)


NO_TIE: Final = Tie()
"""Two that have nothing to do with each other."""

Ties = Mapping[str, Tie]
"""Another entity's id → the tie to it; NO_TIE for those that it does not hold."""


def relation(a: Party, b: Party, tie: Tie = NO_TIE) -> Relation:
    """How `a`, acting, stands to `b`; `tie` is that of `a` towards `b`."""
    if a.id == b.id:
        return Relation.SELF
    is_one_house = a.user_id == b.user_id
    if is_one_house and a.user_id in {a.id, b.id}:
        return Relation.OWNER
    if tie.is_blocked:
        return Relation.BLOCKED
    return Relation.SIBLING if is_one_house else _between_houses(a, b, tie)


def _between_houses(a: Party, b: Party, tie: Tie) -> Relation:
    if b.organisation_id is not None and b.organisation_id in {a.organisation_id, a.owner_organisation_id}:
        return Relation.SAME_ORGANISATION
    if b.is_global:
        return Relation.GLOBAL
    return Relation.CONTACT if tie.is_contact else Relation.STRANGER


def exists_for(viewer: Party, subject: Party, tie: Tie = NO_TIE) -> bool:
    """Whether `viewer` may know of `subject` by its exact handle: all but those that `subject` has blocked."""
    return relation(viewer, subject, tie) is not Relation.BLOCKED


def is_present_to(viewer: Party, subject: Party, tie: Tie = NO_TIE) -> bool:
    """Whether `viewer` sees `subject` in presence and among its peers: not strangers, and nobody that is blocked.

    Who has blocked another sees as little of it as it shows.
    """
    stands = relation(viewer, subject, tie)
    if stands is Relation.SELF or stands is Relation.OWNER:
        return True  # Asked for every listener of a broadcast, so nothing is hashed here.
    return stands is not Relation.STRANGER and stands is not Relation.BLOCKED and not tie.has_blocked


def is_discoverable_by(viewer: Party, subject: Party, tie: Tie = NO_TIE) -> bool:
    """Whether `viewer` finds `subject` in `discover` and in the directory.

    As in presence, and strangers who are listed with a tag, where neither has blocked the other.
    """
    if is_present_to(viewer, subject, tie):
        return True
    return subject.is_listed and subject.has_tags and not tie.is_blocked and not tie.has_blocked


def needs_contact(a: Party, b: Party, tie: Tie = NO_TIE) -> bool:
    """Whether `a` needs a contact to open a session with `b`."""
    return relation(a, b, tie) is Relation.STRANGER


def require_reachable(a: Party, b: Party, tie: Tie, *, what: str = "agent") -> None:
    """Refuse what one does to another where one has blocked the other: asking for contact, opening, writing.

    Args:
        a: Who acts.
        b: Towards whom.
        tie: Of `a` towards `b`.
        what: What the other is called where it is as if it did not exist.

    Raises:
        NotFound: `not_found`: `b` has blocked `a`.
        Conflict: `blocked_by_you`: `a` has blocked `b`.
    """
    stands = relation(a, b, tie)
    if stands is Relation.BLOCKED:
        raise not_found(what)
    if tie.has_blocked and stands is not Relation.OWNER:
        raise Conflict("blocked_by_you", "You have blocked the other one; unblock it first.", id=b.id)


def require_may_open(
    a: Party, b: Party, tie: Tie, *, kind: Kind, handle: str | None = None, open_count: int = 0
) -> None:
    """The gate: asked in the transaction that opens a session of `a` with `b`.

    Args:
        a: Who opens.
        b: With whom.
        tie: Of `a` towards `b`, as it stands in this transaction.
        kind: What is opened.
        handle: Of `b`. A stranger is told it only where it can find `b` anyway.
        open_count: Sessions of all kinds that `a` has opened with `b` and that are open.

    Raises:
        NotFound: `not_found`: `b` has blocked `a`.
        Conflict: `blocked_by_you`.
        Forbidden: `contact_required`: the two are strangers; `contact_scope_exceeded`: their contact is not for this.
    """
    require_reachable(a, b, tie)
    if needs_contact(a, b, tie):
        raise _contact_required(handle if is_discoverable_by(a, b, tie) else None)
    scope = binding_scope(a, b, tie)
    if scope is None:
        return
    if scope.kinds is not None and kind not in scope.kinds:
        raise Forbidden(
            "contact_scope_exceeded",
            f"This contact does not let you open: {kind}.",
            kinds=scope.kinds,
        )
    if scope.max_open is not None and open_count >= scope.max_open:
        raise Forbidden(
            "contact_scope_exceeded",
            f"This contact lets you have {scope.max_open} sessions open at once; finish one first.",
            max_open=scope.max_open,
        )


def _contact_required(handle: str | None) -> Forbidden:
    whom, known = ("this agent, by its handle,", {}) if handle is None else (handle, {"handle": handle})
    return Forbidden(
        "contact_required",
        f"You are strangers: ask {whom} for contact first, with POST /api/v1/agent/contacts/add, and wait for its yes.",
        **known,
    )


def require_price_in_scope(price: int, max_price: int | None) -> None:
    """Refuse an offer, a held price or a deposit above what the contact is for.

    Args:
        price: In minor units.
        max_price: That of the contact's scope; None: not narrowed.

    Raises:
        Forbidden: `contact_scope_exceeded`, with max_price.
    """
    if max_price is not None and price > max_price:
        raise Forbidden(
            "contact_scope_exceeded", f"This contact is for prices up to {max_price}, not {price}.", max_price=max_price
        )


def binding_scope(a: Party, b: Party, tie: Tie) -> Scope | None:
    """The scope that narrows what `a` opens with `b`: none where the two need no contact anyway."""
    return tie.scope if relation(a, b, tie) is Relation.CONTACT else None


def max_price_between(a: Party, b: Party, tie: Tie) -> int | None:
    """The highest price of what `a` opens with `b`, in minor units; None: not narrowed."""
    scope = binding_scope(a, b, tie)
    return None if scope is None else scope.max_price


def same_house(a: Party, b: Party) -> bool:
    """Whether two agents have one owner or one organisation: what they do for each other earns no reputation."""
    shared = {a.organisation_id, a.owner_organisation_id} & {b.organisation_id, b.owner_organisation_id}
    return a.user_id == b.user_id or bool(shared - {None})
