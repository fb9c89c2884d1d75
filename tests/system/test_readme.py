"""README.md and docs/deploy.md are true: commands and settings exist, and the examples do a deal as they stand."""

import argparse
import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agrenting.cli import build_parser
from agrenting.client.hatch_build import stage
from agrenting.client.shell import OF_TASKS
from agrenting.config import ENVIRONMENT_ONLY, ENVIRONMENT_PREFIX, Settings, load_settings
from channels.limits import Limits
from tests.system.harness import ROOT, MarketProcess, free_environment

README = (ROOT / "README.md").read_text("utf-8")
DEPLOY = (ROOT / "docs/deploy.md").read_text("utf-8")
LINES_MAX = 30
EXAMPLE_TIMEOUT_S = 60.0
EVERY_COMMAND = {"-h", "--data-dir", "--json"}
OF_AGENTS = {"agrenting hire", "agrenting provide", *(f"agrenting task {verb}" for verb in OF_TASKS)}
"""They work on any market, and so on no data folder."""


def blocks(text: str, language: str) -> list[str]:
    """The blocks of code of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """What the shell blocks run of ours, each command as its arguments."""
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    found = [re.search(r"(?:^|agrenting |market )agrenting (.+)", line) for line in lines]
    return [shlex.split(match[1], comments=True) for match in found if match]


def cells(text: str, heading: str) -> list[list[str]]:
    """The rows of the table whose first column has that heading."""
    (table,) = re.findall(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]


# Commands.


def leaves(parser: argparse.ArgumentParser, path: str = "agrenting") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command, by its whole name."""
    groups = [action for action in actions(parser) if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001 - argparse has no other name for it.
    if not groups:
        yield path, parser
    for group in groups:
        for name, command in group.choices.items():
            yield from leaves(command, f"{path} {name}")


def actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """A parser's arguments."""
    return parser._actions  # noqa: SLF001 - argparse has no public way to them.


def test_the_table_of_commands_is_that_of_the_command_line() -> None:
    written = {row[0].strip("`"): row for row in cells(README, "command")}
    named = {re.split(r" (?=[A-Z[-])", usage)[0]: usage for usage in written}
    parsers = dict(leaves(build_parser()))

    assert list(named) == list(parsers)
    for name, parser in parsers.items():
        usage = named[name].removeprefix(name)
        options = {action.option_strings[0] for action in actions(parser) if action.option_strings} - EVERY_COMMAND
        required = {action.option_strings[0] for action in actions(parser) if action.required and action.option_strings}
        positionals = [
            str(action.metavar or action.dest).upper()
            for action in actions(parser)
            if not action.option_strings and action.nargs != "?"
        ]
        plain = re.sub(r"\[.*?\]", "", usage)
        assert {*re.findall(r"--[a-z-]+", usage)} == options, name
        assert {*re.findall(r"--[a-z-]+", plain)} == required, name
        assert re.findall(r"\b[A-Z]+\b", re.sub(r"--[a-z-]+ [A-Z]+", "", plain)) == positionals, name


def test_every_command_takes_what_is_said_of_all() -> None:
    for name, parser in leaves(build_parser()):
        options = {action.option_strings[0] for action in actions(parser) if action.option_strings}
        assert options >= (EVERY_COMMAND - {"--data-dir"} if name in OF_AGENTS else EVERY_COMMAND), name


@pytest.mark.parametrize("arguments", [*commands(README), *commands(DEPLOY)], ids=" ".join)
def test_a_command_that_is_shown_can_be_run_so(arguments: list[str]) -> None:
    chosen = vars(build_parser().parse_args(arguments))

    assert callable(chosen.get("run_as_agent") or chosen["run"])


def test_commands_are_found_in_both() -> None:
    assert len(commands(README)) > 4
    assert len(commands(DEPLOY)) > 8


# Settings.


def test_the_table_of_settings_is_that_of_the_code() -> None:
    written = {row[0].strip("`"): json.loads(row[1].strip("`")) for row in cells(DEPLOY, "setting")}
    defaults = msgspec.to_builtins(Settings())
    del defaults["limits"]

    assert written == json.loads(json.dumps(defaults))


def test_the_settings_file_that_is_shown_can_be_read(tmp_path: Path) -> None:
    (text,) = blocks(DEPLOY, "toml")
    file = tmp_path / "agrenting.toml"
    file.write_text(text, "utf-8")

    assert load_settings(environment={}, path=file).limits.tasks_open_max == 50


def test_the_variables_that_are_shown_are_settings() -> None:
    shown = {*re.findall(rf"{ENVIRONMENT_PREFIX}[A-Z_]*[A-Z]\b", README + DEPLOY)} - ENVIRONMENT_ONLY
    names = {name.removeprefix(ENVIRONMENT_PREFIX).lower() for name in shown}

    assert names - {"limits"} <= {*Settings.__struct_fields__} | {f"limits_{name}" for name in Limits.__struct_fields__}


# Links.


@pytest.mark.parametrize("name", ["README.md", "docs/deploy.md", "CHANGELOG.md"])
def test_every_link_to_a_file_leads_to_one(name: str) -> None:
    document = ROOT / name
    links = re.findall(r"\]\((?!http)([^)#\s]+)", document.read_text("utf-8"))

    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_two_commands_stand_first() -> None:
    assert [line.split("#")[0].strip() for line in blocks(README, "sh")[0].splitlines()] == ["make demo", "make test"]


# The examples, run as they stand.


@contextmanager
def running(command: list[str], cwd: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended with the block, or when it takes too long."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=free_environment(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watchdog = threading.Timer(EXAMPLE_TIMEOUT_S, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints; empty once it has ended."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


def example(language: str) -> str:
    """The one example in a language."""
    (text,) = blocks(README, language)
    return text


@pytest.mark.parametrize("language", ["python", "js"])
def test_an_example_has_under_thirty_lines(language: str) -> None:
    assert len(example(language).splitlines()) < LINES_MAX


def test_the_examples_do_a_deal_in_the_market_that_the_readme_sets_up(
    market: MarketProcess, node: str, tmp_path: Path
) -> None:
    of_the_market = [one for one in commands(README) if one != ["serve"] and f"agrenting {one[0]}" not in OF_AGENTS]
    made = [market.here(*arguments) for arguments in of_the_market]
    keys: dict[str, Any] = {fields["handle"]: fields["api_key"] for fields in made if "api_key" in fields}
    (tmp_path / "node_modules").symlink_to(ROOT / "tests/system/js/node_modules")
    (tmp_path / "mirror.mjs").write_text(example("js"), "utf-8")
    (tmp_path / "reader.py").write_text(example("python"), "utf-8")

    with running([node, "mirror.mjs"], tmp_path, MARKET_URL=market.url, AGENT_KEY=keys["alice/mirror"]) as mirror:
        assert line_of(mirror) == "waits for work"
        reader_command = [sys.executable, "-W", "error", "reader.py"]
        stage(ROOT / "agrenting/client", tmp_path / "agrenting_client")
        of_reader = {"MARKET_URL": market.url, "AGENT_KEY": keys["alice/reader"], "AGRENTING_STATE_DIR": str(tmp_path)}
        with running(reader_command, tmp_path, **of_reader) as reader:
            assert line_of(reader) == "hires alice/mirror for USD 1.00"
            assert line_of(reader) == "{'text': 'dlrow olleh'}"
            assert reader.wait(EXAMPLE_TIMEOUT_S) == 0
        assert line_of(mirror) == "is paid 950000 minor units"

    with market.rest(keys["alice/reader"]) as rest:
        assert rest.get("/api/v1/ledger/balance").json()["data"]["available"] == 99_000_000
