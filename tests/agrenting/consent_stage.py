"""A real server on its own file, three doors into it, and the order in which what came through them was committed.

Whatever runs in a writing transaction on behalf of a deed is noted from inside it, together with what was stored just
before. Only one transaction writes at a time, whichever process it belongs to, so the notes stand in commit order.
"""

import argparse
import asyncio
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, ExitStack
from contextvars import ContextVar
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from unittest import mock

import msgspec

from agrenting import auth, contact_commands, folder, registry
from agrenting.announcements import Announcement
from agrenting.db.commit import Unit
from agrenting.db.database import open_writer
from agrenting.db.migrate import migrate
from agrenting.db.transaction import Tx, WriterTx
from agrenting.deciding import Command
from agrenting.folder import Folder
from channels import discovery, task
from channels.contact_requests import ADD, RESPOND
from channels.errors import Forbidden, Refusal
from channels.handlers import Handler
from channels.identity import Identity
from channels.limits import Market
from channels.registration import AgentDraft, CapabilityDraft
from channels.revocation import BLOCK, REMOVE, UNBLOCK
from crypto import format_public_key, generate_secret_key, public_key_of
from tests.agrenting.api.market import Caller, Clock, Marketplace, marketplace, settings_of
from tests.agrenting.consent import CAPABILITY, LIMITS, PRICE, Deed, Model
from tests.agrenting.consent_stored import Seen, seen
from tests.agrenting.consent_watch import Watch

T = TypeVar("T")

ORGANISATIONS = ("acme", "umbrella")
ENGINE: dict[str, tuple[Handler, str]] = {
    "ask": (ADD, ""),
    "answer": (RESPOND, ""),
    "remove": (REMOVE, ""),
    "block": (BLOCK, ""),
    "unblock": (UNBLOCK, ""),
    "negotiate": (discovery.HANDLERS["open_negotiation"], discovery.TOPIC),
    "hire": (discovery.HANDLERS["open_task"], discovery.TOPIC),
    "begin": (msgspec.structs.replace(task.HANDLERS["progress"], foresees=None), "task"),  # Alone, so that it is noted.
    "finish": (task.HANDLERS["complete"], "task"),
}
"""Deed → the handler of its event, and the topic that it comes on; empty: the sender's own topic."""

LINE: dict[str, Callable[[argparse.Namespace, Any], Any]] = {
    "ask": contact_commands.request,
    "approve": contact_commands.approve,
    "reject": contact_commands.reject,
    "cancel": contact_commands.cancel,
    "remove": contact_commands.revoke,
    "block": contact_commands.block,
    "unblock": contact_commands.unblock,
    "join": contact_commands.join,
    "leave": contact_commands.leave,
}
DOING: ContextVar[Deed | None] = ContextVar("DOING", default=None)


class Noted:
    """One deed as it was decided."""

    def __init__(self, deed: Deed, now: datetime, before: "Seen") -> None:
        self.deed = deed
        self.now = now
        self.before = before
        self.refusal: str | None = None
        self.reply: dict[str, Any] | None = None


class NotingFolder(Folder):
    """The data folder as the command line opens it; what is changed there is noted."""

    stage: "Stage"

    def change(self, change: Callable[[WriterTx, Market], tuple[T, Announcement]]) -> T:
        deed = DOING.get()
        assert deed is not None, "the command line works for a deed"

        def noted(tx: WriterTx, market: Market) -> tuple[T, Announcement]:
            return self.stage.noted(deed, tx, lambda: change(tx, market))

        return super().change(noted)


class Stage:
    """The server, its clock, and everybody's keys.

    Args:
        runner: The loop that the server lives on; its methods are called between its turns.
    """

    market: Marketplace

    def __init__(self, runner: asyncio.Runner) -> None:
        self.runner = runner
        self.clock = Clock()
        self.notes: list[Noted] = []
        self._submitted: list[Deed] = []
        self.keys: dict[str, str] = {}
        self.handles: dict[str, str] = {}
        self._scratch = TemporaryDirectory(ignore_cleanup_errors=True)
        self.folder = Path(self._scratch.name) / "var"
        self.folder.mkdir()
        settings_of(self.folder).database_path.write_bytes(empty_database())
        self._patched = ExitStack()
        own_folder = type("OwnFolder", (NotingFolder,), {"stage": self})
        for patch in (
            mock.patch.object(contact_commands, "system_clock", self.clock),
            mock.patch.object(contact_commands, "Folder", own_folder),
            mock.patch.object(folder, "system_clock", self.clock),
            mock.patch.object(
                folder, "migrate"
            ),  # A command has a process of its own, where Alembic runs once at a time.
        ):
            self._patched.enter_context(patch)
        self.start()
        self._eyes = open_writer(self.market.server.settings.database_path, busy_timeout_s=10.0)
        self.operator = self._user("olga", is_operator=True)

    # From start to end.

    def start(self) -> None:
        """Start the server on the folder, for the first time or again."""
        self._running = AsyncExitStack()
        entering = self._running.enter_async_context(marketplace(self.folder, self.clock, limits=LIMITS))
        self.market = self.runner.run(entering)
        self.watch = Watch(self.market)
        commits = self.market.server.database.commits
        submit = commits.submit

        def noting(unit: Unit) -> None:
            deed = DOING.get()
            if deed is None or any(deed is done for done in self._submitted):
                submit(unit)  # What follows from a deed is not it, such as the presence of sockets that it has closed.
                return
            self._submitted.append(deed)
            submit(Unit(lambda tx: self.noted(deed, tx, lambda: unit.run(tx)), unit.settled))

        self._hook = mock.patch.object(commits, "submit", noting)
        self._hook.start()

    def stop(self) -> None:
        """Stop the server; what it has stored stays."""
        self._hook.stop()
        self.runner.run(self._running.aclose())

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        self._eyes.close()
        self._patched.close()
        self._scratch.cleanup()

    # What is stored.

    @property
    def tx(self) -> Tx:
        """The database itself, read beside the server."""
        return WriterTx(self._eyes, {})

    def noted(self, deed: Deed, tx: WriterTx, run: Callable[[], T]) -> T:
        """Run what a deed does inside its transaction, and note it. One that is run again counts as it ran last."""
        note = Noted(deed, self.clock(), seen(tx))
        self.notes = [*(other for other in self.notes if other.deed is not deed), note]
        try:
            return run()
        except Refusal as refusal:
            note.refusal = refusal.reason
            raise

    # Who is there.

    def cast(self, model: Model) -> None:
        """Organisations, and users without any."""
        for name in ORGANISATIONS:
            self._write(partial(registry.create_organisation, name=name, now=self.clock()))
        for handle in ("ann", "ben", "cleo", "dan"):
            self._user(handle, model=model)

    def _user(self, handle: str, *, is_operator: bool = False, model: Model | None = None) -> Caller:
        caller = self.runner.run(self.market.user(handle, is_operator=is_operator))
        id_ = caller.headers.pop("x-user-id")
        self.keys[id_], self.handles[id_] = caller.headers["x-api-key"], handle
        if model is not None:
            model.admit(id_, handle)
        return caller

    def identity(self, id_: str) -> Identity:
        """Whom the server takes a key's holder for, now."""
        return auth.resolve(self.tx, self.keys[id_], agent_id=None, now=self.clock()).identity

    def _write(self, change: Callable[[WriterTx], Any]) -> Any:
        return self.runner.run(self.market.server.database.write(change))

    # What is done.

    def do(self, *deeds: Deed) -> list[Noted]:
        """Do all of it at once; what was decided, in that order. What is refused at the door already comes last."""
        self.notes, self._submitted = [], []

        async def storm() -> list[dict[str, Any] | str]:
            return list(await asyncio.gather(*(asyncio.create_task(self._act(deed)) for deed in deeds)))

        replies = self.runner.run(storm())
        after = self.seen()
        for deed, reply in zip(deeds, replies, strict=True):
            note = next((note for note in self.notes if note.deed is deed), None)
            if note is None:
                note = Noted(deed, self.clock(), after)
                self.notes.append(note)
            note.refusal = reply if isinstance(reply, str) else None
            note.reply = reply if isinstance(reply, dict) else None
        return self.notes

    def shown(self, agent_ids: Iterable[str]) -> dict[str, set[str] | None]:
        """Whom each agent's socket has been shown as present."""
        return self.runner.run(self.watch.shown({id_: self.keys[id_] for id_ in agent_ids}))

    def run_timers(self) -> None:
        """Run what is due by the clock."""
        self.runner.run(self.market.server.timers.run_due())

    async def _act(self, deed: Deed) -> dict[str, Any] | str:
        """The answer, or why it is refused."""
        DOING.set(deed)  # In a task of its own, so nobody else sees it.
        try:
            if deed.act in {"create", "deposit"}:
                return await self.market.server.database.write(lambda tx: self._house(tx, deed))
            if deed.door == "line":
                return await asyncio.to_thread(self._by_line, deed)
            if deed.door == "rest":
                return await self._by_rest(deed)
            return await self._by_engine(deed)
        except Refusal as refusal:
            return refusal.reason

    def _house(self, tx: WriterTx, deed: Deed) -> dict[str, Any]:
        """What is no event of the contact book, and has no door that matters here."""
        market, now = self.market.server.engine.market, self.clock()
        if deed.act == "deposit":
            registry.deposit(
                tx, registry.require_agent(tx, self.handles[deed.whom]), deed.more["amount"], memo="", now=now
            )
            return {}
        draft = deed.more
        described = AgentDraft(
            name="Agent",
            description="It works.",
            public_key=format_public_key(public_key_of(generate_secret_key())),
            capabilities=(CapabilityDraft(name=CAPABILITY, price=draft["price"]),),
            tags=("words",) if draft["is_tagged"] else (),
            is_listed=draft["is_listed"],
            is_global=draft["is_global"],
        )
        owner = registry.require_user(tx, self.handles[deed.who])
        organisation = draft["organisation"]
        if organisation is not None and registry.require_organisation(tx, organisation).id != owner.organisation_id:
            raise Forbidden(
                "not_a_member", "The owner has left it."
            )  # An operator could: by_operator is about that too.
        agent, key, _told = registry.create_agent(
            tx, owner, described, organisation=organisation, by_operator=True, maker=None, now=now, market=market
        )
        self.keys[agent.id], self.handles[agent.id] = key, agent.handle
        return {"id": agent.id, "handle": agent.handle}

    async def _by_engine(self, deed: Deed) -> dict[str, Any]:
        handler, topic = ENGINE[deed.act]
        sender = self.identity(deed.who)
        if topic == "task":
            topic = f"task:{deed.whom}"
        command = Command(
            handler=handler,
            topic=topic or f"{sender.kind}_contacts:{sender.id}",
            request=msgspec.convert(self._fields(deed), handler.request),
            sender=sender,
        )
        reply: dict[str, Any] = msgspec.to_builtins((await self.market.server.engine.execute(command)).reply)
        return reply

    async def _by_rest(self, deed: Deed) -> dict[str, Any] | str:
        method, path, body = self._request(deed)
        is_by_operator = path.startswith("/admin")
        caller = self.operator if is_by_operator else self.market.with_key(self.keys[deed.who])
        caller.http = self.market.http
        options = {} if body is None else {"json": msgspec.to_builtins(body)}
        answer = await caller.call(method, path, **options)
        told: dict[str, Any] = answer.json()
        reason: str = told["error"]["code"] if "error" in told else ""
        data: dict[str, Any] = told.get("data", {})
        return reason or data

    def _by_line(self, deed: Deed) -> dict[str, Any]:
        scope = deed.more.get("scope") or {}
        end = deed.more.get("expires_at") or scope.get("expires_at")
        price: int | None = scope.get("max_price")
        chosen = argparse.Namespace(
            who=self.handles[deed.who],
            handle=self.handles[deed.who],
            other=self.handles.get(deed.whom),
            organisation=deed.whom,
            message=None,
            reason=None,
            until=None if end is None else end.isoformat(),
            kind=scope.get("kinds"),
            max_price=None if price is None else str(price),
            max_open=scope.get("max_open"),
        )
        act = deed.more["action"] if deed.act == "answer" else deed.act
        fields: dict[str, Any] = LINE[act](chosen, self.market.server.settings).fields
        return fields

    def _fields(self, deed: Deed) -> dict[str, Any]:
        """What a deed says, as an event's payload."""
        match deed.act:
            case "negotiate" | "hire":
                price = {"max_price": PRICE, "hold_seconds": 0} if deed.act == "hire" else {}
                return {"provider_agent_id": deed.whom, "capability": CAPABILITY, **price}
            case "begin":
                return {"percent": 1}
            case "finish":
                return {"result": 1}
            case "answer" | "remove" if deed.by_id:
                return {{"answer": "request_id", "remove": "contact_id"}[deed.act]: deed.whom, **deed.more}
            case _:
                return {"handle": self.handles[deed.whom], **deed.more}

    def _request(self, deed: Deed) -> tuple[str, str, dict[str, Any] | None]:
        """Method, path and body of a deed's call."""
        match deed.act:
            case "delete":
                return "DELETE", f"/agents/{deed.whom}", None
            case "join" | "leave":
                return "POST", f"/admin/users/{deed.who}/organisation", {"organisation": deed.whom or None}
            case "negotiate":
                return "POST", "/negotiations", self._fields(deed)
            case "hire":
                return "POST", "/tasks", self._fields(deed)
            case "begin" | "finish":
                act = {"begin": "progress", "finish": "complete"}[deed.act]
                return "POST", f"/tasks/{deed.whom}/{act}", self._fields(deed)
            case _:
                is_agent = "/" in self.handles[deed.who]
                return ("POST", AGENT_PATHS[deed.act], self._fields(deed)) if is_agent else self._request_of_user(deed)

    def _request_of_user(self, deed: Deed) -> tuple[str, str, dict[str, Any] | None]:
        match deed.act, deed.more.get("action"):
            case "ask", _:
                return (
                    "POST",
                    "/me/contacts/requests",
                    {"contact_request": {"recipient_handle": self.handles[deed.whom]}},
                )
            case "answer", "cancel":
                return "DELETE", f"/me/contacts/requests/{deed.whom}", None
            case "answer", action:
                scope = {"scope": deed.more["scope"]} if "scope" in deed.more else None
                return "POST", f"/me/contacts/requests/{deed.whom}/{action}", scope
            case _:
                return "POST", f"/me/contacts/{deed.act}", self._fields(deed)

    def seen(self) -> Seen:
        """What is stored now."""
        return seen(self.tx)


AGENT_PATHS = {
    "ask": "/agent/contacts/add",
    "answer": "/agent/contacts/requests/respond",
    "remove": "/agent/contacts/remove",
    "block": "/agent/contacts/block",
    "unblock": "/agent/contacts/unblock",
}


@cache
def empty_database() -> bytes:
    """A database file of the newest schema, made once."""
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "empty.db"
        migrate(path)
        return path.read_bytes()
