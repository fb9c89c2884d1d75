"""One topic's listeners: who they are, who is present there, and who of them sees whom.

What a topic's route lets a listener see rests on the two parties and on their tie. Ties are kept for each listening
entity, the same for all its sockets, and only where they say something: most listeners have none, and cost nothing.
"""

from collections.abc import Collection, Hashable, Iterable
from itertools import product
from typing import Any, Final

from agrenting.ids import new_phx_ref, new_secret
from agrenting.open_socket import OpenSocket
from agrenting.subscriptions import Subscription
from channels.contacts import NO_TIE, Party, Tie, Ties
from channels.handlers import Track, UpdateMeta
from channels.presence import Diff, Presence, State, filter_diff
from channels.told import Audience, Broadcast
from channels.wire import PHX_ERROR, Outgoing

PRESENCE_DIFF: Final = "presence_diff"
PRESENCE_STATE: Final = "presence_state"

NO_TIES: Final[Ties] = {}
"""What an entity knows that has nothing to do with anybody."""

_SHARED: Final = {
    three: Tie(is_contact=three[0], is_blocked=three[1], has_blocked=three[2])
    for three in product((False, True), repeat=3)
}
"""Every tie that there is without a scope, which nothing here asks for: one object each, however many are kept."""


class Topic:
    """One topic that somebody listens to."""

    __slots__ = ("_ties", "name", "parties", "presence", "subscribers")

    def __init__(self, name: str) -> None:
        self.name = name
        self.subscribers: dict[Subscription, None] = {}
        self.presence = Presence()
        self.parties: dict[str, Party] = {}
        """Who each presence is of, where not everybody sees everybody; its key is the party's id."""
        self._ties: dict[str, dict[str, Tie]] = {}
        """Listening entity → another one's id → its tie to that; only those that are not NO_TIE."""

    def publish(self, broadcast: Broadcast, sender_id: str | None, socket: OpenSocket | None) -> None:
        """Send a broadcast to whom it is for; its payload is encoded once."""
        outgoing = Outgoing(broadcast.topic, broadcast.event, broadcast.payload)
        binary = None if broadcast.binary is None else Outgoing(broadcast.topic, broadcast.event, broadcast.binary)
        audience = broadcast.audience
        is_about = broadcast.about is not None
        about = self.parties.get(broadcast.about) if broadcast.about is not None else None
        for subscription in list(self.subscribers):
            connection = subscription.connection
            if audience is Audience.OTHER_SOCKETS and connection is socket:
                continue
            if audience is Audience.OTHER_AGENTS and connection.identity.agent_id == sender_id:
                continue
            if broadcast.to is not None and connection.identity.id not in broadcast.to:
                continue
            if broadcast.is_asked_for and broadcast.event not in subscription.takes:
                continue
            if broadcast.is_spare and not connection.has_room_for(subscription.size_of(outgoing)):
                continue
            if is_about and subscription.route.visible and (about is None or not self._sees(subscription, about)):
                continue
            subscription.tell(binary if binary is not None and subscription.is_binary else outgoing, broadcast)

    def unsay(self, sender_id: str | None) -> None:
        """End the topic for all who got what an agent has sent and what is not stored: they join again."""
        for subscription in list(self.subscribers):
            connection = subscription.connection
            if connection.identity.agent_id != sender_id:
                connection.end(subscription, PHX_ERROR, {"reason": "relay_void"})

    def listeners(self, entity_id: str | None) -> list[Subscription]:
        """The listeners of an agent or a user, or all."""
        return [one for one in self.subscribers if entity_id is None or one.connection.identity.id == entity_id]

    # Presence.

    def show(self, subscription: Subscription) -> None:
        """Push who is present, as far as the listener may see."""
        state = self.presence.state(lambda key: self._shows(subscription, self.parties.get(key)))
        subscription.push(Outgoing(self.name, PRESENCE_STATE, state))

    def track(self, subscription: Subscription, track: Track) -> None:
        """Make a listener present: it is pushed the whole state first, then everybody the change."""
        key = track.key if track.key is not None else new_secret("presence")
        if track.party is not None:
            self.parties[key] = track.party
        diff = self.presence.track(key, subscription, track.meta, new_phx_ref())
        self.show(subscription)
        self._tell(diff)

    def appear(self, owner: Hashable, key: str, meta: dict[str, Any], joiner: Subscription | None = None) -> None:
        """Make somebody present who need not listen here, and tell whoever does. Once more is nothing.

        Args:
            owner: Who is present, until `vanish`.
            key: Under which it is found.
            meta: Any JSON object.
            joiner: A listener that is pushed the whole state first.
        """
        diff = None if self.presence.owned(owner) else self.presence.track(key, owner, meta, new_phx_ref())
        if joiner is not None:
            self.show(joiner)
        if diff is not None:
            self._tell(diff)

    def vanish(self, owner: Hashable, leavers: Collection[Subscription] = ()) -> None:
        """Somebody is present no more: whoever listens is told, but not those that leave with it."""
        diff = self.presence.untrack(owner)
        if diff is not None:
            self._tell(diff, leavers)

    def update(self, change: UpdateMeta, subscription: Subscription | None) -> None:
        """Replace or merge the metas of one listener's presences, or of all of an agent's."""
        for owner in list(self.subscribers):
            if change.agent_id is None:
                is_meant = owner is subscription
            else:
                is_meant = owner.connection.identity.agent_id == change.agent_id
            if not is_meant:
                continue
            for key, meta in self.presence.owned(owner):
                after = {**meta, **change.meta} if change.merge else change.meta
                self._tell(self.presence.update(owner, key, after, new_phx_ref()))

    def leave(self, subscription: Subscription) -> list[str]:
        """A listener is gone, and what it made present leaves; the keys that are present no more."""
        del self.subscribers[subscription]
        diff = self.presence.untrack(subscription)
        if diff is None:
            return []
        self._tell(diff)
        gone = [key for key in diff.leaves if key not in self.presence]
        for key in gone:
            self.parties.pop(key, None)
        return gone

    # Ties.

    def ties_of(self, entity_id: str) -> Ties:
        """What is known of an entity that listens."""
        return self._ties.get(entity_id, NO_TIES)

    def know(self, subscription: Subscription, ties: Ties, own: Iterable[Subscription]) -> None:
        """The ties of a new listener's entity, as they stand when it joins.

        Args:
            subscription: The new listener, which is shown the state afterwards.
            ties: All of them.
            own: The entity's listeners, only looked at if its ties were not known so before: what another process
                decides, or the clock, is told later than it stands in the database. They see what it changes.
        """
        party = subscription.party
        before = self.ties_of(party.id)
        self._ties.pop(party.id, None)
        for other_id, tie in ties.items():
            self._set(party, other_id, tie)
        after = self.ties_of(party.id)
        if before == after:
            return
        for one in list(own):
            if one is not subscription:
                self._show_changes(one, before, before.keys() | after.keys())

    def retie(self, subscriptions: list[Subscription], subject_id: str, tie: Tie) -> None:
        """The tie of an entity to another has changed: its listeners, all of them, see what that changes."""
        party = subscriptions[0].party
        before = {subject_id: self.ties_of(party.id).get(subject_id, NO_TIE)}
        self._set(party, subject_id, tie)
        for subscription in subscriptions:
            self._show_changes(subscription, before, (subject_id,))

    def forget_ties(self, entity_id: str) -> None:
        """An entity listens no more."""
        self._ties.pop(entity_id, None)

    def _set(self, party: Party, other_id: str, tie: Tie) -> None:
        if other_id == party.user_id:  # An owner and its agents see each other whatever the tie, and all have one.
            return
        plain = _SHARED[tie.is_contact, tie.is_blocked, tie.has_blocked]
        if plain != NO_TIE:
            self._ties.setdefault(party.id, {})[other_id] = plain
        elif party.id in self._ties:
            known = self._ties[party.id]
            known.pop(other_id, None)
            if not known:
                del self._ties[party.id]

    def _show_changes(self, subscription: Subscription, before: Ties, subject_ids: Iterable[str]) -> None:
        """Push what a listener sees of some others differently than before: as if they had come, or gone."""
        visible = subscription.route.visible
        joins: State = {}
        leaves: State = {}
        for id_ in subject_ids:
            subject = self.parties.get(id_)
            if subject is None or visible is None:
                continue
            sees = self._sees(subscription, subject)
            if sees != visible(subscription.party, subject, before.get(id_, NO_TIE)):
                (joins if sees else leaves)[id_] = {"metas": self.presence.metas(id_)}
        if joins or leaves:
            subscription.push(Outgoing(self.name, PRESENCE_DIFF, Diff(joins, leaves)))

    # Who sees whom.

    def _sees(self, subscription: Subscription, subject: Party) -> bool:
        visible, viewer = subscription.route.visible, subscription.party
        known = self._ties.get(viewer.id)
        tie = NO_TIE if known is None else known.get(subject.id, NO_TIE)
        return visible is None or visible(viewer, subject, tie)

    def _shows(self, subscription: Subscription, subject: Party | None) -> bool:
        return subject is None or self._sees(subscription, subject)

    def _tell(self, diff: Diff, leavers: Collection[Subscription] = ()) -> None:
        whole = Outgoing(self.name, PRESENCE_DIFF, diff)
        subjects = [(key, self.parties.get(key)) for key in {**diff.joins, **diff.leaves}]
        for subscription in list(self.subscribers):
            if subscription in leavers:
                continue
            seen = whole
            if subscription.route.visible is not None:
                shown = {key for key, subject in subjects if self._shows(subscription, subject)}
                if not shown:
                    continue
                if len(shown) < len(subjects):
                    seen = Outgoing(self.name, PRESENCE_DIFF, filter_diff(diff, shown.__contains__))
            subscription.push(seen)
