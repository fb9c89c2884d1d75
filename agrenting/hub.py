"""The hub: who is connected, who listens to which topic; and it tells them what has been decided.

It decides nothing: rules are in `channels`, order and durability in the engine, frames in `connection.py`, who is
present on a topic and who sees whom there in `presences.py`.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator
from functools import partial
from typing import Any, Final

import structlog

from agrenting.config import Settings
from agrenting.db import agents
from agrenting.db.commit import Unit
from agrenting.db.transaction import WriterTx
from agrenting.engine import Engine
from agrenting.metrics import Metrics
from agrenting.open_socket import CLOSE_GOING_AWAY, CLOSE_RESTART, CLOSE_SESSION_OVER, RESTARTS, OpenSocket
from agrenting.presences import Topic
from agrenting.private_members import PrivateMembers
from agrenting.pulse import Pulse
from agrenting.rates import Buckets, TokenBucket
from agrenting.subscriptions import Subscription
from channels import discovery
from channels.contacts import Tie
from channels.handlers import Decision, FollowChannel, KnowTies, ShowPresence, Track, UpdateMeta
from channels.routes import Route, Routes
from channels.told import Broadcast, Counted, Ended, OfPrivateChannel, Retied, Saved, Told, Unsaid
from channels.wire import PHX_CLOSE

log = structlog.get_logger(__name__)

SWEEP_S: Final = 1.0
AGENT_RATE_FACTOR: Final = 4
"""An agent's buckets hold four sockets' worth."""


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
        self.connections: dict[OpenSocket, None] = {}
        self.topics: dict[str, Topic] = {}
        self._by_socket_id: dict[str, dict[OpenSocket, None]] = {}
        self.private = PrivateMembers(self)
        self.pulse = Pulse(self)
        self._tasks: set[asyncio.Task[None]] = set()
        self._rates = {
            "control": (settings.control_per_s, settings.control_burst),
            "stream": (settings.stream_bytes_per_s, settings.stream_bytes_burst),
            "chain": (settings.chain_bytes_per_s, settings.chain_bytes_burst),
            "message": (settings.message_bytes_per_s, settings.message_bytes_burst),
            "discovery": (settings.discovery_per_s, settings.discovery_burst),
            "joins": (settings.joins_per_s, settings.joins_burst),
        }
        self.agent_buckets = {
            rate: Buckets(per_s=AGENT_RATE_FACTOR * per_s, burst=AGENT_RATE_FACTOR * burst, monotonic=monotonic)
            for rate, (per_s, burst) in self._rates.items()
        }

    # Connections.

    def add(self, connection: OpenSocket) -> None:
        """A socket has been opened."""
        self.connections[connection] = None
        self._by_socket_id.setdefault(connection.identity.socket_id, {})[connection] = None
        self.private.opened(connection)
        self.metrics.connections.set(len(self.connections))

    def forget(self, connection: OpenSocket) -> None:
        """A socket is gone."""
        self.connections.pop(connection, None)
        same = self._by_socket_id.get(connection.identity.socket_id)
        if same is not None:
            same.pop(connection, None)
            if not same:
                del self._by_socket_id[connection.identity.socket_id]
        self.private.gone(connection)
        self.metrics.connections.set(len(self.connections))

    def is_connected(self, socket_id: str) -> bool:
        """Whether anybody is connected under a socket id, and not only watching."""
        return any(not connection.is_watching for connection in self._by_socket_id.get(socket_id, ()))

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
        """Stop: refuse new sockets, close the open ones in random order over `drain_s`, finish what is under way.

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
        await self.engine.drain()
        await asyncio.sleep(0)  # Who has waited for its last reply closes now.
        for connection in list(self.connections):
            connection.close(CLOSE_RESTART, RESTARTS)

    async def close(self) -> None:
        """The server ends: no socket is told anything any more, and nothing runs beside it."""
        self.is_draining = True
        for connection in list(self.connections):
            connection.closed()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Topics.

    def subscribe(self, subscription: Subscription) -> None:
        """A socket listens to a topic from now on."""
        topic = self.topics.get(subscription.topic)
        if topic is None:
            topic = self.topics[subscription.topic] = Topic(subscription.topic)
        topic.subscribers[subscription] = None

    def unsubscribe(self, subscription: Subscription | None, *, is_leaving: bool = False) -> None:
        """A socket listens no more, and its presences leave; `is_leaving`: as its client has asked."""
        topic = None if subscription is None else self._topic_of(subscription)
        if topic is None or subscription is None:
            return
        subscription.over(is_leaving=is_leaving)
        for key in topic.leave(subscription):
            self._note_gone(topic.name, key)
        if not topic.subscribers:
            del self.topics[subscription.topic]
        elif topic.ties_of(subscription.party.id) and not any(self._listening(topic, subscription.party.id)):
            topic.forget_ties(subscription.party.id)

    def publish(self, told: Iterable[Told], sender_id: str | None, socket: OpenSocket | None) -> None:
        """Tell what follows from one decision: broadcasts to their subscribers, and ties to who sees presences by them.

        A decision may change a tie more than once, where one thing ends another: only its last word is shown.
        """
        said = tuple(told)
        last = {frozenset((one.a_id, one.b_id)): one for one in said if isinstance(one, Retied)}
        for one in said:
            if isinstance(one, Retied):
                if one is last[frozenset((one.a_id, one.b_id))]:
                    self._retie(one.a_id, one.b_id, one.tie)
                    self._retie(one.b_id, one.a_id, one.tie.mirrored)
                continue
            if isinstance(one, Counted):
                self.pulse.touch(one)
                continue
            if isinstance(one, OfPrivateChannel):
                self.private.told(one, socket)
                continue
            topic = self.topics.get(one.topic)
            if topic is not None:
                self._tell(topic, one, sender_id, socket)

    def _tell(
        self, topic: Topic, told: Broadcast | Unsaid | Ended | Saved, sender_id: str | None, socket: OpenSocket | None
    ) -> None:
        """Tell the subscribers of a topic."""
        match told:
            case Broadcast():
                topic.publish(told, sender_id, socket)
            case Unsaid():
                topic.unsay(sender_id)
            case Ended():
                for subscription in topic.listeners(told.entity_id):
                    if told.is_silent:
                        self.unsubscribe(subscription)
                    else:
                        subscription.connection.end(subscription, PHX_CLOSE, {})
            case Saved():
                pass  # That is for the lanes.

    def _topic_of(self, subscription: Subscription) -> Topic | None:
        """The topic that a subscription is still one of."""
        topic = self.topics.get(subscription.topic)
        return topic if topic is not None and subscription in topic.subscribers else None

    def _listening(self, topic: Topic, entity_id: str) -> Iterator[Subscription]:
        """The sockets of an agent or a user that listen to a topic, found one by one: it may have thousands."""
        for connection in self._connections_of(entity_id):
            joined = connection.joined.get(topic.name)
            if joined is not None and joined.subscription in topic.subscribers:
                yield joined.subscription

    def _connections_of(self, entity_id: str) -> Iterator[OpenSocket]:
        for socket_id in (f"agent_socket:{entity_id}", f"user_socket:{entity_id}"):
            yield from self._by_socket_id.get(socket_id, ())

    # Presence.

    def change_presence(
        self, subscription: Subscription, changes: Iterable[KnowTies | Track | ShowPresence | UpdateMeta]
    ) -> None:
        """Track, show or update presences, and know by which ties they are shown.

        A socket that tracks one is first pushed the whole state.
        """
        for change in changes:
            if isinstance(change, UpdateMeta):
                self.update_presence(change, subscription)
                continue
            topic = self._topic_of(subscription)
            if topic is None:
                continue
            match change:
                case KnowTies():
                    topic.know(subscription, change.ties, self._listening(topic, subscription.party.id))
                case Track():
                    topic.track(subscription, change)
                case ShowPresence():
                    topic.show(subscription)

    def update_presence(self, change: UpdateMeta, subscription: Subscription | None) -> None:
        """Replace or merge the metas of one socket's presences, or of all of an agent's."""
        topic = self.topics.get(change.topic)
        if topic is not None:
            topic.update(change, subscription)

    def _retie(self, viewer_id: str, subject_id: str, tie: Tie) -> None:
        """The tie of one entity to another is now this: whatever it watches shows it or hides it."""
        names = {
            name: None
            for connection in self._connections_of(viewer_id)
            for name, joined in connection.joined.items()
            if joined.subscription.route.visible is not None
        }
        for name in names:
            topic = self.topics[name]
            topic.retie(list(self._listening(topic, viewer_id)), subject_id, tie)

    def join_came_to_nothing(self, topic: str, connection: OpenSocket, decision: Decision | None) -> None:
        """A join was decided for a socket that is gone, or waits no more: whoever it made present is not."""
        if connection.identity.agent_id is not None:
            self._note_gone(topic, connection.identity.agent_id)
        if decision is not None and isinstance(decision.follow, FollowChannel):
            self.private.missed(connection, decision.follow)

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
