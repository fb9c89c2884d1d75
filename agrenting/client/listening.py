"""Something that is told to several readers, each of which reads on its own."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Generic, Self, TypeVar
from weakref import WeakSet

T = TypeVar("T")


class Listening(AsyncIterator[T]):
    """What was told since it was made, oldest first. It ends with what tells it.

    It hears from the moment that it is made, not only from the first `anext` on. One that nobody holds any more hears
    no more; inside `async with` that is so behind it.

    Args:
        kept_max: Of more that nobody has read, the oldest are dropped. None: all are kept, for what may not be missed
            and comes no faster than people and agents ask and answer.
    """

    def __init__(self, kept_max: int | None = None) -> None:
        self._kept: deque[T] = deque(maxlen=kept_max)
        self._news = asyncio.Event()
        self._ending: BaseException | None = None

    def __aiter__(self) -> Self:
        """Itself."""
        return self

    async def __anext__(self) -> T:
        """The next one; waits for it."""
        while not self._kept:
            if self._ending is not None:
                raise self._ending.with_traceback(None)  # It is raised to everybody, and would grow.
            self._news.clear()
            await self._news.wait()
        return self._kept.popleft()

    def drain(self) -> list[T]:
        """All that waits to be read, without waiting for more."""
        kept = list(self._kept)
        self._kept.clear()
        return kept

    async def __aenter__(self) -> Self:
        """Itself; it hears already."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Hear no more."""
        self.end(StopAsyncIteration())

    @property
    def hears(self) -> bool:
        """Whether anything can still be told to it."""
        return self._ending is None

    def take(self, told: T) -> None:
        """Something is told."""
        if self._ending is None:
            self._kept.append(told)
            self._news.set()

    def end(self, error: BaseException) -> None:
        """Nothing is told any more; what was told before can still be read."""
        self._ending = self._ending or error
        self._news.set()


class Listeners(Generic[T]):
    """Who hears what is told. Telling never waits, and nobody's slowness is another's."""

    def __init__(self) -> None:
        self._all: WeakSet[Listening[T]] = WeakSet()
        self._ending: BaseException | None = None

    def listen(self, kept_max: int | None = None) -> Listening[T]:
        """Hear what is told from now on."""
        listening = Listening[T](kept_max)
        if self._ending is not None:
            listening.end(self._ending)
        self._all.add(listening)
        return listening

    @property
    def has_ended(self) -> bool:
        """Whether nothing is told any more."""
        return self._ending is not None

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return any(listening.hears for listening in self._all)

    def tell(self, told: T) -> None:
        """Tell everybody."""
        for listening in list(self._all):
            listening.take(told)

    def end(self, error: BaseException | None = None) -> None:
        """Nothing is told any more: whoever reads is told so, with an error if there is one."""
        self._ending = error or StopAsyncIteration()
        for listening in list(self._all):
            listening.end(self._ending)
