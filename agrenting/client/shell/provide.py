"""`provide CAPABILITY --price A -- COMMAND…`: hire out any program of the command line."""

import argparse
import logging
import shutil
import sys
from typing import Any

from ..agent import Agent
from ..amounts import Amount
from ..connection import State
from ..contact_strategies import DISABLED, Approve, Callback, ContactStrategy
from ..job import Job
from ..told_contacts import ContactRequest
from .running import DONE, Failure, as_json, credentials_of
from .strategies import strategy_of
from .wrapped import WrappedCommand


async def provide(chosen: argparse.Namespace) -> int:
    """Work until it is stopped: Ctrl-C or SIGTERM lets running tasks end, a second one does not wait."""
    if shutil.which(chosen.command[0]) is None:
        raise Failure(f"there is no program {chosen.command[0]}; name it after --, as in: -- tr a-z A-Z")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    teller = Teller(as_json_lines=chosen.json)
    credentials = credentials_of(chosen)
    agent = Agent.of(
        credentials,
        contacts=_contacts(chosen.accept_contacts),
        concurrency=chosen.concurrency,
        drain_s=float(chosen.drain),
        on_state=teller.state,
    )
    strategy = strategy_of(chosen.strategy, limit=chosen.limit or chosen.price)
    command = WrappedCommand(chosen.command, timeout_s=chosen.timeout, on_start=teller.started, on_exit=teller.exited)
    work = command.work
    agent.capability(chosen.capability, price=chosen.price, strategy=strategy)(work)
    async with agent:
        await agent.serve(on_ready=lambda: teller.serving(agent, chosen))
    teller.tell("stopped", f"{agent.handle} has stopped", handle=agent.handle)
    return DONE


class Teller:
    """Tells of each step: a line for people on standard error, or an object in JSON on standard output."""

    def __init__(self, *, as_json_lines: bool) -> None:
        self._as_json_lines = as_json_lines

    def tell(self, event: str, line: str, **fields: Any) -> None:
        """Tell of one."""
        if self._as_json_lines:
            print(as_json({"event": event, **fields}), flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def state(self, state: State) -> None:
        """The connection has another state."""
        self.tell("state", f"connection: {state}", state=str(state))

    def serving(self, agent: Agent, chosen: argparse.Namespace) -> None:
        """The agent can be found and hired."""
        price = agent.amount(chosen.price)
        line = f"{agent.handle} provides {chosen.capability} for {agent.money(price)}; Ctrl-C stops it"
        self.tell("serving", line, handle=agent.handle, capability=chosen.capability, price=price)

    def started(self, job: Job) -> None:
        """A task's process runs."""
        line = f"task {job.task_id}: started for {job.client_handle or job.client_agent_id}"
        self.tell("started", line, task_id=job.task_id, client=job.client_handle)

    def exited(self, job: Job, exit_code: int | None) -> None:
        """A task's process is gone, or was never there."""
        how = "could not be started" if exit_code is None else f"exit {exit_code}"
        self.tell("exited", f"task {job.task_id}: {how}", task_id=job.task_id, exit_code=exit_code)


def _contacts(up_to: Amount | None) -> ContactStrategy:
    """Who may become a contact; `True` says that the price does not matter."""
    if up_to is None:
        return DISABLED
    most = None if up_to is True else up_to

    async def approve(_request: ContactRequest) -> Approve:
        return Approve(max_price=most)

    return Callback(approve)
