"""What consent allows, worked out a second time in plain Python: sets of contacts, blocks, requests and sessions.

The real server is held against it, deed by deed in the order in which they were committed. It knows nothing of how the
server stores or decides anything; who may do what to whom stands here as it is promised.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from channels.limits import Limits
from tests.agrenting.consent_stored import Two, View

PRICE = 1_000
FEE = 50
CAPABILITY = "translate"
LIMITS = Limits(
    contact_request_ttl_s=3_600,
    contact_requests_pending_max=3,
    contact_requests_per_hour_max=12,
    negotiation_ttl_s=601,  # No multiple of a minute, unlike all else: no two things are due at one moment.
)


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody does.

    Args:
        act: Its name; the model has a method of that name.
        who: The id of the user or agent who acts.
        whom: The id of the one it is done to, or of the request, contact, task or organisation.
        door: Where it comes in: `engine`, `rest` or `line`, the command line of another process.
        more: What else is said.
        by_id: Whether a request or contact is named by its own id, and not by the other one's handle.
    """

    act: str
    who: str
    whom: str = ""
    door: str = "engine"
    more: dict[str, Any] = {}
    by_id: bool = True


class Refused(Exception):
    """What must be refused, and for which reason."""


class Somebody(msgspec.Struct, kw_only=True):
    """A user or an agent; `owner` is a user's own id."""

    id: str
    handle: str
    owner: str
    organisation: str | None = None
    is_global: bool = False
    is_listed: bool = True
    is_tagged: bool = False
    price: int = PRICE
    money: int = 0

    @property
    def is_agent(self) -> bool:
        return self.owner != self.id


class Consent(msgspec.Struct, kw_only=True):
    """Two are contacts; `id` is learned once it is stored."""

    requester: str
    origin: str
    scope: dict[str, Any] | None = None
    id: str | None = None

    @property
    def end(self) -> datetime | None:
        return None if self.scope is None else self.scope.get("expires_at")


class Asked(msgspec.Struct, kw_only=True):
    """A contact request; `status` is what is stored, which the clock may have overtaken."""

    requester: str
    recipient: str
    at: datetime
    is_to_stranger: bool
    status: str = "pending"

    @property
    def end(self) -> datetime:
        return self.at + timedelta(seconds=LIMITS.contact_request_ttl_s)


class Opened(msgspec.Struct, kw_only=True):
    """A negotiation or a task."""

    kind: str
    client: str
    provider: str
    status: str
    price: int = 0
    end: datetime | None = None

    @property
    def two(self) -> Two:
        return frozenset((self.client, self.provider))

    @property
    def is_unfinished(self) -> bool:
        return self.status in {"open", "pending", "in_progress"}


class Model:
    """All that somebody has done about somebody else."""

    def __init__(self) -> None:
        self.people: dict[str, Somebody] = {}
        self.contacts: dict[Two, Consent] = {}
        self.blocks: dict[tuple[str, str], datetime | None] = {}
        self.requests: dict[str, Asked] = {}
        self.sessions: dict[str, Opened] = {}
        self.now = datetime.min.replace(tzinfo=UTC)

    # Who is who.

    @property
    def agents(self) -> list[Somebody]:
        return [one for one in self.people.values() if one.is_agent]

    @property
    def users(self) -> list[Somebody]:
        return [one for one in self.people.values() if not one.is_agent]

    def admit(self, id_: str, handle: str) -> None:
        """A user, of no organisation."""
        self.people[id_] = Somebody(id=id_, handle=handle, owner=id_)

    def is_contact(self, a: str, b: str) -> bool:
        consent = self.contacts.get(frozenset((a, b)))
        return consent is not None and self._is_ahead(consent.end)

    def is_block(self, blocker: str, blocked: str) -> bool:
        return (blocker, blocked) in self.blocks and self._is_ahead(self.blocks[blocker, blocked])

    def is_house(self, a: str, b: str) -> bool:
        """An owner and its own agent, or one and the same."""
        one, other = self.people[a], self.people[b]
        return one.owner == other.owner and (a == b or not (one.is_agent and other.is_agent))

    def is_known(self, a: str, b: str) -> bool:
        """Whether the first needs no contact with the second, blocks aside."""
        one, other = self.people[a], self.people[b]
        own = {one.organisation, self.people[one.owner].organisation} - {None}
        return one.owner == other.owner or other.organisation in own or other.is_global

    def is_present(self, viewer: str, subject: str) -> bool:
        if self.is_house(viewer, subject):
            return True
        is_apart = self.is_block(viewer, subject) or self.is_block(subject, viewer)
        return not is_apart and (self.is_known(viewer, subject) or self.is_contact(viewer, subject))

    @property
    def is_overdue(self) -> bool:
        """Whether a contact or a block is over by the clock alone, of which nobody has been told yet."""
        ends = [*(consent.end for consent in self.contacts.values()), *self.blocks.values()]
        return not all(map(self._is_ahead, ends))

    def is_found(self, viewer: str, subject: str) -> bool:
        is_apart = self.is_block(viewer, subject) or self.is_block(subject, viewer)
        other = self.people[subject]
        return self.is_present(viewer, subject) or (other.is_listed and other.is_tagged and not is_apart)

    # What is done, deed by deed.

    def foresee(self, deed: Deed, now: datetime, reply: dict[str, Any] | None) -> str | None:
        """Do it; the reason for which it has to be refused, if it has to.

        Args:
            deed: What is done.
            now: When.
            reply: What the server has answered; None where it has refused. New ids are taken from it.
        """
        self.now = now
        if deed.who not in self.people:
            return "not_found" if deed.door == "line" else "invalid_credential"
        try:
            getattr(self, deed.act)(deed, reply or {})
        except Refused as refused:
            return str(refused)
        return None

    def ask(self, deed: Deed, reply: dict[str, Any]) -> None:
        who, whom = deed.who, self._somebody(deed.whom)
        self._require(who != whom, "self_contact")
        self._require(not self.is_block(whom, who) or self.is_house(who, whom), "not_found")
        self._require(not self.is_block(who, whom) or self.is_house(who, whom), "blocked_by_you")
        self._require(not self.is_contact(who, whom), "already_contacts")
        crossing = self._pending(whom, who)
        if crossing is not None and self.now < self.requests[crossing].end:
            self._end_what_is_over(who, whom)
            self._approve(crossing, None)
            return
        sent = self._pending(who, whom)
        self._require(sent is None or self.requests[sent].end <= self.now, "request_pending")
        own = [asked for asked in self.requests.values() if asked.requester == who]
        recent = sum(asked.at > self.now - timedelta(hours=1) for asked in own)
        self._require(recent < LIMITS.contact_requests_per_hour_max, "rate_limited")
        is_to_stranger = not self.is_known(who, whom)
        waiting = sum(one.is_to_stranger and one.status == "pending" and self.now < one.end for one in own)
        self._require(not is_to_stranger or waiting < LIMITS.contact_requests_pending_max, "too_many_pending")
        self._end_what_is_over(who, whom)
        if sent is not None:
            self.requests[sent].status = "expired"
        asked = Asked(requester=who, recipient=whom, at=self.now, is_to_stranger=is_to_stranger)
        self.requests[reply.get("id", "")] = asked

    def answer(self, deed: Deed, _reply: dict[str, Any]) -> None:
        action = deed.more["action"]
        if deed.by_id:
            id_: str | None = deed.whom
        else:
            other = self._somebody(deed.whom)
            id_ = self._pending(deed.who, other) if action == "cancel" else self._pending(other, deed.who)
        asked = self.requests.get(id_ or "")
        self._require(id_ is not None and asked is not None, "not_found")
        assert asked is not None
        assert id_ is not None
        self._require(asked.requester in self.people and asked.recipient in self.people, "not_found")
        is_sent, is_received = self._acts_for(deed.who, asked.requester), self._acts_for(deed.who, asked.recipient)
        self._require(is_sent or is_received, "not_found")
        self._require(is_sent if action == "cancel" else is_received, "forbidden_role")
        self._require(asked.status == "pending" and self.now < asked.end, "request_resolved")
        if action == "approve":
            self._end_what_is_over(asked.requester, asked.recipient)
            self._approve(id_, deed.more.get("scope"))
        else:
            asked.status = {"reject": "rejected", "cancel": "cancelled"}[action]

    def remove(self, deed: Deed, _reply: dict[str, Any]) -> None:
        if deed.by_id:
            found = [two for two, consent in self.contacts.items() if consent.id == deed.whom]
            self._require(bool(found), "not_found")
            two = found[0]
        else:
            two = frozenset((deed.who, self._somebody(deed.whom)))
        self._require(two in self.contacts and self._is_ahead(self.contacts[two].end), "not_found")
        self._require(any(self._acts_for(deed.who, side) for side in two), "not_found")
        self._cut(two)

    def block(self, deed: Deed, _reply: dict[str, Any]) -> None:
        who, whom = deed.who, self._somebody(deed.whom)
        self._require(who != whom, "self_contact")
        self._require(not self.is_house(who, whom), "forbidden_role")
        self._require(not self.is_block(whom, who), "not_found")
        self._require(not self.is_block(who, whom), "already_blocked")
        self.blocks[who, whom] = deed.more.get("expires_at")
        self._cut(frozenset((who, whom)))
        for requester, recipient, final in ((who, whom, "cancelled"), (whom, who, "rejected")):
            pending = self._pending(requester, recipient)
            if pending is not None:
                self.requests[pending].status = final if self.now < self.requests[pending].end else "expired"

    def unblock(self, deed: Deed, _reply: dict[str, Any]) -> None:
        whom = self._somebody(deed.whom)
        self._require(self.is_block(deed.who, whom), "not_found")
        del self.blocks[deed.who, whom]

    def join(self, deed: Deed, _reply: dict[str, Any]) -> None:
        who = self.people[deed.who]
        self._require(who.organisation != deed.whom, "already_member")
        self._require(who.organisation is None, "other_organisation")
        for other in [one for one in self.users if one.organisation == deed.whom]:
            if any(
                (self.is_contact(who.id, other.id), self.is_block(who.id, other.id), self.is_block(other.id, who.id))
            ):
                continue
            self._end_what_is_over(who.id, other.id)
            self.contacts[frozenset((who.id, other.id))] = Consent(requester=who.id, origin="organisation")
        who.organisation = deed.whom

    def leave(self, deed: Deed, _reply: dict[str, Any]) -> None:
        who = self.people[deed.who]
        self._require(who.organisation is not None, "no_organisation")
        for two in [two for two in self.contacts if who.id in two and self.contacts[two].origin == "organisation"]:
            self._cut(two)
        left, who.organisation = who.organisation, None
        for own in self.agents:
            if own.owner == who.id and own.organisation == left:
                own.organisation = None

    def create(self, deed: Deed, reply: dict[str, Any]) -> None:
        owner = self.people[deed.who]
        draft = deed.more
        self._require(draft.get("organisation") in {None, owner.organisation}, "not_a_member")
        made = Somebody(**{**draft, "id": reply["id"], "handle": reply["handle"], "owner": owner.id})
        self.people[made.id] = made
        self.contacts[frozenset((owner.id, made.id))] = Consent(requester=owner.id, origin="owner")

    def delete(self, deed: Deed, _reply: dict[str, Any]) -> None:
        self._require(deed.whom in self.people, "not_found")
        self._require(self.people[deed.whom].owner == deed.who, "not_found")
        is_busy = any(one.is_unfinished and deed.whom in one.two for one in self.sessions.values())
        self._require(not is_busy and not self.people[deed.whom].money, "agent_in_use")
        for two in [two for two in self.contacts if deed.whom in two]:
            self._cut(two)
        self.blocks = {two: end for two, end in self.blocks.items() if deed.whom not in two}
        for asked in self.requests.values():
            if asked.status == "pending" and deed.whom in {asked.requester, asked.recipient}:
                final = "cancelled" if asked.requester == deed.whom else "rejected"
                asked.status = final if self.now < asked.end else "expired"
        del self.people[deed.whom]

    def deposit(self, deed: Deed, _reply: dict[str, Any]) -> None:
        self._require(deed.whom in self.people, "not_found")
        self.people[deed.whom].money += deed.more["amount"]

    def negotiate(self, deed: Deed, reply: dict[str, Any]) -> None:
        self._pass_the_gate(deed.who, deed.whom, "negotiation")
        self._require(bool(self.people[deed.whom].price), "free_agent")
        end = self.now + timedelta(seconds=LIMITS.negotiation_ttl_s)
        opened = Opened(kind="negotiation", client=deed.who, provider=deed.whom, status="open", end=end)
        self._require(self._open_count(opened) < LIMITS.negotiations_open_max, "too_many_open")
        self.sessions[reply.get("id", "")] = opened

    def hire(self, deed: Deed, reply: dict[str, Any]) -> None:
        client = self.people[deed.who]
        scope = self._pass_the_gate(deed.who, deed.whom, "task")
        price = self.people[deed.whom].price
        self._require(price <= scope.get("max_price", price), "contact_scope_exceeded")
        self._require(price <= client.money, "insufficient_balance")
        client.money -= price
        self.sessions[reply.get("id", "")] = Opened(
            kind="task", client=deed.who, provider=deed.whom, status="pending", price=price
        )

    def begin(self, deed: Deed, _reply: dict[str, Any]) -> None:
        task = self.sessions[deed.whom]
        self._require(task.is_unfinished, "terminal_state")
        task.status = "in_progress"

    def finish(self, deed: Deed, _reply: dict[str, Any]) -> None:
        task = self.sessions[deed.whom]
        if task.status == "completed":
            return  # Said again.
        self._require(task.is_unfinished, "terminal_state")
        task.status = "completed"
        self.people[task.provider].money += task.price - (FEE if task.price else 0)

    def run_timers(self, now: datetime) -> None:
        """All that is over by the clock ends, in the order in which it was due."""
        self.now = now
        due: list[tuple[datetime, Any]] = []
        due += [(one.end, one) for one in self.requests.values() if one.status == "pending"]
        due += [(one.end, one) for one in self.sessions.values() if one.status == "open" and one.end is not None]
        due += [(one.end, two) for two, one in self.contacts.items() if one.end is not None]
        due += [(end, two) for two, end in self.blocks.items() if end is not None]
        for end, what in sorted(due, key=lambda one: one[0]):
            if now < end:
                continue
            if isinstance(what, frozenset):
                self._cut(what)
            elif isinstance(what, tuple):
                del self.blocks[what]
            elif what.status in {"pending", "open"}:  # A contact that was due before may have ended it.
                what.status = "expired"

    def learn(self, ids: dict[Two, str]) -> None:
        """The ids of contacts that have come about."""
        for two, consent in self.contacts.items():
            consent.id = consent.id or ids.get(two)

    @property
    def view(self) -> View:
        """What has to be stored."""
        return View(
            contacts={two: (one.id or "?", one.origin, one.requester, one.scope) for two, one in self.contacts.items()},
            blocks=self.blocks,
            requests={id_: (one.requester, one.recipient, one.status) for id_, one in self.requests.items()},
            sessions={
                id_: (one.kind, one.client, one.provider, one.status, one.price) for id_, one in self.sessions.items()
            },
            money={one.id: one.money for one in self.agents if one.money},
        )

    # The parts of it.

    def _require(self, holds: bool, reason: str) -> None:  # noqa: FBT001 - It reads as a sentence.
        if not holds:
            raise Refused(reason)

    def _somebody(self, id_: str) -> str:
        self._require(id_ in self.people, "not_found")
        return id_

    def _is_ahead(self, end: datetime | None) -> bool:
        return end is None or self.now < end

    def _acts_for(self, who: str, side: str) -> bool:
        return who in {side, self.people[side].owner}

    def _pending(self, requester: str, recipient: str) -> str | None:
        """The stored request, also where it is over by the clock."""
        for id_, asked in self.requests.items():
            if (asked.requester, asked.recipient, asked.status) == (requester, recipient, "pending"):
                return id_
        return None

    def _approve(self, id_: str, scope: dict[str, Any] | None) -> None:
        asked = self.requests[id_]
        asked.status = "approved"
        two = frozenset((asked.requester, asked.recipient))
        before = self.contacts.get(two)
        self.contacts[two] = Consent(
            requester=asked.requester, origin="request", scope=scope, id=None if before is None else before.id
        )

    def _end_what_is_over(self, a: str, b: str) -> None:
        two = frozenset((a, b))
        if two in self.contacts and not self._is_ahead(self.contacts[two].end):
            self._cut(two)

    def _cut(self, two: Two) -> None:
        """The end of what two have with each other. What is in progress goes on."""
        self.contacts.pop(two, None)
        for one in self.sessions.values():
            if one.two == two and one.status in {"open", "pending"}:
                one.status = "cancelled"
                self.people[one.client].money += one.price

    def _pass_the_gate(self, who: str, whom: str, kind: str) -> dict[str, Any]:
        """Refuse what consent does not cover; the scope that binds, if any."""
        self._require(whom in self.people, "not_found")
        self._require(who != whom, "same_agent")
        self._require(not self.is_block(whom, who), "not_found")
        self._require(not self.is_block(who, whom), "blocked_by_you")
        if self.is_known(who, whom):
            return {}
        self._require(self.is_contact(who, whom), "contact_required")
        consent = self.contacts[frozenset((who, whom))]
        scope = (consent.scope or {}) if consent.requester == who else {}
        self._require(kind in scope.get("kinds", [kind]), "contact_scope_exceeded")
        count = sum(one.is_unfinished and (one.client, one.provider) == (who, whom) for one in self.sessions.values())
        self._require(count < scope.get("max_open", count + 1), "contact_scope_exceeded")
        return scope

    def _open_count(self, like: Opened) -> int:
        what = (like.kind, like.client, like.provider)
        return sum(one.is_unfinished and (one.kind, one.client, one.provider) == what for one in self.sessions.values())
