"""What `provide` tells, and `hire` of its connection: a line for people, or an object in JSON for programs."""

import argparse
import sys
from typing import Any, Final

from ..agent import Agent
from ..amounts import Amount
from ..connection import State
from ..job import Job
from .outcomes import outcome_of, standing_of
from .running import as_json, say

DECIMALS: Final = 2


class Losses:
    """Tells people of a connection that is lost, and of its end.

    Args:
        ending: What Ctrl-C does meanwhile.
    """

    def __init__(self, ending: str) -> None:
        self._ending = ending
        self._is_lost = False

    def line_of(self, state: State) -> str | None:
        """What is to be told of the connection's new state."""
        was_lost, self._is_lost = self._is_lost, state is State.RECONNECTING
        if state is State.RECONNECTING:
            return f"the connection is lost, and is tried again; Ctrl-C {self._ending}"
        return "connected again" if state is State.CONNECTED and was_lost else None

    def tell(self, state: State) -> None:
        """Tell it."""
        line = self.line_of(state)
        if line is not None:
            say(line)


def minor_units(agent: Agent, option: str, value: Amount) -> str | None:
    """What a whole number means as money, of which people think that it is major units; None: there is no doubt."""
    decimals = min(DECIMALS, agent.market.exponent)
    if isinstance(value, str) or not value or not decimals:
        return None
    return f"{option} {value} is {agent.money(value)}; for whole units write {value}.{'0' * decimals}"


class Teller:
    """Tells of each step: of a task, for people, one line when it is taken and one when it has ended.

    Args:
        as_json_lines: Whether it tells programs.
    """

    def __init__(self, *, as_json_lines: bool) -> None:
        self._as_json_lines = as_json_lines
        self._agent: Agent
        self._losses = Losses("stops it")
        self._is_stopping = False
        self._open: dict[str, None] = {}
        """Tasks whose process runs, or was stopped at the end, the first one first."""

    def of(self, agent: Agent) -> None:
        """It tells of that agent, which is open."""
        self._agent = agent

    def tell(self, event: str, line: str | None, **fields: Any) -> None:
        """Tell of one. Without a line people are not bothered with it."""
        if self._as_json_lines:
            print(as_json({"event": event, **fields}), flush=True)
        elif line is not None:
            print(line, file=sys.stderr, flush=True)

    def hint(self, line: str) -> None:
        """Tell people, and programs, what is to be done."""
        self.tell("hint", line, message=line)

    def state(self, state: State) -> None:
        """The connection has another state: a loss is told, and its end."""
        self.tell("state", self._losses.line_of(state), state=str(state))

    def serving(self, chosen: argparse.Namespace) -> None:
        """The agent can be found and hired."""
        agent = self._agent
        price = agent.amount(chosen.price)
        line = f"{agent.handle} provides {chosen.capability} for {agent.money(price)}; Ctrl-C stops it"
        self.tell("serving", line, handle=agent.handle, capability=chosen.capability, price=price)

    def started(self, job: Job) -> None:
        """A task's process runs."""
        self._open[job.task_id] = None
        line = f"task {job.task_id}: started for {job.client_handle or job.client_agent_id}"
        self.tell("started", line, task_id=job.task_id, client=job.client_handle)

    def exited(self, job: Job, exit_code: int | None) -> None:
        """A task's process is gone, or was never there. What it has come to is told by its end."""
        if not self._is_stopping:  # Else it may have been stopped, and only its end says that it was not.
            self._open.pop(job.task_id, None)
        self.tell("exited", None, task_id=job.task_id, exit_code=exit_code)

    def ended(self, task: dict[str, Any]) -> None:
        """A task has ended, or something has become of its price since."""
        standing = standing_of(task)
        self._open.pop(standing.id, None)
        line = f"task {standing.id}: {outcome_of(standing, self._agent.money)}"
        self.tell("ended", line, **standing.fields)

    def stopping(self, drain_s: int) -> None:
        """It is asked to stop, perhaps not for the first time."""
        if self._is_stopping:
            return
        self._is_stopping = True
        running = [*self._open]
        if running:
            tasks = "1 task is" if len(running) == 1 else f"{len(running)} tasks are"
            line = f"{tasks} finished first, up to {drain_s} s; Ctrl-C again does not wait"
            self.tell("stopping", line, running=running, drain_s=drain_s)

    def stopped(self) -> None:
        """It is over."""
        left = [*self._open]
        more = f"; left for the next start: {', '.join(left)}" if left else ""
        handle = self._agent.handle
        self.tell("stopped", f"{handle} has stopped{more}", handle=handle, left=left)
