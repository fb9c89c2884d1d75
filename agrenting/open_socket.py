"""OpenSocket: what every open socket of an agent or a user has, whatever it speaks.

Who it is, how much it may send, what waits for it, and how it is closed. Frames are in `connection.py` (Phoenix) and in
`dacp_connection.py` (FDC3).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import structlog

from agrenting.rates import TokenBucket, too_often
from agrenting.transport import HubProtocol
from channels.handlers import RATES_IN_BYTES, Handler, bytes_cost, event_class
from channels.identity import Identity
from channels.session import Joined

if TYPE_CHECKING:
    from agrenting.hub import Hub

log = structlog.get_logger(__name__)

CLOSE_GOING_AWAY: Final = 1001
CLOSE_BAD_FRAME: Final = 1011
CLOSE_RESTART: Final = 1012
CLOSE_TRY_LATER: Final = 1013
CLOSE_SESSION_OVER: Final = 1008
RESTARTS: Final = "the server restarts; connect again"

NO_TOPICS: Final[Mapping[str, Joined]] = {}


class OpenSocket:
    """One open socket.

    Args:
        hub: Routes, engine, subscribers, settings.
        protocol: The transport.
        identity: Who it is, proven before the upgrade.
        instance_id: Which of the agent's programs it is.
        is_watching: Somebody looks on by it: nobody is connected, and online, because of it.
    """

    __slots__ = (
        "_is_held",
        "_is_leaving",
        "_under_way",
        "_under_way_bytes",
        "buckets",
        "expires_at",
        "heard_at",
        "hub",
        "identity",
        "instance_id",
        "is_open",
        "is_watching",
        "opened_at",
        "protocol",
    )

    def __init__(self, hub: "Hub", protocol: HubProtocol, identity: Identity, instance_id: str) -> None:
        self.hub = hub
        self.protocol = protocol
        self.identity = identity
        self.instance_id = instance_id
        self.is_open = True
        self.is_watching = False
        self.heard_at = self.opened_at = hub.monotonic()
        self.expires_at: float | None = None
        self.buckets: dict[str, TokenBucket] = {}
        self._under_way = 0
        self._under_way_bytes = 0
        self._is_held = False
        self._is_leaving = False

    @property
    def joined(self) -> Mapping[str, Joined]:
        """The Phoenix topics that it has joined."""
        return NO_TOPICS

    def is_joining(self, _topic: str) -> bool:
        """Whether a topic's join is being decided."""
        return False

    # What comes in.

    def heard(self) -> None:
        """The peer lives."""
        self.heard_at = self.hub.monotonic()

    def limit(self, rate: str, cost: float) -> None:
        """Take from the socket's bucket of a class, and from its agent's.

        Raises:
            RateLimited: `rate_limited`.
        """
        wait_s = self._bucket(rate).take(cost, self.heard_at)
        if wait_s:
            raise too_often(wait_s)
        self.hub.agent_buckets[rate].take(self.identity.id, cost)

    def charge(self, rate: str, cost: float) -> None:
        """Take from both, there or not, what something cost that could not be known before it was done."""
        self._bucket(rate).charge(cost, self.heard_at)
        self.hub.agent_buckets[rate].charge(self.identity.id, cost)

    def _bucket(self, rate: str) -> TokenBucket:
        bucket = self.buckets.get(rate)
        if bucket is None:
            bucket = self.buckets[rate] = self.hub.socket_bucket(rate, self.heard_at)
        return bucket

    def limit_event(self, handler: Handler, size: int) -> None:
        """Take what one event of a handler costs, with a payload of so many bytes.

        Raises:
            RateLimited: `rate_limited`.
        """
        counted = event_class(handler.rate)
        if counted is not None:
            self.limit(counted, 1.0)
        if handler.rate in RATES_IN_BYTES:
            self.limit(handler.rate, float(bytes_cost(handler.rate, size)))

    def under_way(self, change: int, size: int) -> None:
        """Count frames that are being decided, and their bytes; hold reading while there are too many."""
        self._under_way += change
        self._under_way_bytes += size
        settings = self.hub.settings
        if self._is_leaving and self._under_way == 0:
            self.hub.loop.call_soon(self.close, CLOSE_RESTART, RESTARTS)  # Once what was decided has been said.
        elif self._is_held:
            frames, size = settings.inbox_frames_max // 2, settings.inbox_bytes_max // 2
            if self._under_way <= frames and self._under_way_bytes <= size:
                self._is_held = False
                self.protocol.resume_reading()
        elif self._under_way > settings.inbox_frames_max or self._under_way_bytes > settings.inbox_bytes_max:
            self._is_held = True
            self.protocol.hold_reading()

    # What goes out.

    def send(self, message: str | bytes) -> None:
        """Queue a message; a peer that does not read is closed once its outbox is full."""
        protocol = self.protocol
        protocol.send_message(message)
        if protocol.outbox_bytes > self.hub.settings.outbox_bytes_max:
            protocol.flush()  # It may only be that much was said within one loop turn.
            if protocol.is_full and protocol.outbox_bytes > self.hub.settings.outbox_bytes_max:
                self.too_slow()

    def has_room_for(self, size: int) -> bool:
        """Whether a message of so many bytes may be sent: the peer reads, or no more waits for it than may."""
        protocol = self.protocol
        return not protocol.is_full or protocol.outbox_bytes + size <= self.hub.settings.outbox_bytes_max

    def too_slow(self) -> None:
        """Close a socket for which too much waits. It comes again and resumes."""
        log.warning("slow_consumer", agent=self.identity.handle, outbox_bytes=self.protocol.outbox_bytes)
        self.hub.count("close", None, "slow_consumer")
        # Its topics end when the door hears of it: to tell that now could fill the next outbox, and so on.
        self.protocol.close_with(CLOSE_TRY_LATER, "you do not read fast enough: the outbox is full")

    # The end.

    def leave(self) -> None:
        """The server stops: take nothing more, and close once everything under way has been answered."""
        self._is_leaving = True
        if self._under_way == 0:
            self.close(CLOSE_RESTART, RESTARTS)

    def close(self, code: int, reason: str) -> None:
        """Close the socket from this side."""
        if self.is_open:
            self.closed()
            self.protocol.close_with(code, reason)

    def closed(self) -> None:
        """The socket is gone, or going: every topic ends, presences leave, nothing is sent any more."""
        if not self.is_open:
            return
        self.is_open = False
        self._let_go()
        self.hub.forget(self)

    def _let_go(self) -> None:
        """End what the socket takes part in."""
