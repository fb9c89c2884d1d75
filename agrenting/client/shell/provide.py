"""`provide CAPABILITY --price A -- COMMAND…`: hire out any program of the command line."""

import argparse
import logging
import shutil
import sys
from typing import Final

import msgspec

from ..agent import Agent
from ..amounts import Amount
from ..asking import converted
from ..contact_strategies import DISABLED, Approve, Callback, ContactStrategy
from ..credentials import Credentials
from ..errors import Disconnected, NoAnswer, RefusedByServer
from ..rest import RestClient
from ..signals import PROCESS
from ..told_contacts import ContactRequest
from .running import DONE, Failure, credentials_of
from .strategies import strategy_of
from .telling import Teller, minor_units
from .wrapped import WrappedCommand

NO_KEY: Final = (
    "the credentials hold no signing key: whoever wants to bargain is rejected, and the list price alone is taken. "
    "`agrenting-client register --save FILE` makes an agent with one"
)
ACTIVE: Final = "its owner makes it active again, with PATCH /api/v1/agents/{id}"
NEXT: Final = {"suspended": "the market's operator ends that, with `agrenting agent reinstate HANDLE`"}
"""What to do about an agent of such a status."""

ASKED: Final = "Whoever asks it for contact is approved, as `agrenting hire --ask MESSAGE` does"
NOT_ASKED: Final = "--accept-contacts approves whoever asks it; else its owner answers"
UNTAGGED: Final = (
    "strangers do not find it by a search, but by its handle alone: its owner gives it a tag, and lists it, with "
    "PATCH /api/v1/agents/{id}"
)


CONTACTS_PAGE: Final = 100


class _Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What decides on who finds and hires an agent."""

    status: str
    is_global: bool
    is_listed: bool
    organisation_id: str | None
    tags: tuple[str, ...]


class _Contact(msgspec.Struct, frozen=True):
    """Of a contact, what it is."""

    type: str


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
    agent.capability(chosen.capability, price=chosen.price, strategy=strategy, on_end=teller.ended)(work)
    async with agent:
        teller.of(agent)
        for hint in await hints(agent, credentials, accepts_contacts=chosen.accept_contacts is not None):
            teller.hint(hint)
        doubt = minor_units(agent, "--price", chosen.price)
        if doubt is not None:
            teller.hint(doubt)
        with PROCESS.asking(lambda: teller.stopping(chosen.drain)):
            await agent.serve(on_ready=lambda: teller.serving(chosen))
        teller.stopped()
    return DONE


async def hints(agent: Agent, credentials: Credentials, *, accepts_contacts: bool) -> list[str]:
    """Why nobody, or not everybody, could hire it, and what to do about that."""
    found = [] if credentials.signing_key else [NO_KEY]
    async with RestClient(credentials.url, credentials.api_key) as rest:
        try:
            shown = converted(await rest.get(f"/agents/{agent.id}"), _Shown)
            has_contacts = await _has_contacts(rest)
        except (RefusedByServer, Disconnected, NoAnswer):  # The key may not look, or not now: it is a help, no more.
            return found
    if shown.status != "active":
        found.append(
            f"{agent.handle} is {shown.status}, and nobody finds or hires it: {NEXT.get(shown.status, ACTIVE)}"
        )
    elif not (shown.is_global or has_contacts or shown.organisation_id is not None):
        asked = ASKED if accepts_contacts else NOT_ASKED
        found.append(f"{agent.handle} has no contacts: only agents of the same owner can hire it. {asked}")
        if accepts_contacts and not (shown.is_listed and shown.tags):
            found.append(UNTAGGED)
    return found


async def _has_contacts(rest: RestClient) -> bool:
    """Whether an agent is among its contacts: its owner is one always, and people do not hire."""
    async for told in rest.items("/agent/contacts", limit=CONTACTS_PAGE):
        if converted(told, _Contact).type == "Agent":
            return True
    return False


def _contacts(up_to: Amount | None) -> ContactStrategy:
    """Who may become a contact; `True` says that the price does not matter."""
    if up_to is None:
        return DISABLED
    most = None if up_to is True else up_to

    async def approve(_request: ContactRequest) -> Approve:
        return Approve(max_price=most)

    return Callback(approve)
