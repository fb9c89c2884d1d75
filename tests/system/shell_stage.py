"""A market with a shop: somebody who hires from the shell, and a program that is hired out there."""

import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

from agrenting.cli import main
from tests.system.harness import MarketProcess, free_environment

TIMEOUT_S = 60.0
PRICE = 1_500_000
DEPOSIT = 100_000_000

WORK = """
case "$AGRENTING_INPUT" in
    *fail*) head -c 3; echo "the ink is out" >&2; exit 3 ;;
    *tell*) env | grep ^AGRENTING_ | sort ;;
    *count*) wc -c | tr -d ' ' ;;
    *drip*) printf drop; cat >/dev/null; printf ' by drop' ;;
    *stay*) sleep 1000 & echo $! >"$CHILD"; wait ;;
    *) tr a-z A-Z ;;
esac
"""


class Provided:
    """A process of `agrenting provide`, and the events that it tells."""

    def __init__(self, *arguments: str, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agrenting", "provide", "--json", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._told: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.said: list[str] = []
        self._threads = [threading.Thread(target=self._read), threading.Thread(target=self._listen)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._told.put(json.loads(line))
        self._told.put(None)

    def _listen(self) -> None:
        assert self.process.stderr is not None
        self.said += self.process.stderr

    def until(self, event: str, task_id: str | None = None) -> dict[str, Any]:
        """The next event of that name, of that task."""
        while True:
            told = self._told.get(timeout=TIMEOUT_S)
            assert told is not None, "".join(self.said)
            if told["event"] == event and task_id in {None, told.get("task_id")}:
                return told

    def stop(self) -> None:
        """Ask it to stop."""
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> int:
        """Wait for its end; the exit code."""
        try:
            return self.process.wait(TIMEOUT_S)
        finally:
            self.process.kill()
            self.process.wait()
            for thread in self._threads:
                thread.join()
            for stream in (self.process.stdout, self.process.stderr):
                assert stream is not None
                stream.close()


class Shop:
    """A market with Alice's reader, and Bob's tool on sale."""

    def __init__(self, market: MarketProcess, folder: Path) -> None:
        self.market = market
        self.folder = folder
        self.child = folder / "child"
        market.user("alice")
        market.user("bob")
        self.reader = self.agent("alice", "Reader")
        self.tool = self.agent("bob", "Tool", "--global", "--capability", "upper=1.50")
        market.here("deposit", "alice/reader", str(DEPOSIT))

    def agent(self, owner: str, name: str, *options: str) -> Path:
        file = self.folder / f"{name.lower()}.toml"
        where = ("--save", str(file), "--url", self.market.url)
        self.market.here("agent", "create", owner, name, "--description", name, *where, *options)
        return file

    def environment(self, **variables: str) -> dict[str, str]:
        return free_environment(AGRENTING_STATE_DIR=str(self.folder / "state"), CHILD=str(self.child), **variables)

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """`agrenting hire upper` by Alice's reader."""
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "agrenting", "hire", "upper", "--max-price", "2.00", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment(AGRENTING_AGENT=str(self.reader)),
            cwd=self.folder,
        )

    def hire(self, *arguments: str, given: bytes = b"") -> tuple[int, bytes, str]:
        """The same to its end: exit code, standard output and standard error."""
        process = self.start(*arguments)
        out, said = process.communicate(given, TIMEOUT_S)
        return process.returncode, out, said.decode()

    def agrenting(self, *arguments: str, who: Path | None = None) -> tuple[int, str, str]:
        """A command of Alice's, or of somebody else's, in this process: exit code, standard output and standard error.

        Args:
            arguments: Behind `agrenting`.
            who: Whose credentials; None: Alice's.
        """
        whose = {"AGRENTING_AGENT": str(who or self.reader), "AGRENTING_STATE_DIR": str(self.folder / "state")}
        out, said = io.StringIO(), io.StringIO()
        with mock.patch.dict(os.environ, whose), redirect_stdout(out), redirect_stderr(said):
            code = main(arguments)
        return code, out.getvalue(), said.getvalue()

    def ask(self, *arguments: str, who: Path | None = None) -> Any:
        """What such a command answers."""
        code, out, said = self.agrenting(*arguments, "--json", who=who)
        assert code == 0, said
        return json.loads(out)

    def refusal(self, *arguments: str, who: Path | None = None) -> str:
        """Why such a command fails."""
        code, out, said = self.agrenting(*arguments, who=who)
        assert (code, out) == (1, "")
        return said.splitlines()[-1]

    def balance(self) -> dict[str, int]:
        fields: dict[str, int] = self._ask("/api/v1/ledger/balance")
        return fields

    def task(self, task_id: str) -> dict[str, Any]:
        fields: dict[str, Any] = self._ask(f"/api/v1/tasks/{task_id}")
        return fields

    def _ask(self, path: str) -> Any:
        key = self.reader.read_text("utf-8").split('api_key = "')[1].split('"')[0]
        with self.market.rest(key) as rest:
            return rest.get(path).json()["data"]


def write_private(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
    path.chmod(0o600)
