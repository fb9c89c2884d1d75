"""Who guesses at private channels: joins that were refused, and what one's own acts have cost."""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from agrenting.open_socket import OpenSocket
from agrenting.rates import Buckets
from channels.errors import RateLimited, Refusal
from channels.private_state import PREFIX

if TYPE_CHECKING:
    from agrenting.hub import Hub

DENIED: Final = frozenset(("AccessDenied", "NoChannelFound"))
"""The refusals of a join that count against who guesses."""


class Guesses:
    """Refused joins, counted by agent and channel.

    Args:
        hub: Settings and the time.
        sits: Whether a socket's instance sits in a channel already.
    """

    def __init__(self, hub: "Hub", sits: Callable[[OpenSocket, str], bool]) -> None:
        settings = hub.settings
        self._sits = sits
        self._failures = Buckets(
            per_s=settings.private_failures_per_s, burst=settings.private_failures_burst, monotonic=hub.monotonic
        )

    def require_may_try(self, socket: OpenSocket, topic: str) -> None:
        """Refuse the join of a channel by an agent that has failed there too often, without a look at its token.

        Also by one whose earlier acts in such channels have cost more than it may spend.

        Raises:
            RateLimited: `rate_limited`.
        """
        if not topic.startswith(PREFIX):
            return
        socket.limit("control", 0.0)
        if not self._sits(socket, topic):
            self._failures.require(f"{socket.identity.id} {topic}")

    def note_refused(self, socket: OpenSocket, topic: str, error: Exception) -> None:
        """A join was refused: it counts against its agent."""
        if topic.startswith(PREFIX) and isinstance(error, Refusal) and error.reason in DENIED:
            with contextlib.suppress(RateLimited):  # Several were under way when the last token went.
                self._failures.take(f"{socket.identity.id} {topic}")
