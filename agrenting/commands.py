"""What each command of the command line does. `cli.py` names them and prints what they answer."""

import argparse
import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from agrenting import auth, registry
from agrenting.announcements import Announcement
from agrenting.client.credentials import Credentials, require_url
from agrenting.client.keys import ApiKey, SigningKey
from agrenting.client.private_files import new_private_file
from agrenting.clock import system_clock, to_ms
from agrenting.config import Settings
from agrenting.db import agents, ledger, messages, people, private_sides, rollup_doctor, room_sides, sides, states
from agrenting.db.database import open_writer
from agrenting.db.migrate import migrate
from agrenting.db.transaction import Tx, WriterTx
from agrenting.folder import Folder
from agrenting.market import note_restored
from channels.agents import PricingModel
from channels.errors import Conflict, Invalid
from channels.identity import normalise_handle
from channels.limits import Market
from channels.registration import AgentDraft, CapabilityDraft, parse_money, reinstate, suspend
from crypto import (
    did_from_public_key,
    format_public_key,
    format_secret_key,
    generate_secret_key,
    public_key_of,
)

IDEMPOTENT_FOR_MS = 86_400_000
COMMAND_LINE = "command-line"


class CommandError(Exception):
    """A command that cannot be carried out; the sentence says why and what to do."""


class Answer(msgspec.Struct, frozen=True):
    """What a command says: for people, and as JSON."""

    text: str
    fields: dict[str, Any]
    exit_code: int = 0


def serve(_chosen: argparse.Namespace, settings: Settings) -> int:
    """Serve until stopped."""
    from agrenting.serve import serve as run  # noqa: PLC0415 - the other commands do not pay for loading a server

    return run(settings)


def demo(chosen: argparse.Namespace, settings: Settings) -> int:
    """Run the demo."""
    from agrenting.demo.running import run  # noqa: PLC0415 - the other commands do not pay for loading the demo

    return run(
        data_dir=Path(chosen.data_dir) if chosen.data_dir else None,
        once=chosen.once,
        verbose=chosen.verbose,
        settings=settings,
    )


def top(chosen: argparse.Namespace, settings: Settings) -> Answer | int:
    """Show the numbers of the whole market."""
    from agrenting.top import top as run  # noqa: PLC0415 - it needs a terminal's modules, and the others do not

    return run(chosen, settings)


def config(_chosen: argparse.Namespace, settings: Settings) -> Answer:
    """The settings in force. None of them is a secret: those lie in the data folder."""
    fields = msgspec.to_builtins(settings)
    lines = [f"{name} = {msgspec.json.encode(value).decode()}" for name, value in fields.items() if name != "limits"]
    lines += ["", "[limits]", *(f"{name} = {value}" for name, value in fields["limits"].items())]
    return Answer("\n".join(lines), fields)


def migrate_folder(_chosen: argparse.Namespace, settings: Settings) -> Answer:
    """Bring the folder to this program's schema."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    migrate(settings.database_path)
    return Answer(f"{settings.database_path} is up to date.", {"database": str(settings.database_path)})


def keygen(_chosen: argparse.Namespace, _settings: Settings) -> Answer:
    """Make a signing key."""
    seed = generate_secret_key()
    public = public_key_of(seed)
    fields = {
        "secret_key": format_secret_key(seed),
        "public_key": format_public_key(public),
        "did": did_from_public_key(public),
    }
    lines = "\n".join(f"{name:<11} {value}" for name, value in fields.items())
    return Answer(f"{lines}\n\nKeep the secret key to yourself: who has it signs as the agent.", fields)


def create_organisation(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """Make an organisation."""

    def change(tx: WriterTx, _market: Market) -> tuple[dict[str, Any], Announcement]:
        made = registry.create_organisation(tx, chosen.name, now=system_clock())
        return {"id": made.id, "name": made.name}, Announcement()

    fields = Folder(settings).change(change)
    return Answer(f"Organisation {fields['name']} ({fields['id']}).", fields)


def create_user(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """Make a user."""

    def change(tx: WriterTx, market: Market) -> tuple[dict[str, Any], Announcement]:
        user, key, told = registry.create_user(
            tx,
            chosen.handle,
            organisation=chosen.org,
            is_operator=chosen.operator,
            now=system_clock(),
            market=market,
        )
        return {"id": user.id, "handle": user.handle, "api_key": key}, Announcement(told)

    return _made("User", Folder(settings).change(change))


def create_agent(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """Make an agent. The command line on the data folder is the operator: a public key needs no proof here."""
    if chosen.save is None:
        return _made("Agent", _create_agent(chosen, settings, chosen.public_key))
    url = require_url(chosen.url or _own_url(settings))
    signing_key = SigningKey.generate() if chosen.public_key is None else None
    with new_private_file(chosen.save) as write:  # The API key is there but once: first a file that can be written.
        public_key = chosen.public_key if signing_key is None else signing_key.public_key
        fields = _create_agent(chosen, settings, public_key)
        write(Credentials(url, ApiKey(fields.pop("api_key")), signing_key).to_toml())
    text = (
        f"Agent {fields['handle']} ({fields['id']}).\n"
        f"Its credentials for {url} are in {chosen.save}: who has the file acts, pays and signs as the agent."
    )
    return Answer(text, {**fields, "public_key": public_key, "file": chosen.save})


def _create_agent(chosen: argparse.Namespace, settings: Settings, public_key: str | None) -> dict[str, Any]:
    def change(tx: WriterTx, market: Market) -> tuple[dict[str, Any], Announcement]:
        owner = registry.require_user(tx, chosen.owner)
        draft = AgentDraft(
            name=chosen.name,
            description=chosen.description,
            capabilities=tuple(parse_capability(text) for text in chosen.capability),
            base_price=chosen.base_price,
            pricing_model=PricingModel(chosen.pricing_model),
            tags=tuple(chosen.tag),
            is_listed=not chosen.unlisted,
            is_global=chosen.is_global,
            public_key=public_key if not _is_did(public_key) else None,
            did=public_key if _is_did(public_key) else None,
        )
        agent, key, told = registry.create_agent(
            tx,
            owner,
            draft,
            organisation=chosen.org,
            by_operator=True,
            maker=None,
            now=system_clock(),
            market=market,
        )
        return {"id": agent.id, "handle": agent.handle, "api_key": key}, Announcement(told)

    return Folder(settings).change(change)


def _own_url(settings: Settings) -> str:
    """Where a program on this machine finds the market."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - It is not bound here.
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _is_did(text: str | None) -> bool:
    return text is not None and text.startswith("did:")


def _made(what: str, fields: dict[str, Any]) -> Answer:
    text = f"{what} {fields['handle']} ({fields['id']}).\nIts API key, shown this once: {fields['api_key']}"
    return Answer(text, fields)


def parse_capability(text: str) -> CapabilityDraft:
    """`name` or `name=price`: digits are minor units, text with a point is major units. The market checks the price."""
    name, equals, price = text.partition("=")
    if not equals:
        return CapabilityDraft(name=name)
    return CapabilityDraft(name=name, price=int(price) if price.isascii() and price.isdigit() else price)


def deposit(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """Put money in for an agent, once per idempotency key."""

    def change(tx: WriterTx, market: Market) -> tuple[dict[str, Any], Announcement]:
        text = chosen.amount
        amount = parse_money(int(text) if text.isascii() and text.isdigit() else text, exponent=market.exponent)
        agent = registry.require_agent(tx, chosen.handle)
        fingerprint = f"{agent.id} {amount}"
        if chosen.idempotency_key is not None and _is_repeated(tx, chosen.idempotency_key, fingerprint):
            return {"available": ledger.balances_of_agent(tx, agent.id)["available"]}, Announcement()
        available = registry.deposit(tx, agent, amount, memo="command line", now=system_clock())
        return {"available": available}, Announcement()

    fields = Folder(settings).change(change)
    return Answer(f"Available now: {fields['available']} minor units.", fields)


def _is_repeated(tx: WriterTx, key: str, fingerprint: str) -> bool:
    """Whether this key has been used for the same already; remember it otherwise.

    Raises:
        Invalid: `idempotency_mismatch`: it was used for something else.
    """
    hashed = hashlib.sha256(fingerprint.encode()).hexdigest()
    row = tx.one(
        "SELECT fingerprint FROM idempotency_keys WHERE caller = :caller AND path = 'deposit' AND key = :key",
        caller=COMMAND_LINE,
        key=key,
    )
    if row is None:
        tx.run(
            "INSERT INTO idempotency_keys (caller, path, key, fingerprint, status_code, body, expires_at)"
            " VALUES (:caller, 'deposit', :key, :fingerprint, 200, '', :expires_at)",
            caller=COMMAND_LINE,
            key=key,
            fingerprint=hashed,
            expires_at=to_ms(system_clock()) + IDEMPOTENT_FOR_MS,
        )
        return False
    if row[0] != hashed:
        raise Invalid("idempotency_mismatch", "This idempotency key was used for another deposit; take a new one.")
    return True


def moderate(name: str) -> Callable[[argparse.Namespace, Settings], Answer]:
    """The command that suspends an agent, or ends its suspension."""
    decide = {"suspend": suspend, "reinstate": reinstate}[name]

    def run(chosen: argparse.Namespace, settings: Settings) -> Answer:
        def change(tx: WriterTx, _market: Market) -> tuple[dict[str, Any], Announcement]:
            found = registry.require_agent(tx, chosen.handle)
            agent = decide(states.load(tx, "agent", found.id), now=system_clock())
            states.save(tx, "agent", agent.id, agent)
            leaving = (f"agent_socket:{agent.id}",) if name == "suspend" else ()
            return {"id": agent.id, "handle": agent.handle, "status": agent.status}, Announcement((), leaving)

        fields = Folder(settings).change(change)
        return Answer(f"{fields['handle']} is {fields['status']}.", fields)

    return run


def rotate_key(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """Give a user or an agent a new key. Every other key of it, and their sessions, die in the same transaction."""

    def change(tx: WriterTx, _market: Market) -> tuple[dict[str, Any], Announcement]:
        handle, now = normalise_handle(chosen.handle), system_clock()
        agent = agents.by_handle(tx, handle)
        user_id = agent.owner_id if agent is not None else registry.require_user(tx, handle).id
        agent_id = None if agent is None else agent.id
        keys = [
            key
            for key in people.keys_of(tx, user_id=user_id, agent_id=agent_id, after="", limit=1_000_000)
            if key.agent_id == agent_id and key.revoked_at is None
        ]
        if not keys:
            raise Conflict("no_key", "Every key of it has been revoked.")
        first, *others = keys
        for key in others:
            people.revoke_key(tx, key_id=key.id, now=now)
        secret = auth.rotate_key(tx, first.id)
        socket_id = f"agent_socket:{agent_id}" if agent_id else f"user_socket:{user_id}"
        fields = {"id": agent_id or user_id, "handle": handle, "api_key": secret}
        return fields, Announcement((), (socket_id,), tuple(key.id for key in keys))

    fields = Folder(settings).change(change)
    return Answer(f"{fields['handle']} has a new API key, shown this once: {fields['api_key']}", fields)


def doctor(_chosen: argparse.Namespace, settings: Settings) -> Answer:
    """Recompute the books and the sums of analytics, and compare the rest with what finds it.

    That can take a minute or two where there is much, and is done on a snapshot: nobody waits for it.
    """
    if not settings.database_path.exists():
        raise CommandError(f"there is no database in {settings.folder}; name a data folder with --data-dir")
    messages_since = system_clock() - timedelta(seconds=settings.limits.dedup_ttl_s)  # So long each is kept at least.

    def look(tx: Tx) -> tuple[list[str], dict[str, int]]:
        differences = [
            *ledger.doctor(tx),
            *sides.doctor(tx),
            *messages.doctor(tx),
            *room_sides.doctor(tx),
            *private_sides.doctor(tx),
            *rollup_doctor.doctor(tx, messages_since=messages_since),
        ]
        return differences, ledger.summary(tx)

    differences, summary = Folder(settings).look(look)
    fields = {"ok": not differences, "differences": differences, "summary": summary}
    if differences:
        return Answer("\n".join([*differences, f"{len(differences)} differences."]), fields, exit_code=1)
    held = ", ".join(f"{name} {amount}" for name, amount in summary.items() if name != "sum")
    return Answer(f"The books balance: {held}. No difference.", fields)


def backup(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """A consistent copy of the database, also while it is served. The server key is not in it: keep that apart."""
    target = Path(chosen.file)
    if not settings.database_path.exists():
        raise CommandError(f"there is no database in {settings.folder}; name a data folder with --data-dir")
    if target.exists():
        raise CommandError(f"{target} exists already; name a new file")
    target.touch(mode=0o600)
    with closing(sqlite3.connect(settings.database_path)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    return Answer(f"{target}: {target.stat().st_size} bytes.", {"file": str(target), "bytes": target.stat().st_size})


def _put_in_place(source: sqlite3.Connection, settings: Settings) -> None:
    """Copy a database, bring it up to date and note that it was restored; only then does it get its name.

    Whatever interrupts this leaves the folder as empty as it was: a database without the note would pay out what it
    should wait with.
    """
    fresh = settings.database_path.with_name(f"{settings.database_path.name}.restoring")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    try:
        with closing(sqlite3.connect(fresh)) as copy:
            source.backup(copy)
        migrate(fresh)
        with closing(open_writer(fresh, busy_timeout_s=settings.busy_timeout_s)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            note_restored(WriterTx(connection, {}), now=system_clock())
            connection.execute("COMMIT")
        fresh.rename(settings.database_path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def restore(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """Put a backup into a folder that has no database yet."""
    source_path = Path(chosen.file)
    if settings.database_path.exists():
        raise CommandError(f"{settings.database_path} exists already; restore into an empty folder")
    if not source_path.exists():
        raise CommandError(f"there is no file {source_path}")
    with closing(sqlite3.connect(f"{source_path.resolve().as_uri()}?mode=ro", uri=True)) as source:
        try:
            known = source.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        except sqlite3.DatabaseError as error:
            raise CommandError(f"{source_path} is no backup: {error}") from error
        if not known:
            raise CommandError(f"{source_path} is no backup of Agrenting")
        settings.folder.mkdir(parents=True, exist_ok=True)
        _put_in_place(source, settings)
    return Answer(f"{settings.database_path} is restored.", {"database": str(settings.database_path)})
