"""The guides in docs/ are true: each is followed as it stands, in an empty folder, against a real market."""

import contextlib
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from agrenting.cli import build_parser
from agrenting.client.credentials import Credentials
from agrenting.client.hatch_build import stage
from agrenting.client.shell import build_parser as build_client_parser
from tests.system.guides import Reader, blocks_of
from tests.system.harness import ROOT, MarketProcess, free_environment

pytestmark = pytest.mark.timeout(240)
"""Each test starts several programs; where the machine is busy, that takes its time."""

GUIDES = ROOT / "docs/agents"
START = (GUIDES / "start.md").read_text("utf-8")
FOREIGN = (ROOT / "docs/other-languages.md").read_text("utf-8")
AFTER_START = sorted(path.stem for path in GUIDES.glob("*.md") if path.stem not in {"README", "start"})
DOCUMENTS = [*GUIDES.glob("*.md"), ROOT / "docs/other-languages.md"]
VECTORS = ROOT / "tests/crypto/vectors/signing.json"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `agrenting_client`, as its wheel has it."""
    folder = tmp_path_factory.mktemp("packages")
    stage(ROOT / "agrenting/client", folder / "agrenting_client")
    return folder


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    """A market with the agents of start.md, for all guides that come after it."""
    folder = tmp_path_factory.mktemp("town")
    process = MarketProcess(folder / "var").start()
    the_agents_of_the_start(process, folder)
    yield process
    assert process.stop() == 0, "\n".join(process.log)


@pytest.fixture
def reader_of(packages: Path, tmp_path: Path) -> Iterator[Callable[[MarketProcess], Reader]]:
    """Makes somebody in an empty folder, who is at a market, with all programs on the PATH."""
    with ExitStack() as open_readers:

        def make(market: MarketProcess) -> Reader:
            environment = free_environment(
                PATH=f"{Path(sys.executable).parent}:{free_environment()['PATH']}",
                PYTHONPATH=f"{packages}:{ROOT}",
                PYTHONWARNINGS="error",
                AGRENTING_DATA_DIR=str(market.data_dir),
                AGRENTING_STATE_DIR=str(tmp_path / "state"),
            )
            if market.data_dir.parent != tmp_path:
                for credentials in market.data_dir.parent.glob("*.toml"):
                    shutil.copy(credentials, tmp_path)
            reader = open_readers.enter_context(Reader(tmp_path, environment, market.url))
            reader.write(START)
            return reader

        yield make


def the_agents_of_the_start(market: MarketProcess, folder: Path) -> None:
    """Do what start.md does to have two agents, in this process: starting a command for each takes longer."""
    (commands,) = [block.text for block in blocks_of(START) if "agent create" in block.text]
    with contextlib.chdir(folder):
        for line in commands.splitlines():
            clerk_of(market)(shlex.split(line)[1:])


def clerk_of(market: MarketProcess) -> Callable[[list[str]], None]:
    """Runs the operator's commands in this process."""

    def run(arguments: list[str]) -> None:
        at = ["--url", market.url] if "--save" in arguments else []
        market.here(*arguments, *at)

    return run


# In Python, and from the shell.


def test_five_minutes_are_enough(tmp_path: Path, packages: Path, reader_of: Callable[[MarketProcess], Reader]) -> None:
    market = MarketProcess(tmp_path / "var").start()
    try:
        reader_of(market).follow(START)
    finally:
        assert market.stop() == 0


@pytest.mark.parametrize("name", AFTER_START)
def test_a_guide_can_be_followed(name: str, town: MarketProcess, reader_of: Callable[[MarketProcess], Reader]) -> None:
    reader = reader_of(town)
    reader.clerk = clerk_of(town)

    reader.follow((GUIDES / f"{name}.md").read_text("utf-8"))


# In other languages.


def test_the_client_in_javascript_bargains_works_and_pays(
    node: str, town: MarketProcess, reader_of: Callable[[MarketProcess], Reader]
) -> None:
    reader = reader_of(town)
    (reader.folder / "node_modules").symlink_to(ROOT / "tests/system/js/node_modules")
    reader.environment["PATH"] = f"{Path(node).parent}:{reader.environment['PATH']}"

    reader.follow(FOREIGN)


def test_the_vectors_are_passed_in_javascript(node: str, tmp_path: Path) -> None:
    shutil.copy(VECTORS, tmp_path)
    with Reader(tmp_path, free_environment()) as reader:
        reader.write(FOREIGN)

        reader.run(f"{node} vectors.mjs").expect("10 messages, 11 signatures, 15 refused\n")


async def test_the_raw_frames_are_those_that_are_shown(town: MarketProcess) -> None:
    """What is sent stands there as it is; what comes holds at least what is shown."""
    key = Credentials.from_file(town.data_dir.parent / "reader.toml").api_key
    (shown,) = [block.text for block in blocks_of(FOREIGN) if block.words == "frames"]

    async with connect(town.socket_url, additional_headers={"x-api-key": key.reveal()}) as socket:
        for direction, frame in [(line[0], json.loads(line[2:])) for line in shown.splitlines()]:
            if direction == ">":
                await socket.send(json.dumps(frame))
                continue
            while (heard := json.loads(await socket.recv()))[3] != "phx_reply":
                pass
            assert holds(heard, frame), f"{heard} instead of {frame}"


def holds(heard: Any, shown: Any) -> bool:
    """Whether what came has all that is shown; `…` stands for any text."""
    if isinstance(shown, dict):
        return all(name in heard and holds(heard[name], value) for name, value in shown.items())
    if isinstance(shown, list):
        return len(shown) == len(heard) and all(map(holds, heard, shown))
    return bool(shown == heard or (shown == "…" and isinstance(heard, str)))


# What they say of each other, and of themselves.


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    text = document.read_text("utf-8")
    links = re.findall(r"\]\((?!http)([^)#\s]*)(?:#([^)\s]+))?\)", text)

    for path, anchor in links:
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{document.name} leads to {path}"
        if anchor:
            assert anchor in anchors_of(target), f"{document.name} leads to {path}#{anchor}"


def anchors_of(document: Path) -> set[str]:
    """The names of a document's headings, as the pages of code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_index_names_every_guide_once() -> None:
    index = (GUIDES / "README.md").read_text("utf-8")

    assert sorted(re.findall(r"^\| \[(\w+)\.md\]", index, re.MULTILINE)) == sorted([*AFTER_START, "start"])


def test_every_command_that_is_shown_can_be_run_so() -> None:
    shells = [block.text for document in DOCUMENTS for block in blocks_of(document.read_text("utf-8"))]
    lines = [line for shell in shells for line in shell.splitlines()]
    shown = [re.search(r"(?:^|\| )(agrenting(?:-client)?) (.+)", line) for line in lines]
    commands = [(match[1], shlex.split(match[2])) for match in shown if match]

    assert {"agrenting", "agrenting-client"} == {program for program, _ in commands}
    for program, arguments in commands:
        parser = build_client_parser() if program == "agrenting-client" else build_parser()
        parser.parse_args(arguments)  # Which ends the test where they are none.


def test_every_program_of_a_guide_is_run() -> None:
    for document in GUIDES.glob("*.md"):
        blocks = blocks_of(document.read_text("utf-8"))
        commands = "\n".join(block.text for block in blocks if block.language == "sh")
        for block in blocks:
            assert block.language in {"python", "sh", "text", "toml"}, f"{document.name}: {block.language}"
            assert block.language != "python" or block.words, f"{document.name} has a program without a name"
            assert block.language != "python" or block.words in commands, f"{document.name}: {block.words} is not run"
