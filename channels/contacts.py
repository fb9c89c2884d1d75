"""Who may see whom, and who may open a session with whom: the gate.

`relation` is the only place that knows how two entities stand to each other; every listing, presence and gate uses it.
Requests, contacts and blocks come with the contact book; until then a stranger stays one.
"""

from enum import Enum

import msgspec

from channels.errors import Forbidden


class Relation(Enum):
    """How `a`, acting, stands to `b`: the first that applies, in this order."""

    SELF = "self"
    OWNER = "owner"
    SIBLING = "sibling"
    SAME_ORGANISATION = "same_organisation"
    GLOBAL = "global"
    STRANGER = "stranger"


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


def relation(a: Party, b: Party) -> Relation:
    """How `a`, acting, stands to `b`."""
    if a.id == b.id:
        return Relation.SELF
    if a.user_id == b.user_id:
        return Relation.OWNER if a.user_id in {a.id, b.id} else Relation.SIBLING
    if b.organisation_id is not None and b.organisation_id in {a.organisation_id, a.owner_organisation_id}:
        return Relation.SAME_ORGANISATION
    if b.is_global:
        return Relation.GLOBAL
    return Relation.STRANGER


def is_present_to(viewer: Party, subject: Party) -> bool:
    """Whether `viewer` sees `subject` in presence: everybody but strangers."""
    return relation(viewer, subject) is not Relation.STRANGER


def is_discoverable_by(viewer: Party, subject: Party) -> bool:
    """Whether `viewer` finds `subject` in `discover`: as in presence, and strangers who are listed with a tag."""
    return is_present_to(viewer, subject) or (subject.is_listed and subject.has_tags)


def needs_contact(a: Party, b: Party) -> bool:
    """Whether `a` needs a contact to open a session with `b`."""
    return relation(a, b) is Relation.STRANGER


def require_may_open(a: Party, b: Party) -> None:
    """The gate: asked in the transaction that opens a negotiation or a task.

    Raises:
        Forbidden: `contact_required`: the two are strangers.
    """
    if needs_contact(a, b):
        raise Forbidden("contact_required", "Ask this agent for contact first: the two of you are strangers.")


def same_house(a: Party, b: Party) -> bool:
    """Whether two agents have one owner or one organisation: what they do for each other earns no reputation."""
    shared = {a.organisation_id, a.owner_organisation_id} & {b.organisation_id, b.owner_organisation_id}
    return a.user_id == b.user_id or bool(shared - {None})
