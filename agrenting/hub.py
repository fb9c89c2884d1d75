"""The hub: who is connected, who listens to which topic, who is present there; broadcasts to subscribers.

It decides nothing: rules are in `channels`, order and durability in the engine, frames in `connection.py`.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Coroutine, Iterable
from functools import partial
from typing import Any, Final

import structlog

from agrenting.config import Settings
from agrenting.connection import CLOSE_GOING_AWAY, CLOSE_RESTART, CLOSE_SESSION_OVER, RESTARTS, Connection, Subscription
from agrenting.db import agents
from agrenting.db.commit import Unit
from agrenting.db.transaction import WriterTx
from agrenting.engine import Engine
from agrenting.ids import new_phx_ref, new_secret
from agrenting.metrics import Metrics
from agrenting.rates import Buckets, TokenBucket
from channels import discovery
from channels.contacts import Party
from channels.handlers import Audience, Broadcast, ShowPresence, Track, UpdateMeta
from channels.identity import Identity
from channels.presence import Diff, Presence, filter_diff
from channels.routes import Route, Routes
from channels.wire import Outgoing

log = structlog.get_logger(__name__)

SWEEP_S: Final = 1.0
AGENT_RATE_FACTOR: Final = 4
"""An agent's buckets hold four sockets' worth."""

PRESENCE_DIFF: Final = "presence_diff"
PRESENCE_STATE: Final = "presence_state"


class Topic:
    """One topic that somebody listens to."""

    __slots__ = ("name", "parties", "presence", "subscribers")

    def __init__(self, name: str) -> None:
        self.name = name
        self.subscribers: dict[Subscription, None] = {}
        self.presence = Presence()
        self.parties: dict[str, Party] = {}
        """Who each presence is of, where not everybody sees everybody."""


class Hub:
    """Every connection of this process.

    Args:
        settings: Limits and times.
        routes: The topics.
        metrics: What is counted.
        monotonic: Seconds that only grow, for limits and time-outs.
    """

    engine: Engine

    def __init__(
        self,
        settings: Settings,
        routes: Routes,
        metrics: Metrics,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.routes = routes
        self.metrics = metrics
        self.monotonic = monotonic
        self.loop = asyncio.get_running_loop()
        self.is_draining = False
        self.connections: dict[Connection, None] = {}
        self.topics: dict[str, Topic] = {}
        self._by_socket_id: dict[str, dict[Connection, None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._rates = {
            "control": (settings.control_per_s, settings.control_burst),
            "stream": (settings.stream_bytes_per_s, settings.stream_bytes_burst),
            "discovery": (settings.discovery_per_s, settings.discovery_burst),
            "joins": (settings.joins_per_s, settings.joins_burst),
        }
        self.agent_buckets = {
            rate: Buckets(per_s=AGENT_RATE_FACTOR * per_s, burst=AGENT_RATE_FACTOR * burst, monotonic=monotonic)
            for rate, (per_s, burst) in self._rates.items()
        }

    # Connections.

    def add(self, connection: Connection) -> None:
        """A socket has been opened."""
        self.connections[connection] = None
        self._by_socket_id.setdefault(connection.identity.socket_id, {})[connection] = None
        self.metrics.connections.set(len(self.connections))

    def forget(self, connection: Connection) -> None:
        """A socket is gone."""
        self.connections.pop(connection, None)
        same = self._by_socket_id.get(connection.identity.socket_id)
        if same is not None:
            same.pop(connection, None)
            if not same:
                del self._by_socket_id[connection.identity.socket_id]
        self.metrics.connections.set(len(self.connections))

    def is_connected(self, socket_id: str) -> bool:
        """Whether anybody is connected under a socket id."""
        return socket_id in self._by_socket_id

    def disconnect(self, socket_id: str, code: int = CLOSE_GOING_AWAY, reason: str = "disconnected") -> int:
        """Close every socket of a socket id; how many there were."""
        closing = list(self._by_socket_id.get(socket_id, ()))
        for connection in closing:
            connection.close(code, reason)
        return len(closing)

    def disconnect_keys(self, key_ids: Collection[str]) -> None:
        """Close every socket that was opened with one of these API keys, or with a session of one."""
        if key_ids:
            for connection in [one for one in self.connections if one.identity.key_id in key_ids]:
                connection.close(CLOSE_GOING_AWAY, "disconnected")

    def socket_bucket(self, rate: str, now: float) -> TokenBucket:
        """A fresh bucket of one class for one socket."""
        per_s, burst = self._rates[rate]
        return TokenBucket(per_s, burst, now)

    def count(self, what: str, route: Route | None, outcome: str, event: str = "") -> None:
        """Count a join, a push or a close, by topic pattern and outcome."""
        pattern = "" if route is None else route.pattern
        self.metrics.count(what, pattern, event if outcome != "unknown_event" else "", outcome)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside, and keep hold of it until it is done."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def sweep_for_ever(self) -> None:
        """Close sockets that have gone silent or whose session is over, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = self.monotonic()
            for connection in list(self.connections):
                if connection.expires_at is not None and now >= connection.expires_at:
                    connection.close(CLOSE_SESSION_OVER, "the session has expired; authenticate again")
                elif now - connection.heard_at >= self.settings.socket_idle_s:
                    log.info("socket_idle", agent=connection.identity.handle)
                    connection.close(CLOSE_GOING_AWAY, "silent for too long; send heartbeats")

    async def drain(self) -> None:
        """Stop: refuse new sockets, close the open ones in random order over `drain_s`, finish every commit.

        A socket takes nothing more from its turn on, and is closed once everything that it has sent is answered.
        """
        self.is_draining = True
        leaving = list(self.connections)
        random.shuffle(leaving)  # So that not all of one agent's peers go first.
        pause_s = self.settings.drain_s / max(1, len(leaving))
        started = self.monotonic()
        for number, connection in enumerate(leaving):
            connection.leave()
            ahead_s = (number + 1) * pause_s - (self.monotonic() - started)
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
        await self.engine.database.commits.drain()
        await asyncio.sleep(0)  # Who has waited for its last reply closes now.
        for connection in list(self.connections):
            connection.close(CLOSE_RESTART, RESTARTS)

    # Topics.

    def subscribe(self, subscription: Subscription) -> None:
        """A socket listens to a topic from now on."""
        topic = self.topics.get(subscription.topic)
        if topic is None:
            topic = self.topics[subscription.topic] = Topic(subscription.topic)
        topic.subscribers[subscription] = None

    def unsubscribe(self, subscription: Subscription | None) -> None:
        """A socket listens no more, and its presences leave."""
        topic = self.topics.get(subscription.topic) if subscription is not None else None
        if topic is None or subscription is None or subscription not in topic.subscribers:
            return
        del topic.subscribers[subscription]
        diff = topic.presence.untrack(subscription)
        if diff is not None and not diff.is_empty:
            self._tell_diff(topic, diff)
            for key in diff.leaves:
                if key not in topic.presence:
                    topic.parties.pop(key, None)
                    self._note_gone(topic.name, key)
        if not topic.subscribers:
            del self.topics[subscription.topic]

    def publish(self, broadcasts: Iterable[Broadcast], sender_id: str | None, socket: Connection | None) -> None:
        """Send broadcasts to their subscribers; each payload is encoded once."""
        for broadcast in broadcasts:
            topic = self.topics.get(broadcast.topic)
            if topic is not None:
                self._publish(topic, broadcast, sender_id, socket)

    def _publish(self, topic: Topic, broadcast: Broadcast, sender_id: str | None, socket: Connection | None) -> None:
        outgoing = Outgoing(broadcast.topic, broadcast.event, broadcast.payload)
        audience = broadcast.audience
        about = topic.parties.get(broadcast.about) if broadcast.about is not None else None
        for subscription in list(topic.subscribers):
            connection = subscription.connection
            if audience is Audience.OTHER_SOCKETS and connection is socket:
                continue
            if audience is Audience.OTHER_AGENTS and connection.identity.agent_id == sender_id:
                continue
            visible = subscription.route.visible
            if broadcast.about is not None and visible and (about is None or not visible(subscription.party, about)):
                continue
            connection.send(outgoing.frame_for(connection.vsn, subscription.join_ref))

    # Presence.

    def change_presence(self, subscription: Subscription, changes: Iterable[Track | ShowPresence | UpdateMeta]) -> None:
        """Track, show or update presences; a socket that tracks one is first pushed the whole state."""
        for change in changes:
            match change:
                case Track():
                    self._track(subscription, change)
                case ShowPresence():
                    self._show(subscription)
                case UpdateMeta():
                    self.update_presence(change, subscription)

    def _show(self, subscription: Subscription) -> None:
        topic = self.topics.get(subscription.topic)
        if topic is None or subscription not in topic.subscribers:
            return
        state = topic.presence.state(self._seer(topic, subscription))
        pushed = Outgoing(topic.name, PRESENCE_STATE, state)
        connection = subscription.connection
        connection.send(pushed.frame_for(connection.vsn, subscription.join_ref))

    def _track(self, subscription: Subscription, track: Track) -> None:
        topic = self.topics.get(subscription.topic)
        if topic is None or subscription not in topic.subscribers:
            return
        key = track.key if track.key is not None else new_secret("presence")
        if track.party is not None:
            topic.parties[key] = track.party
        diff = topic.presence.track(key, subscription, track.meta, new_phx_ref())
        self._show(subscription)
        self._tell_diff(topic, diff)

    def update_presence(self, change: UpdateMeta, subscription: Subscription | None) -> None:
        """Replace or merge the metas of one socket's presences, or of all of an agent's."""
        topic = self.topics.get(change.topic)
        if topic is None:
            return
        for owner in list(topic.subscribers):
            if change.agent_id is None:
                is_meant = owner is subscription
            else:
                is_meant = owner.connection.identity.agent_id == change.agent_id
            if not is_meant:
                continue
            for key, meta in topic.presence.owned(owner):
                after = {**meta, **change.meta} if change.merge else change.meta
                self._tell_diff(topic, topic.presence.update(owner, key, after, new_phx_ref()))

    def _seer(self, topic: Topic, subscription: Subscription) -> Callable[[str], bool]:
        visible = subscription.route.visible

        def sees(key: str) -> bool:
            party = topic.parties.get(key)
            return visible is None or party is None or visible(subscription.party, party)

        return sees

    def _tell_diff(self, topic: Topic, diff: Diff) -> None:
        whole = Outgoing(topic.name, PRESENCE_DIFF, diff)
        for subscription in list(topic.subscribers):
            connection, seen = subscription.connection, whole
            if subscription.route.visible is not None:
                part = filter_diff(diff, self._seer(topic, subscription))
                if part.is_empty:
                    continue
                if part is not diff:
                    seen = Outgoing(topic.name, PRESENCE_DIFF, part)
            connection.send(seen.frame_for(connection.vsn, subscription.join_ref))

    def join_came_to_nothing(self, topic: str, identity: Identity) -> None:
        """A join was decided for a socket that is gone: whoever it made present is not."""
        if identity.agent_id is not None:
            self._note_gone(topic, identity.agent_id)

    def _note_gone(self, topic: str, agent_id: str) -> None:
        """The last presence of an agent has left discovery: from now on it is found as offline.

        It is queued here and now, before whatever the agent does next: a join that follows is written after it.
        """
        if topic == discovery.TOPIC and not self.is_draining:  # The next start finds nobody online anyway.
            self._note(agent_id, agents.OFFLINE)

    def _note(self, agent_id: str, presence: str) -> None:
        def written(_outcome: None, error: Exception | None) -> None:
            if error is not None:
                log.error("presence_not_noted", agent_id=agent_id, exc_info=error)
                return
            topic = self.topics.get(discovery.TOPIC)
            metas = topic.presence.metas(agent_id) if topic is not None else []
            if metas and presence == agents.OFFLINE:  # Another socket of it came while this was being written.
                self._note(agent_id, metas[-1]["status"])

        self.engine.database.commits.submit(Unit(partial(_set_presence, agent_id, presence), written))


def _set_presence(agent_id: str, presence: str, tx: WriterTx) -> None:
    agents.set_presence(tx, agent_id, presence)
