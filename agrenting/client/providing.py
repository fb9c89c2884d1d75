"""Providing: what this agent can do for others, and doing it for whoever hires it.

    @agent.capability("shout", price="0.50")
    async def shout(job: Job) -> AsyncIterator[str]:
        async for line in job.lines():
            yield line.upper()

    await agent.serve()

While it serves, the agent is present in `agents:discovery`, so that it is found as online. It hears of negotiations and
tasks by its mailbox, and of those that it has missed by the lists that it reads first. What one program announces for
an agent replaces what another did: let one program at a time serve for an agent, with all its capabilities.
"""

import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar, cast

from .amounts import Amount
from .bargaining import Bargaining
from .errors import LyingServer
from .playing import Terms
from .service import Capability, Service
from .serving import PAYMENT_S, Handler
from .signals import PROCESS
from .strategies import Strategy
from .task_ends import OnEnd

if TYPE_CHECKING:
    from .context import AgentContext

H = TypeVar("H", bound=Handler)

CONCURRENCY: Final = 8
DRAIN_S: Final = 30.0
NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")


class Providing:
    """The providing part of an agent: `Agent.capability`, `Agent.serve` and `Agent.stop` forward to it.

    Args:
        context: The agent's.
        bargaining: Answers negotiations; None: one of its own.
        concurrency: How many tasks are done at once; the others stay pending.
        drain_s: How long the tasks at hand have, in seconds, once it is asked to stop.
        payment_s: How long a task that is paid as it streams waits for a payment, in seconds; then it fails with
            `payment_due`. Time without a connection does not count.
    """

    def __init__(
        self,
        context: "AgentContext",
        *,
        bargaining: Bargaining | None = None,
        concurrency: int = CONCURRENCY,
        drain_s: float = DRAIN_S,
        payment_s: float = PAYMENT_S,
    ) -> None:
        _require_slots(concurrency)
        self._context = context
        self._bargaining = bargaining or Bargaining(context)
        self._concurrency = concurrency
        self._drain_s = drain_s
        self._payment_s = payment_s
        self._capabilities: dict[str, Capability] = {}
        self._service: Service | None = None

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The names of what this agent can do, as far as this program knows."""
        return tuple(self._capabilities)

    @property
    def is_serving(self) -> bool:
        """Whether it is at work."""
        return self._service is not None

    def capability(
        self,
        name: str,
        *,
        price: Amount | None = None,
        strategy: Strategy | None = None,
        concurrency: int | None = None,
        terms: Terms | None = None,
        on_end: OnEnd | None = None,
    ) -> Callable[[H], H]:
        """Register what does the tasks of a capability; a decorator. It may be used before the agent is open.

        The handler is an async generator function: it is given a `Job`, and each `str` (as UTF-8) or `bytes` that it
        yields is a chunk of the output. Or it is a coroutine function, which returns the result as JSON. What it raises
        fails the task: `TaskFailed` with its type and details, anything else as `provider_error` with the name of its
        class alone.

        Args:
            name: What it is called: 1-64 of `a-z 0-9 - _`.
            price: The list price: minor units, or text in major units such as `"8.50"`. None: the one that the market
                has, the capability's or the agent's base price.
            strategy: How negotiations about it are answered; None: nothing below the list price is agreed on.
            concurrency: How many of its tasks are done at once; None: as many as the agent does.
            terms: Is given the terms that a client has put into a negotiation, and says with `True` that they are
                agreed to: they are signed with the price. None: negotiations with terms are rejected. It does not
                block, and is no coroutine function; what it raises is a no, and is logged.
            on_end: Is told how each of its tasks has ended, with the whole task as PROTOCOL.md lists its fields, and
                again where something becomes of its price afterwards: it is paid, or disputed. Of the last 16 tasks
                whose price is held, and while it serves. It must not wait; what it raises is logged.

        Raises:
            ValueError: It is no name, or registered already.
            TypeError: The price is neither an integer nor text, the handler cannot be called, or `terms` or `on_end`
                is a coroutine function.
        """
        if NAME.fullmatch(name) is None:
            raise ValueError(f"a capability's name has 1-64 of a-z, 0-9, - and _, and this is {name!r}")
        _require_amount(price)
        if concurrency is not None:
            _require_slots(concurrency)
        if inspect.iscoroutinefunction(terms):
            raise TypeError("what judges terms says yes or no at once: it is no coroutine function")
        if inspect.iscoroutinefunction(on_end):
            raise TypeError("what is told of a task's end must not wait: it is no coroutine function")

        def register(handler: H) -> H:
            if not callable(handler):
                raise TypeError("a handler is an async generator function or a coroutine function")
            if name in self._capabilities:
                raise ValueError(f"the capability {name} is registered already")
            self._capabilities[name] = Capability(
                name=name,
                handler=handler,
                price=price,
                strategy=strategy,
                concurrency=concurrency,
                terms=terms,
                on_end=on_end,
            )
            if self._service is not None:
                self._service.changed.set()
            return handler

        return register

    async def serve(self, on_ready: Callable[[], None] | None = None) -> None:
        """Go online, announce what is registered with its prices, and work until `stop`, Ctrl-C or SIGTERM.

        Tasks that were not finished, by this or an earlier program, are taken up first. With nothing registered the
        agent is online all the same: it announces nothing, and takes no task.

        Asked to stop, it takes nothing new, and the tasks at hand have `drain_s` seconds; then their handlers are
        cancelled, and they stay in progress for the next start, as open negotiations do. A second Ctrl-C does not wait,
        nor does a cancellation. Signals are heard in the main thread; what handled them before is put back.

        Args:
            on_ready: Called once it is online, and can be found and hired; before any task is taken up.

        Raises:
            ValueError: A price is none of this market's currency.
            RuntimeError: It serves already.
            RefusedByServer: What is registered was not taken: `invalid_capability`, `amount_out_of_range`,
                `missing_scope`; or the agent was refused for good.
            LyingServer: What the server tells does not hold.
            Disconnected: The connection is closed.
        """
        if self._service is not None:
            raise RuntimeError("the agent serves already")
        self._service = Service(
            self._context,
            self._bargaining,
            self._capabilities,
            concurrency=self._concurrency,
            drain_s=self._drain_s,
            payment_s=self._payment_s,
        )
        try:
            with PROCESS.asking(self.stop):
                await self._service.run(on_ready or (lambda: None))
        except BaseExceptionGroup as group:
            raise _worst(group) from group
        finally:
            self._service = None

    def stop(self) -> None:
        """Ask it to stop: `serve` drains, and returns. Asked again, it does not wait for the tasks at hand."""
        if self._service is not None:
            self._service.stop()


def _require_amount(price: object) -> None:
    if isinstance(price, bool) or not isinstance(price, int | str | None):
        raise TypeError(f"a price is minor units, or text in major units such as '8.50', and this is {price!r}")


def _require_slots(concurrency: int) -> None:
    if concurrency < 1:
        raise ValueError(f"at least one task is done at once, and not {concurrency}")


def _worst(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong first, or worst: a lying server before anything else."""
    lies = group.subgroup(LyingServer)
    return _first(group if lies is None else lies)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    one = group.exceptions[0]
    if isinstance(one, BaseExceptionGroup):
        return _first(cast("BaseExceptionGroup[BaseException]", one))
    return one
