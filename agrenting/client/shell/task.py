"""`task list|settle|cancel|dispute`: see to tasks of earlier programs, as their client or provider."""

import argparse
import uuid
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from ..agent import Agent
from ..amounts import format_amount
from ..asking import converted
from ..hired_proof import Verified
from ..lies import FINAL
from ..market import MarketFacts, Me, ask_market, ask_me
from ..rest import RestClient
from .ends import Target
from .hire import write_result
from .outcomes import Dispute, Money, Standing, outcome_of, standing_of
from .running import DONE, Failure, as_json, credentials_of, say

PAGE: Final = 100
OPEN: Final = ("pending", "in_progress", "disputed")
STILL_OPEN: Final = (
    "task {} still takes input: waiting for its end. If no program sends it any more, Ctrl-C, then cancel it (before "
    "its first output) or dispute it"
)
HEADING: Final = ("task", "role", "capability", "status", "price", "escrow", "until")


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A task, as the list has it."""

    id: str
    client_agent_id: str
    capability: str
    status: str
    price: int
    escrow_status: str
    created_at: datetime
    deadline: str
    hold_ends_at: str | None
    dispute: Dispute | None

    @property
    def until(self) -> str:
        """When the market sees to it, whatever the two do."""
        if self.status == "disputed" and self.dispute is not None:
            return self.dispute.decides_at
        return self.hold_ends_at or self.deadline

    @property
    def is_held(self) -> bool:
        """Whether its price is held."""
        return self.escrow_status == "held"


async def list_tasks(chosen: argparse.Namespace) -> int:
    """List the agent's tasks, newest first by status: what runs, what is disputed, and what is not paid for yet."""
    credentials = credentials_of(chosen)
    async with RestClient(credentials.url, credentials.api_key) as rest:
        market, me = await ask_market(rest), await ask_me(rest)
        found = [task async for task in (_all(rest) if chosen.is_all else _open(rest, market))]
    rows = [_row(task, me) for task in found]
    if chosen.json:
        print(as_json({"tasks": rows}))
    elif not rows:
        print(f"{me.handle} has no {'' if chosen.is_all else 'open '}tasks")
    else:
        print(_table([{**row, "price": _money(market)(row["price"])} for row in rows]))
    return DONE


async def settle(chosen: argparse.Namespace) -> int:
    """Take a task up again, wait for its end, verify all of it, and release its price."""
    with ExitStack() as files:
        target = None if chosen.output is None else files.enter_context(Target(chosen.output))
        receipt = None if chosen.receipt is None else files.enter_context(Target(chosen.receipt))
        async with Agent.of(credentials_of(chosen)) as agent:
            verified = await _settled(agent, chosen, target)
        if receipt is not None and verified.receipt is not None:
            await receipt.write(verified.receipt.path.read_bytes())
            receipt.keep()
    if chosen.json:
        print(as_json({"task_id": verified.task_id, "price": verified.price, "escrow_status": verified.escrow_status}))
    return DONE


async def cancel(chosen: argparse.Namespace) -> int:
    """Take a task back as its client, or give it up as its provider: the price goes back."""
    return await _change(chosen, "cancel", {"reason": chosen.reason})


async def dispute(chosen: argparse.Namespace) -> int:
    """Refuse what was delivered; an operator decides, or the price comes back at once where nothing was."""
    return await _change(chosen, "dispute", {"reason": chosen.reason})


async def _settled(agent: Agent, chosen: argparse.Namespace, target: Target | None) -> Verified:
    credentials = credentials_of(chosen)
    async with RestClient(credentials.url, credentials.api_key) as rest:
        told = await rest.get(f"/tasks/{chosen.task}")
    standing = standing_of(told)
    _require_payable(standing, agent)
    task = await agent.take_up(chosen.task)
    if not standing.may_end:
        say(STILL_OPEN.format(task.id))
    elif task.status not in FINAL:
        say(f"task {task.id} is {task.status.replace('_', ' ')}; waiting for its end")
    content = await task.read()
    if target is not None:  # Before the price is released: a full disk costs nothing.
        await target.write(content)
        await write_result(task, target)
    verified = await task.settle()
    if target is not None:
        target.keep()
    money = f"{agent.money(verified.price)} {verified.escrow_status.replace('_', ' ')}"
    say(f"verified: {money}; {verified.sent.size} bytes sent, {verified.received.size} bytes received")
    return verified


def _require_payable(standing: Standing, agent: Agent) -> None:
    """Refuse a task that would be waited for in vain.

    Raises:
        Failure: It is one; the sentence says why.
    """
    name = f"task {standing.id}"
    if standing.client_agent_id != agent.id:
        raise Failure(f"{name} is one that {agent.handle} was hired for: its client settles it")
    if standing.status == "disputed":
        raise Failure(f"{name} is {outcome_of(standing, agent.money)}")
    if standing.stream_price is not None and not standing.is_over:
        raise Failure(f"{name} is paid as it streams, by the program that has hired for it; or else cancel it")


async def _change(chosen: argparse.Namespace, what: str, body: dict[str, Any]) -> int:
    credentials = credentials_of(chosen)
    async with RestClient(credentials.url, credentials.api_key) as rest:
        market = await ask_market(rest)
        standing = standing_of(await rest.post(f"/tasks/{chosen.task}/{what}", body, uuid.uuid4().hex))
    line = f"task {standing.id}: {outcome_of(standing, _money(market))}"
    print(as_json(standing.fields) if chosen.json else line)
    return DONE


async def _all(rest: RestClient) -> AsyncIterator[Listed]:
    async for told in rest.items("/tasks", limit=PAGE):
        yield converted(told, Listed)


async def _open(rest: RestClient, market: MarketFacts) -> AsyncIterator[Listed]:
    """What is not over: of those that have completed, as far back as a price can be held."""
    for status in OPEN:
        async for told in rest.items("/tasks", limit=PAGE, status=status):
            yield converted(told, Listed)
    longest = timedelta(seconds=market.limits["deadline_max_s"] + market.limits["hold_max_s"])
    oldest = datetime.now(UTC) - longest
    async for told in rest.items("/tasks", limit=PAGE, status="completed"):
        task = converted(told, Listed)
        if task.created_at < oldest:
            return
        if task.is_held:
            yield task


def _row(task: Listed, me: Me) -> dict[str, Any]:
    return {
        "task_id": task.id,
        "role": "client" if task.client_agent_id == me.id else "provider",
        "capability": task.capability,
        "status": task.status,
        "price": task.price,
        "escrow_status": task.escrow_status,
        "until": task.until,
    }


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [HEADING, *[tuple(str(value) for value in row.values()) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADING))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def _money(market: MarketFacts) -> Money:
    return lambda minor: format_amount(minor, currency=market.currency, exponent=market.exponent)
