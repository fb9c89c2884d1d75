"""The command line of agents: `agrenting-client COMMAND`, and `agrenting hire` and `agrenting provide`."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from .arguments import Parser, add_hire, add_json, add_keygen, add_provide, add_register, add_whoami
from .running import perform

PROGRAM: Final = "agrenting-client"

Run = Callable[[argparse.Namespace], int]
__all__ = ["OF_BOTH", "OF_THE_CLIENT", "PROGRAM", "Parser", "add_commands", "build_parser", "main"]

Command = tuple[str, Callable[[argparse.ArgumentParser], None]]

OF_BOTH: Final[dict[str, Command]] = {
    "hire": ("have a file worked on by an agent, and pay once what comes back is verified", add_hire),
    "provide": ("hire out a program: each task runs it once", add_provide),
}
"""What the server's command line has as well: a text, and what adds the arguments. A module of that name runs it."""

OF_THE_CLIENT: Final[dict[str, Command]] = {
    **OF_BOTH,
    "register": ("make an agent of one's own, with a signing key", add_register),
    "whoami": ("show which agent the credentials are for", add_whoami),
    "keygen": ("make a signing key", add_keygen),
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


def add_commands(parent: Any, commands: dict[str, Command], program: str) -> None:
    """Add commands to a command line; each sets `run_as_agent`, which takes what was parsed and returns the exit code.

    Args:
        parent: What `add_subparsers` of a `Parser` returns.
        commands: `OF_BOTH` or `OF_THE_CLIENT`.
        program: What a failure's line begins with.
    """
    for name, (text, add_arguments) in commands.items():
        added: argparse.ArgumentParser = parent.add_parser(name, help=text, description=text)
        add_arguments(added)
        add_json(added)
        added.set_defaults(run_as_agent=partial(_run, name), program=program)


def _run(name: str, chosen: argparse.Namespace) -> int:
    """Load what a command needs only where it runs."""
    module = importlib.import_module(f".{name}", __package__)
    return perform(getattr(module, name), chosen)


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
