"""What each command takes, and the types of arguments."""

import argparse
import re
from functools import partial
from typing import Any, Final

import msgspec

from ..amounts import AMOUNT_MAX, Amount
from .strategies import STRATEGIES

DRAIN_S: Final = 30
CONCURRENCY: Final = 8
TIMEOUT_S: Final = 3_600

TASK_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
MAJOR: Final = re.compile(r"(?:0|[1-9][0-9]{0,15})\.[0-9]{1,18}")


class Parser(argparse.ArgumentParser):
    """Takes a file that may be left out also where options stand before it: `hire translate --max-price 8.50 FILE`."""

    # Its overloads say nothing that a caller of ours looks at.
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What was parsed, and what nothing was found for."""
        parsed, left = super().parse_known_args(args, namespace)
        for action in self._actions:
            is_open = action.nargs == "?" and not action.option_strings and getattr(parsed, action.dest) is None
            if is_open and left and (left[0] == "-" or not left[0].startswith("-")):
                setattr(parsed, action.dest, left.pop(0))
        return parsed, left


def amount(text: str) -> Amount:
    """Money: digits are minor units, with a point they are major units.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if text.isascii() and text.isdigit() and int(text) <= AMOUNT_MAX:
        return int(text)
    if MAJOR.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is no amount: minor units as digits, or major units with a point: 8.50")


def json_value(text: str) -> Any:
    """A JSON value.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise argparse.ArgumentTypeError(f"no JSON: {error}") from None


def seconds(text: str) -> int:
    """Whole seconds, at least 0.

    Raises:
        argparse.ArgumentTypeError: It is something else.
    """
    return _whole(text, least=0)


def count(text: str) -> int:
    """A number of things, at least 1.

    Raises:
        argparse.ArgumentTypeError: It is something else.
    """
    return _whole(text, least=1)


def add_hire(parser: argparse.ArgumentParser) -> None:
    """What `hire` takes."""
    parser.add_argument("capability", help="what it is done by")
    parser.add_argument("file", nargs="?", help="what it is done to; - is standard input (default: no input)")
    parser.add_argument(
        "--max-price",
        required=True,
        type=amount,
        metavar="A",
        help="the most that is paid: minor units, or major units with a point",
    )
    parser.add_argument("--provider", metavar="HANDLE", help="who does it (default: the best one that is online)")
    parser.add_argument("--strategy", choices=STRATEGIES, help="bargain so (default: the list price is taken)")
    parser.add_argument("--first", type=amount, metavar="A", help="what bargaining begins with")
    parser.add_argument("--input", type=json_value, metavar="JSON", help="goes with the task, beside the file")
    parser.add_argument("--output", metavar="FILE", help="where the output goes (default: standard output)")
    parser.add_argument("--ask", metavar="MESSAGE", help="ask for contact where one is needed, and wait for the answer")
    parser.add_argument("--hold", type=seconds, metavar="S", help="seconds that the money stays held for checks")
    parser.add_argument("--keep-held", action="store_true", help="verify, but do not release the money")
    parser.add_argument("--receipt", metavar="FILE", help="keep the receipt there")
    add_credentials(parser)
    parser.set_defaults(check=partial(_check_hire, parser))


def add_provide(parser: argparse.ArgumentParser) -> None:
    """What `provide` takes."""
    parser.add_argument("capability", help="what the agent can be hired for")
    parser.add_argument(
        "command", nargs="+", help="after --: the program; input comes on its standard input, its output is streamed"
    )
    parser.add_argument(
        "--price",
        required=True,
        type=amount,
        metavar="A",
        help="the list price: minor units, or major units with a point",
    )
    parser.add_argument("--limit", type=amount, metavar="A", help="the least that is agreed on (default: the price)")
    parser.add_argument("--strategy", choices=STRATEGIES, default="fixed", help="how it bargains (default fixed)")
    parser.add_argument(
        "--concurrency", type=count, default=CONCURRENCY, metavar="N", help=f"tasks that run at once ({CONCURRENCY})"
    )
    parser.add_argument(
        "--timeout",
        type=count,
        default=TIMEOUT_S,
        metavar="S",
        help=f"fail a task that takes longer, also one whose input never ends ({TIMEOUT_S})",
    )
    parser.add_argument(
        "--drain", type=seconds, default=DRAIN_S, metavar="S", help=f"seconds that tasks have at the end ({DRAIN_S})"
    )
    parser.add_argument(
        "--accept-contacts",
        nargs="?",
        type=amount,
        const=True,
        metavar="UP_TO",
        help="approve whoever asks for contact, for prices up to this one",
    )
    add_credentials(parser)


def add_task_list(parser: argparse.ArgumentParser) -> None:
    """What `task list` takes."""
    parser.add_argument("--all", action="store_true", dest="is_all", help="also those that are over")
    add_credentials(parser)


def add_task_settle(parser: argparse.ArgumentParser) -> None:
    """What `task settle` takes."""
    _add_task(parser)
    parser.add_argument("--output", metavar="FILE", help="where the output goes (default: nowhere)")
    parser.add_argument("--receipt", metavar="FILE", help="keep the receipt there")
    add_credentials(parser)


def add_task_cancel(parser: argparse.ArgumentParser) -> None:
    """What `task cancel` takes."""
    _add_task(parser)
    parser.add_argument("--reason", metavar="TEXT", default="", help="for the other agent")
    add_credentials(parser)


def add_task_dispute(parser: argparse.ArgumentParser) -> None:
    """What `task dispute` takes."""
    _add_task(parser)
    parser.add_argument("--reason", metavar="TEXT", required=True, help="for the provider, and for who decides")
    add_credentials(parser)


def add_register(parser: argparse.ArgumentParser) -> None:
    """What `register` takes."""
    parser.add_argument("--url", required=True, metavar="URL", help="the market, as in http://127.0.0.1:4000")
    parser.add_argument("--name", required=True, metavar="NAME", help="the agent's name, from which its handle comes")
    parser.add_argument("--description", required=True, metavar="TEXT", help="what it does")
    parser.add_argument(
        "--capability",
        action="append",
        default=[],
        type=_capability,
        metavar="NAME[=PRICE]",
        help="what it can be hired for: minor units, or major units with a point",
    )
    parser.add_argument("--tag", action="append", default=[], metavar="T", help="a word that it is found by")
    parser.add_argument("--save", metavar="FILE", help="write its credentials there, for its owner's eyes alone")


def add_whoami(parser: argparse.ArgumentParser) -> None:
    """What `whoami` takes."""
    add_credentials(parser)


def add_keygen(parser: argparse.ArgumentParser) -> None:
    """What `keygen` takes."""
    parser.add_argument(
        "--save", metavar="FILE", help="write the secret key there, for its owner's eyes alone, and do not show it"
    )


def add_credentials(parser: argparse.ArgumentParser) -> None:
    """Whom a command acts as."""
    parser.add_argument(
        "--as",
        dest="as_file",
        metavar="FILE",
        help="the agent's credentials (default: AGRENTING_AGENT, or AGRENTING_URL and AGRENTING_API_KEY)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """How a command answers."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_task(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", type=_task_id, help="the task's id")


def _check_hire(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> None:
    if chosen.first is not None and chosen.strategy is None:
        parser.error("--first takes a --strategy to begin with")
    if chosen.receipt is not None and chosen.keep_held:
        parser.error("--receipt is written once the money is released: leave out --keep-held")


def _task_id(text: str) -> str:
    """Something that can stand in an address."""
    if TASK_ID.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no task's id, as `task list` shows it")
    return text


def _capability(text: str) -> dict[str, Any]:
    name, equals, price = text.partition("=")
    return {"name": name, "price": amount(price)} if equals else {"name": name}


def _whole(text: str, *, least: int) -> int:
    if not (text.isascii() and text.isdigit()) or not least <= int(text) <= AMOUNT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {least}")
    return int(text)
