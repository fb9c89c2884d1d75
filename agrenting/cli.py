"""`agrenting`: the command line.

Every command works on a data folder, whether or not a server is running on it, prints for people by default and one
JSON object with `--json`, and exits non-zero with one clear line on failure. But `hire`, `provide` and `task` are of
agents: they work on any market, and need no data folder.
"""

import argparse
import os
import sqlite3
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from agrenting import __version__, commands, contact_commands, private_commands, verifying
from agrenting.client import ClientError, shell
from agrenting.config import Settings, SettingsError, load_settings
from agrenting.db.migrate import SchemaError
from channels.errors import Refusal
from crypto import CryptoError

FAILED, INTERRUPTED = 1, 130

Run = Callable[[argparse.Namespace, Settings], commands.Answer | int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    parser = build_parser()
    chosen = parser.parse_args(arguments)
    if hasattr(chosen, "run_as_agent"):
        return int(chosen.run_as_agent(chosen))
    try:
        overrides = {name: getattr(chosen, name, None) for name in ("data_dir", "host", "port")}
        answer: commands.Answer | int = chosen.run(chosen, load_settings(overrides))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED
    except (Refusal, CryptoError) as refusal:
        return _fail(f"{refusal} ({refusal.reason})", chosen, refusal.reason)
    except (SettingsError, SchemaError, commands.CommandError, ClientError, OSError, sqlite3.Error) as error:
        return _fail(str(error), chosen, "failed")
    return answer if isinstance(answer, int) else _print(answer, as_json=chosen.json)


def _print(answer: commands.Answer, *, as_json: bool) -> int:
    try:
        print(_json(answer.fields) if as_json else answer.text, flush=True)
    except BrokenPipeError:  # `agrenting config | head` has seen enough; nothing more is to be flushed at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return answer.exit_code


def _fail(sentence: str, chosen: argparse.Namespace, reason: str) -> int:
    line = " ".join(sentence.split())
    if getattr(chosen, "json", False):
        print(_json({"error": {"code": reason, "message": line}}))
    print(f"agrenting: {line}", file=sys.stderr)
    return FAILED


def _json(fields: dict[str, Any]) -> str:
    return msgspec.json.encode(fields).decode()


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; a test holds it against the README."""
    parser = shell.Parser(
        prog="agrenting",
        description="An open, self-hosted marketplace for software agents.",
        epilog="Settings come from AGRENTING_… variables, or the TOML file that AGRENTING_CONFIG names.",
    )
    parser.add_argument("--version", action="version", version=f"agrenting {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--data-dir", metavar="DIR", help="the data folder (default ./var)")
    common.add_argument("--json", action="store_true", help="print one JSON object")
    nouns = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        parent: Any, name: str, run: Run, text: str, *, positionals: Sequence[tuple[str, str]] = ()
    ) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = parent.add_parser(name, parents=[common], help=text, description=text)
        for positional, description in positionals:
            added.add_argument(positional, help=description)
        added.set_defaults(run=run)
        return added

    serve = command(nouns, "serve", commands.serve, "migrate the data folder, then serve it until SIGTERM")
    serve.add_argument("--host", help="where to listen (default 127.0.0.1)")
    serve.add_argument("--port", type=int, help="the port (default 4000; 0: a free one)")
    _add_demo(
        command(nouns, "demo", commands.demo, "watch strangers meet, bargain, and get paid; then a living market")
    )
    _add_top(command(nouns, "top", commands.top, "show the numbers of the whole market, again and again"))
    shell.add_commands(nouns, shell.OF_BOTH, parser.prog)
    command(nouns, "config", commands.config, "print the settings in force")
    command(nouns, "migrate", commands.migrate_folder, "bring the data folder to this program's schema")
    command(nouns, "keygen", commands.keygen, "make an agent's signing key")
    command(
        nouns,
        "doctor",
        commands.doctor,
        "recompute the books, compare everything with what finds it, and print every difference",
    )
    _add_verify(
        command(nouns, "verify", verifying.verify, "check receipts and histories offline, with public keys alone")
    )
    command(
        nouns,
        "backup",
        commands.backup,
        "make a consistent copy of the data folder's database, also while it is served",
        positionals=[("file", "the new file")],
    )
    command(
        nouns,
        "restore",
        commands.restore,
        "put a backup into an empty data folder",
        positionals=[("file", "a file that `backup` made")],
    )
    deposit = command(
        nouns,
        "deposit",
        commands.deposit,
        "put money in for an agent",
        positionals=[
            ("handle", "the agent's handle"),
            ("amount", "integer minor units, or major units with a point: 8.50"),
        ],
    )
    deposit.add_argument("--idempotency-key", metavar="K", help="repeating it with the same key does nothing more")
    _add_registry(nouns, command)
    _add_contacts(nouns, command)
    _add_private_channels(nouns, command)
    return parser


def _add_verify(verify: argparse.ArgumentParser) -> None:
    verify.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a receipt, or a payment channel's whole history in JSON Lines, as the REST routes give them",
    )
    for direction, whose in (("input", "the client sent"), ("output", "the provider sent")):
        verify.add_argument(
            f"--{direction}",
            metavar="FILE",
            help=f"what {whose}: its size and SHA-256 must be those that the task's receipt says",
        )
    verify.add_argument(
        "--chunk-bytes",
        type=int,
        metavar="N",
        help="the file was sent in chunks of N bytes, but for the last: check the running digest too, which also a "
        "stream has that was not closed",
    )
    parties = {
        "platform": "of every document",
        "client": "of an agreement",
        "provider": "of an agreement",
        "opener": "of a payment channel",
        "counterparty": "of a payment channel",
    }
    for party, whose in parties.items():
        verify.add_argument(f"--{party}-key", metavar="B64", help=f"the {party}'s public key, {whose}, as you know it")


def _add_demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--once", action="store_true", help="end after one deal; exit code 0 only if everything balanced")
    demo.add_argument("--verbose", action="store_true", help="print every frame")


def _add_top(top: argparse.ArgumentParser) -> None:
    top.add_argument(
        "--interval", type=float, metavar="S", help="seconds between two looks (default 2); with --json one object each"
    )
    top.add_argument("--once", action="store_true", help="look once")


def _noun(nouns: Any, name: str, text: str) -> Any:
    noun = nouns.add_parser(name, help=text, description=text)
    return noun.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _add_registry(nouns: Any, command: Callable[..., argparse.ArgumentParser]) -> None:
    organisations = _noun(nouns, "org", "organisations")
    command(
        organisations,
        "create",
        commands.create_organisation,
        "make an organisation",
        positionals=[("name", "its name")],
    )
    users = _noun(nouns, "user", "users")
    user = command(
        users,
        "create",
        commands.create_user,
        "make a user; its key is shown once",
        positionals=[("handle", "3-40 of a-z, 0-9, ., - and _")],
    )
    user.add_argument("--org", metavar="NAME", help="the organisation that it joins")
    user.add_argument("--operator", action="store_true", help="it may run the marketplace")
    command(
        users,
        "join",
        contact_commands.join,
        "make a user a member of an organisation; all members are contacts",
        positionals=[("handle", "the user's handle"), ("organisation", "the organisation's name")],
    )
    command(
        users,
        "leave",
        contact_commands.leave,
        "end a user's membership, and the contacts that it made",
        positionals=[("handle", "the user's handle")],
    )
    agents = _noun(nouns, "agent", "agents")
    agent = command(
        agents,
        "create",
        commands.create_agent,
        "make an agent; its key is shown once",
        positionals=[("owner", "its owner's handle"), ("name", "its name, from which its handle comes")],
    )
    agent.add_argument("--description", required=True, metavar="TEXT", help="what it does")
    agent.add_argument(
        "--capability",
        action="append",
        default=[],
        metavar="NAME[=PRICE]",
        help="what it can be hired for: minor units, or major units with a point: 8.50",
    )
    agent.add_argument("--base-price", type=int, metavar="N", help="for capabilities without a price, in minor units")
    agent.add_argument("--pricing-model", choices=("hybrid", "fixed", "auction"), default="hybrid")
    agent.add_argument("--public-key", metavar="B64", help="its Ed25519 key, or a did:key (see `agrenting keygen`)")
    agent.add_argument("--tag", action="append", default=[], metavar="T", help="a word that it is found by")
    agent.add_argument("--global", action="store_true", dest="is_global", help="everybody may see and hire it")
    agent.add_argument("--unlisted", action="store_true", help="not found by strangers")
    agent.add_argument("--org", metavar="NAME", help="share it with an organisation")
    agent.add_argument(
        "--save",
        metavar="FILE",
        help="write its credentials there, for its owner's eyes alone; a signing key is made unless one is named",
    )
    agent.add_argument(
        "--url", metavar="URL", help="with --save: where the agent finds this market (default: as the settings say)"
    )
    for name, text in (
        ("suspend", "it opens nothing any more, and finishes what runs"),
        ("reinstate", "end its suspension"),
    ):
        command(agents, name, commands.moderate(name), text, positionals=[("handle", "the agent's handle")])
    keys = _noun(nouns, "key", "API keys")
    command(
        keys,
        "rotate",
        commands.rotate_key,
        "give a user or agent a new key; its old ones and their sessions die at once",
        positionals=[("handle", "the user's or agent's handle")],
    )


def _add_contacts(nouns: Any, command: Callable[..., argparse.ArgumentParser]) -> None:
    contact = _noun(nouns, "contact", "who may open negotiations and tasks with whom")
    who = ("who", "the user or agent that acts, by its handle")
    answers = ("other", "who has asked, by its handle")
    other = ("other", "the other one, by its handle")
    asked = command(contact, "request", contact_commands.request, "ask for contact", positionals=[who, other])
    asked.add_argument("--message", metavar="TEXT", help="at most 500 characters")
    approved = command(contact, "approve", contact_commands.approve, "approve a request", positionals=[who, answers])
    approved.add_argument(
        "--kind",
        action="append",
        default=[],
        metavar="KIND",
        help="the requester may open just these: negotiation, task, payment_channel, room, message",
    )
    approved.add_argument("--max-price", metavar="AMOUNT", help="of an offer, a held price or a deposit")
    approved.add_argument("--max-open", type=int, metavar="N", help="sessions open at once")
    approved.add_argument("--until", metavar="TIME", help="the contact ends then: 2030-01-31T12:00:00Z")
    command(contact, "reject", contact_commands.reject, "reject a request", positionals=[who, answers])
    command(contact, "cancel", contact_commands.cancel, "cancel a request of one's own", positionals=[who, other])
    command(
        contact,
        "revoke",
        contact_commands.revoke,
        "end a contact: open negotiations and tasks that have not started end with it",
        positionals=[who, other],
    )
    command(contact, "list", contact_commands.list_all, "list contacts, requests and blocks", positionals=[who])
    blocked = command(
        contact,
        "block",
        contact_commands.block,
        "keep another away: it neither finds nor reaches the first one any more",
        positionals=[who, other],
    )
    blocked.add_argument("--reason", metavar="TEXT", help="for one's own record")
    blocked.add_argument("--until", metavar="TIME", help="the block ends then: 2030-01-31T12:00:00Z")
    command(contact, "unblock", contact_commands.unblock, "end a block", positionals=[who, other])


def _add_private_channels(nouns: Any, command: Callable[..., argparse.ArgumentParser]) -> None:
    channel = _noun(nouns, "channel", "private channels: who sits there, and who may come")
    one = ("channel", "the channel's id: private:…")
    listed = command(channel, "list", private_commands.list_all, "list the private channels that are open")
    listed.add_argument(
        "--of", metavar="HANDLE", help="those alone that this agent, or this user's agents, own or join"
    )
    command(
        channel,
        "show",
        private_commands.show,
        "show a channel: owner, members, invitations with their tokens",
        positionals=[one],
    )
    command(
        channel,
        "close",
        private_commands.close,
        "end a channel for everybody; its invitations end with it",
        positionals=[one],
    )
    invited = command(
        channel,
        "invite",
        private_commands.invite,
        "make an invitation as the channel's owner; its token lets one instance in, once",
        positionals=[one],
    )
    bound = invited.add_mutually_exclusive_group()
    bound.add_argument("--agent", metavar="HANDLE", help="this agent alone may use it, from any of its programs")
    bound.add_argument("--instance", metavar="ID", help="this instance alone may use it")
    invited.add_argument("--expires-in", type=int, metavar="S", help="seconds that it holds for (default 86400)")
    command(
        channel,
        "revoke",
        private_commands.revoke,
        "revoke an invitation; one that is out no more is no matter",
        positionals=[one, ("invitation", "its id or its token")],
    )
