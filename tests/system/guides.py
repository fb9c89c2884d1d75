"""Guides as programs: their fenced blocks are written to files, run, and compared, in the order in which they stand.

A block's first word is its language, the words after it say what it is:

* `python NAME`, `js NAME`, `toml NAME`: a file of that name;
* `sh`: commands, run by bash until they end; they have to end well. `sh alone`: the same, after Ctrl-C for what stays;
* `sh stays`: a provider, which goes on in a terminal of its own until the next such block, or the end of the guide;
  then Ctrl-C ends it, well. What follows is done once it can be found in the market;
* `sh serve`, `sh install`: what the reader does and the test's fixtures have done;
* `text`: what the block before prints. `…` stands for anything; alone in a line, for any lines.

Any other block is only looked at by the test that knows it.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Self

from websockets.sync.client import connect

from agrenting.client.credentials import Credentials

WRITTEN_ADDRESS: Final = "http://127.0.0.1:4000"

TIMEOUT_S: Final = 60.0
FENCE: Final = re.compile(r"^```([^\n`]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPERATORS: Final = re.compile(r"agrenting (?:user|agent|deposit) ")
FILES: Final = {"python", "js", "toml"}


class Block(NamedTuple):
    """A fenced block: its language, the words behind it, and what it holds."""

    language: str
    words: str
    text: str


def blocks_of(markdown: str) -> list[Block]:
    """The fenced blocks of a document, in order."""
    found = [(info.partition(" "), text) for info, text in FENCE.findall(markdown)]
    return [Block(language, words, text) for (language, _, words), text in found]


def pattern_of(text: str) -> re.Pattern[str]:
    """What a `text` block stands for."""
    lines = [
        r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*?") + r"\n" for line in text.splitlines()
    ]
    return re.compile("".join(lines))


class Terminal:
    """A shell that runs one block. What is printed is kept, errors too, as a reader sees it."""

    def __init__(self, commands: str, folder: Path, environment: dict[str, str]) -> None:
        self.commands = commands
        self.printed = ""
        self._process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._news = threading.Condition()
        self._has_ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._news:
                    self.printed += line
                    self._news.notify_all()
        with self._news:
            self._has_ended = True
            self._news.notify_all()

    def wait(self) -> int:
        """Wait until it has ended; its exit code."""
        try:
            code = self._process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.commands}\ndoes not end:\n{self.printed}") from None
        self._reader.join(TIMEOUT_S)
        return code

    def expect(self, text: str) -> None:
        """Wait until it has printed this and nothing else."""
        pattern = pattern_of(text)
        with self._news:
            self._news.wait_for(lambda: self._has_ended or pattern.fullmatch(self.printed), TIMEOUT_S)
            assert pattern.fullmatch(self.printed), f"{self.commands}\nshould print\n{text}\nand prints\n{self.printed}"

    def interrupt(self) -> int:
        """Press Ctrl-C; the exit code."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGINT)
        return self.wait()

    def kill(self) -> None:
        """End it, however it stands."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(TIMEOUT_S)
        self._reader.join(TIMEOUT_S)


class Reader:
    """Somebody who follows guides in a folder, with programs on the PATH.

    Args:
        folder: Where the programs are written and run.
        environment: Of all that is run.
        address: Of the market, instead of the one that stands in the guides.
    """

    def __init__(self, folder: Path, environment: dict[str, str], address: str = WRITTEN_ADDRESS) -> None:
        self.folder = folder
        self.environment = environment
        self.address = address
        self.clerk: Callable[[list[str]], None] | None = None
        """Runs the operator's commands in this process, where starting one for each would take too long."""
        self._open: list[Terminal] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for terminal in self._open:
            terminal.kill()

    def follow(self, markdown: str) -> None:
        """Do all that a guide says, and end what was left running."""
        last: Terminal | None = None
        for language, words, text in blocks_of(markdown):
            if language in FILES and words:
                self._write(words, text)
            elif language == "sh" and words == "stays":
                self.leave()
                last = self.run(text, stays=True)
                self._wait_for_provider(text)
            elif language == "sh" and self._is_for_the_clerk(text):
                self._ask_the_clerk(text)
            elif language == "sh" and words in {"", "alone"}:
                if words:
                    self.leave()
                last = self.run(text)
            elif language == "text" and not words:
                assert last is not None, "nothing was run before"
                last.expect(self._here(text))
        self.leave()

    def write(self, markdown: str) -> None:
        """Write the files of a guide, and do nothing more."""
        for language, words, text in blocks_of(markdown):
            if language in FILES and words:
                self._write(words, text)

    def run(self, commands: str, *, stays: bool = False) -> Terminal:
        """Run a block; one that does not stay has to end well."""
        terminal = Terminal(self._here(commands), self.folder, self.environment)
        self._open.append(terminal)
        if not stays:
            code = terminal.wait()
            self._open.remove(terminal)
            assert code == 0, f"{commands}\nends with {code}:\n{terminal.printed}"
            self._correct_addresses()
        return terminal

    def leave(self) -> None:
        """Press Ctrl-C wherever something runs; each has to end well."""
        while self._open:
            terminal = self._open[-1]
            code = terminal.interrupt()
            self._open.remove(terminal)
            assert code == 0, f"{terminal.commands}\nends with {code} after Ctrl-C:\n{terminal.printed}"

    def _is_for_the_clerk(self, commands: str) -> bool:
        return self.clerk is not None and all(OPERATORS.match(line) for line in commands.splitlines())

    def _ask_the_clerk(self, commands: str) -> None:
        assert self.clerk is not None
        with contextlib.chdir(self.folder):
            for line in commands.splitlines():
                self.clerk(shlex.split(line)[1:])

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(self._here(text), "utf-8")

    def _correct_addresses(self) -> None:
        """Commands write the address that a market has unless it is told another one: here it has."""
        for file in self.folder.glob("*.toml"):
            file.write_text(self._here(file.read_text("utf-8")), "utf-8")

    def _here(self, text: str) -> str:
        return text.replace(WRITTEN_ADDRESS, self.address)

    def _wait_for_provider(self, commands: str) -> None:
        """Wait until the market shows somebody with the capabilities of what was started."""
        named = re.findall(r"agrenting provide (\S+)", commands)
        for file in re.findall(r"python (\S+)", commands):
            named += re.findall(r"capability\(\"([a-z0-9_-]+)\"", (self.folder / file).read_text("utf-8"))
        credentials = Credentials.from_file(self.folder / "reader.toml")
        wait_until_online(self.address, credentials.api_key.reveal(), {*named})


def wait_until_online(address: str, api_key: str, capabilities: set[str]) -> None:
    """Wait until some agent that is online has these capabilities.

    Args:
        address: The market's.
        api_key: Of another agent, which sees it.
        capabilities: All of them.
    """
    until = time.monotonic() + TIMEOUT_S
    url = f"{address.replace('http', 'ws', 1)}/socket/websocket?vsn=2.0.0&watch=true"
    with connect(url, additional_headers={"x-api-key": api_key}) as socket:
        socket.send(json.dumps(["1", "1", "agents:discovery", "phx_join", {}]))
        while True:
            _, _, _, event, payload = json.loads(socket.recv(max(0.0, until - time.monotonic())))
            come = {"presence_state": payload, "presence_diff": payload.get("joins", {})}.get(event, {})
            metas = [meta for presence in come.values() for meta in presence["metas"]]
            if any(capabilities <= {*meta["capabilities"]} for meta in metas):
                return
