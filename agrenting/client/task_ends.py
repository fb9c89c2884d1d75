"""How a task has ended that this agent has done, and what has become of its price then, told to who wants to know.

The work is over by then, and nothing depends on this: what cannot be learnt is not told.
"""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .asking import converted
from .errors import ClientError, LyingServer
from .kept_topic import JOINED, KeptTopic
from .serving import WORKABLE

if TYPE_CHECKING:
    from .context import AgentContext

OnEnd = Callable[[dict[str, Any]], None]
"""Told how a task stands that has ended: the whole task, as PROTOCOL.md lists its fields. It must not wait."""

UNDECIDED: Final = WORKABLE | {"disputed"}

_LOG = logging.getLogger(__name__)


class _Standing(msgspec.Struct, frozen=True):
    """What is read of a task here."""

    status: str
    escrow_status: str


class TaskEnd:
    """The end of one task.

    Args:
        context: The agent's.
        task_id: The task's.
        on_end: Is told. What it raises is logged, and changes nothing.
    """

    def __init__(self, context: "AgentContext", task_id: str, on_end: OnEnd) -> None:
        self.topic = KeptTopic(context.connection, f"task:{task_id}")
        """Leave it at the end."""
        self._task_id = task_id
        self._on_end = on_end
        self._standing = _Standing("pending", "held")
        self._is_lost = False

    @property
    def is_open(self) -> bool:
        """Whether more is to come: the price is held, or a dispute is not decided."""
        return not self._is_lost and self._is_undecided

    @property
    def _is_undecided(self) -> bool:
        return self._standing.status in UNDECIDED or self._standing.escrow_status == "held"

    async def tell(self) -> None:
        """Tell how it has ended, once it has.

        Raises:
            LyingServer: What is told is no task.
        """
        with self._quietly():
            await self._tell()

    async def follow(self) -> None:
        """Tell each change of that, until nothing is held any more.

        Raises:
            LyingServer: What is told is no task.
        """
        with self._quietly():
            await self._follow()

    async def _tell(self) -> None:
        task = await self.topic.join()
        self._standing = converted(task, _Standing)
        while self._standing.status in WORKABLE:  # Its deadline has passed, and its clock has not run yet.
            task = await self._next()
        self._say(task)

    async def _follow(self) -> None:
        while self._is_undecided:
            before = self._standing
            task = await self._next()
            if self._standing != before:
                self._say(task)

    async def _next(self) -> dict[str, Any]:
        """The task, once it is told again."""
        while True:
            event, payload = await self.topic.next_event()
            fields = converted(payload, dict[str, Any])
            task = fields if event == JOINED else fields.get("task")
            if task is not None:
                self._standing = converted(task, _Standing)
                return converted(task, dict[str, Any])

    @contextmanager
    def _quietly(self) -> Generator[None]:
        """Whatever goes wrong in here is noted, and is nobody's error, but for a lie."""
        try:
            yield
        except LyingServer:
            raise
        except ClientError as error:
            self._is_lost = True
            _LOG.info("task %s: how it ends cannot be told: %s", self._task_id, error)

    def _say(self, task: dict[str, Any]) -> None:
        try:
            self._on_end(task)
        except Exception:  # noqa: BLE001 - It is the application's, and must not end other work.
            _LOG.exception("task %s: who is told of its end has failed", self._task_id)
