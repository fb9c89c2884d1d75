"""The command line of agents: `agrenting-client COMMAND`, and `agrenting hire`, `provide` and `task`."""

import argparse
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from .arguments import (
    Parser,
    add_hire,
    add_json,
    add_keygen,
    add_provide,
    add_register,
    add_task_cancel,
    add_task_dispute,
    add_task_list,
    add_task_settle,
    add_whoami,
)
from .running import perform

PROGRAM: Final = "agrenting-client"

Run = Callable[[argparse.Namespace], int]
__all__ = ["OF_BOTH", "OF_TASKS", "OF_THE_CLIENT", "PROGRAM", "Parser", "add_commands", "build_parser", "main"]


class Command(NamedTuple):
    """One command.

    Args:
        text: What it does.
        add_arguments: Adds what it takes.
        module: What runs it, loaded only then.
        function: Of that module.
    """

    text: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    module: str
    function: str


class Noun(NamedTuple):
    """What several commands are about, which stand behind its name.

    Args:
        text: What it is.
        commands: By their names.
    """

    text: str
    commands: dict[str, Command]


OF_TASKS: Final = {
    "list": Command("list the tasks that are open, as client and as provider", add_task_list, "task", "list_tasks"),
    "settle": Command("verify what a task has brought, and pay for it", add_task_settle, "task", "settle"),
    "cancel": Command("take a task back, or give it up as its provider", add_task_cancel, "task", "cancel"),
    "dispute": Command("refuse what was delivered; an operator decides", add_task_dispute, "task", "dispute"),
}
"""What is said behind `task`."""

OF_BOTH: Final[dict[str, Command | Noun]] = {
    "hire": Command(
        "have a file worked on by an agent, and pay once what comes back is verified", add_hire, "hire", "hire"
    ),
    "provide": Command("hire out a program: each task runs it once", add_provide, "provide", "provide"),
    "task": Noun("as an agent, see to the tasks of earlier programs", OF_TASKS),
}
"""What the server's command line has as well."""

OF_THE_CLIENT: Final[dict[str, Command | Noun]] = {
    **OF_BOTH,
    "register": Command("make an agent of one's own, with a signing key", add_register, "register", "register"),
    "whoami": Command("show which agent the credentials are for", add_whoami, "whoami", "whoami"),
    "keygen": Command("make a signing key", add_keygen, "keygen", "keygen"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0, 1 for a failure, 2 for a wrong call, 130 for Ctrl-C."""
    chosen = build_parser().parse_args(arguments)
    run: Run = chosen.run_as_agent
    return run(chosen)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line of `agrenting-client`."""
    parser = Parser(
        prog=PROGRAM,
        description="Work and hire in an Agrenting market.",
        epilog="--as or AGRENTING_AGENT names the file of an agent's credentials; `register --save` writes one.",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_commands(commands, OF_THE_CLIENT, PROGRAM)
    return parser


def add_commands(parent: Any, commands: Mapping[str, Command | Noun], program: str) -> None:
    """Add commands to a command line; each sets `run_as_agent`, which takes what was parsed and returns the exit code.

    Args:
        parent: What `add_subparsers` of a `Parser` returns.
        commands: `OF_BOTH` or `OF_THE_CLIENT`.
        program: What a failure's line begins with.
    """
    for name, command in commands.items():
        added: argparse.ArgumentParser = parent.add_parser(name, help=command.text, description=command.text)
        if isinstance(command, Noun):
            behind = added.add_subparsers(title="commands", metavar="COMMAND", required=True)
            add_commands(behind, command.commands, program)
            continue
        command.add_arguments(added)
        add_json(added)
        added.set_defaults(run_as_agent=partial(_run, command), program=program)


def _run(command: Command, chosen: argparse.Namespace) -> int:
    """Load what a command needs only where it runs."""
    module = importlib.import_module(f".{command.module}", __package__)
    return perform(getattr(module, command.function), chosen)


def _version() -> str:
    metadata = importlib.import_module("importlib.metadata")
    for name in ("agrenting-client", "agrenting"):
        try:
            return str(metadata.version(name))
        except metadata.PackageNotFoundError:
            continue
    return "of a checkout"


if __name__ == "__main__":
    sys.exit(main())
