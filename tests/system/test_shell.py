"""The shell: a program is hired out with `agrenting provide`, and files are worked on with `agrenting hire`."""

import io
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from agrenting.cli import main
from agrenting.client import shell
from agrenting.client.credentials import Credentials
from agrenting.client.keys import SigningKey
from tests.system.harness import MarketProcess, free_environment

TIMEOUT_S = 30.0
PRICE = 1_500_000
DEPOSIT = 100_000_000

WORK = """
case "$AGRENTING_INPUT" in
    *fail*) head -c 3; echo "the ink is out" >&2; exit 3 ;;
    *tell*) env | grep ^AGRENTING_ | sort ;;
    *count*) wc -c | tr -d ' ' ;;
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


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    market = MarketProcess(folder / "var").start()
    yield Shop(market, folder)
    assert market.stop() == 0


@pytest.fixture(scope="module")
def provided(shop: Shop) -> Iterator[Provided]:
    """Bob's tool, at work."""
    process = Provided(
        "upper", "--price", "1.50", "--concurrency", "4", "--as", str(shop.tool), "--accept-contacts",
        "--", "sh", "-c", WORK, environment=shop.environment(),
    )  # fmt: skip
    assert process.until("serving")["price"] == PRICE
    yield process
    process.stop()
    assert process.end() == 0, process.said


def test_bytes_go_through_a_program_and_are_paid_once_they_are_verified(shop: Shop, provided: Provided) -> None:
    given = bytes(range(256)) * 1_000 + b"the end"
    before = shop.balance()

    code, out, said = shop.hire("-", "--ask", "Hello, Bob", "--receipt", "receipt.json", given=given)

    assert code == 0, said
    assert out == given.upper()
    assert "bob/tool is hired for USD 1.50: task " in said
    assert f"USD 1.50 released; {len(given)} bytes sent, {len(given)} bytes received" in said
    assert shop.balance()["available"] == before["available"] - PRICE
    report = shop.market.cli("verify", str(shop.folder / "receipt.json"))
    assert report["ok"] is True


def test_one_bargains_writes_files_and_reads_a_summary(shop: Shop, provided: Provided) -> None:
    (shop.folder / "in.txt").write_bytes(b"Good morning!\n")
    (shop.folder / "out.txt").write_bytes(b"of yesterday")

    code, out, said = shop.hire(
        "in.txt", "--output", "out.txt", "--strategy", "conceder", "--first", "1.00", "--provider", "bob/tool",
        "--input", '{"of":"files"}', "--ask", "Hello", "--json",
    )  # fmt: skip

    assert code == 0, said
    summary = json.loads(out)
    assert (summary["bytes_sent"], summary["bytes_received"], summary["escrow_status"]) == (14, 14, "released")
    assert PRICE <= summary["price"] <= 2_000_000
    assert summary["provider"] == "bob/tool"
    assert shop.task(summary["task_id"])["negotiation_session_id"] is not None
    assert (shop.folder / "out.txt").read_bytes() == b"GOOD MORNING!\n"


def test_the_program_is_told_its_task_and_none_of_the_agents_secrets(shop: Shop, provided: Provided) -> None:
    code, out, said = shop.hire("--input", '{"tell": "ÄÖ\\n"}', "--ask", "Hello")

    assert code == 0, said
    told = dict(line.split("=", 1) for line in out.decode().splitlines())
    assert told.keys() == {"AGRENTING_CAPABILITY", "AGRENTING_INPUT", "AGRENTING_TASK_ID"}
    assert told["AGRENTING_CAPABILITY"] == "upper"
    assert json.loads(told["AGRENTING_INPUT"]) == {"tell": "ÄÖ\n"}


def test_money_can_stay_held(shop: Shop, provided: Provided) -> None:
    before = shop.balance()

    code, out, said = shop.hire("-", "--input", '"count"', "--ask", "Hello", "--keep-held", "--json", given=b"12345")

    summary = json.loads(said.splitlines()[-1])
    assert (code, out) == (0, b"5\n")
    assert (summary["escrow_status"], shop.balance()["escrow"]) == ("held", before["escrow"] + PRICE)


def test_a_program_that_fails_costs_nothing_and_leaves_no_file(shop: Shop, provided: Provided) -> None:
    before = shop.balance()
    names = {*shop.folder.iterdir()}

    code, _, said = shop.hire(
        "-", "--input", '"fail"', "--output", "broken.txt", "--ask", "Hello", given=b"x" * 300_000
    )

    assert code == 1
    assert said.splitlines()[-1] == 'agrenting: the task has failed: command_failed {"details":{"exit_code":3}}', said
    assert "Traceback" not in said
    assert shop.balance() == before
    assert {*shop.folder.iterdir()} == names


def test_ctrl_c_takes_the_task_back_and_nothing_of_the_program_is_left(shop: Shop, provided: Provided) -> None:
    before = shop.balance()
    os.mkfifo(shop.child)
    process = shop.start("-", "--input", '"stay"', "--ask", "Hello")
    child = int(shop.child.read_text("utf-8"))
    assert is_running(child)
    assert process.stderr is not None
    task_id = re.findall(r"is hired .* task (\S+)", process.stderr.readline().decode())[0]

    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=TIMEOUT_S)

    assert (process.returncode, out) == (130, b"")
    assert said.decode().splitlines()[-1] == "interrupted"
    assert f"task {task_id} is cancelled, and costs nothing" in said.decode()
    assert shop.balance() == before
    assert provided.until("exited", task_id)["exit_code"] == -signal.SIGTERM
    assert not is_running(child)


def test_a_provider_that_is_asked_to_stop_finishes_what_it_has_begun(shop: Shop, provided: Provided) -> None:
    late = shop.agent("bob", "Late", "--global", "--capability", "upper=1.50")
    provider = Provided(
        "upper", "--price", "1.50", "--as", str(late), "--accept-contacts", "5.00", "--", "tr", "a-z", "A-Z",
        environment=shop.environment(),
    )  # fmt: skip
    try:
        provider.until("serving")
        process = shop.start("-", "--provider", "bob/late", "--ask", "Hello")
        provider.until("started")
        provider.stop()
        out, said = process.communicate(b"at last", TIMEOUT_S)
        provider.until("stopped")
    finally:
        code = provider.end()

    assert (process.returncode, out) == (0, b"AT LAST"), said
    assert code == 0


def is_running(pid: int) -> bool:
    """Whether a process is there, and more than an entry that nobody has asked for."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def reader(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is Alice's shell."""
    monkeypatch.setenv("AGRENTING_AGENT", str(shop.reader))
    monkeypatch.setenv("AGRENTING_STATE_DIR", str(shop.folder / "state"))
    monkeypatch.chdir(shop.folder)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("hire", "upper", "--max-price", "2.00", "--provider", "bob/nobody"), "(not_found)"),
        (("hire", "paint", "--max-price", "2.00"), "paint"),
        (("hire", "upper", "--max-price", "2.00", "in-no-folder.txt"), "in-no-folder.txt: No such file"),
        (("hire", "upper", "--max-price", "2.00", "."), ". is a folder: name a file, or - for standard input"),
        (("hire", "upper", "--max-price", "2.00", "--output", "no/where"), "No such file"),
        (("hire", "upper", "--max-price", "2.00", "--as", "nowhere.toml"), "there is no file nowhere.toml"),
        (("hire", "upper", "--max-price", "2.00", "--as", "unreachable.toml"), "Is the market running"),
        (("hire", "upper", "--max-price", "2.00", "--as", "mallory.toml"), "rotate the key"),
        (("provide", "upper", "--price", "1", "--", "no-such-program"), "there is no program no-such-program"),
        (("provide", "Upper", "--price", "1", "--", "cat"), "a capability's name has"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
@pytest.mark.usefixtures("reader")
def test_what_fails_says_so_in_one_line(
    shop: Shop, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    text = shop.reader.read_text("utf-8")
    write_private(shop.folder / "unreachable.toml", text.replace(shop.market.url, "http://127.0.0.1:1"))
    write_private(shop.folder / "mallory.toml", text.replace("agk_", "agk_x"))

    code = main(arguments)

    said = capsys.readouterr()
    assert (code, said.out) == (1, "")
    assert sentence in said.err.splitlines()[-1]
    assert said.err.splitlines()[-1].startswith("agrenting: ")
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("hire", "upper"), "--max-price"),
        (("hire", "upper", "--max-price", "2", "--first", "1.00"), "--first takes a --strategy"),
        (("hire", "upper", "--max-price", "2", "--input", "{"), "no JSON"),
        (("hire", "upper", "--max-price", "8,50"), "'8,50' is no amount"),
        (("hire", "upper", "--max-price", "2", "--hold", "-1"), "--hold"),
        (("hire", "upper", "--max-price", "2", "--keep-held", "--receipt", "r"), "--receipt is written once"),
        (("hire", "upper", "one.txt", "two.txt", "--max-price", "2"), "unrecognized arguments: two.txt"),
        (("provide", "upper", "--price", "2"), "command"),
        (("provide", "upper", "--price", "2", "--concurrency", "0", "--", "cat"), "at least 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
@pytest.mark.usefixtures("reader")
def test_a_wrong_call_is_told_from_a_failure(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)

    assert end.value.code == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]


def write_private(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
    path.chmod(0o600)


# The client's own command line.


def test_an_owner_registers_an_agent_that_signs_and_the_agent_knows_who_it_is(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    owner = shop.market.user("carol")["api_key"]
    monkeypatch.setenv("AGRENTING_OWNER_KEY", owner)
    file = tmp_path / "scout.toml"
    arguments = (
        "register", "--url", shop.market.url, "--name", "Scout", "--description", "It looks around.",
        "--capability", "look=0.25", "--capability", "listen", "--tag", "eyes",
        "--save", str(file), "--json",
    )  # fmt: skip

    code = shell.main(arguments)
    made = json.loads(capsys.readouterr().out)
    assert code == 0, made
    again, told_again = shell.main(arguments), capsys.readouterr()
    known, told = shell.main(["whoami", "--as", str(file), "--json"]), json.loads(capsys.readouterr().out)

    credentials = Credentials.from_file(file)
    assert (again, known) == (1, 0)
    assert "exists already" in told_again.err
    assert credentials.signing_key is not None
    assert made["public_key"] == told["public_key"] == credentials.signing_key.public_key
    assert (made["handle"], made["file"]) == (told["handle"], str(file)) == ("carol/scout", str(file))
    assert owner not in file.read_text("utf-8")
    with shop.market.rest(owner) as rest:
        agents = rest.get("/api/v1/agents").json()["data"]
    assert [(agent["handle"], agent["tags"]) for agent in agents] == [("carol/scout", ["eyes"])]
    assert {one["name"]: one["price"] for one in agents[0]["capabilities"]} == {"look": 250_000, "listen": None}


def test_without_a_file_the_credentials_are_shown_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("AGRENTING_OWNER_KEY", shop.market.user("dave")["api_key"])

    code = shell.main(["register", "--url", f"{shop.market.url}/", "--name", "Scout", "--description", "x"])
    shown = capsys.readouterr().out
    write_private(tmp_path / "scout.toml", shown.split("\n\n", 1)[1])

    assert code == 0
    assert shell.main(["whoami", "--as", str(tmp_path / "scout.toml")]) == 0
    assert "dave/scout" in capsys.readouterr().out


def test_an_owner_without_a_key_is_told_where_it_is_looked_for(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("AGRENTING_OWNER_KEY", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    file = tmp_path / "scout.toml"

    code = shell.main(
        ["register", "--url", shop.market.url, "--name", "S", "--description", "x", "--save", str(file), "--json"]
    )

    said = capsys.readouterr()
    assert code == 1
    assert "set AGRENTING_OWNER_KEY" in json.loads(said.out)["error"]["message"]
    assert said.err.startswith("agrenting-client: ")
    assert not file.exists()


def test_the_wrong_signing_key_is_noticed(shop: Shop, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    right = Credentials.from_file(shop.reader)
    wrong = Credentials(right.url, right.api_key, SigningKey.generate())
    wrong.save(tmp_path / "wrong.toml")

    code = shell.main(["whoami", "--as", str(tmp_path / "wrong.toml")])

    said = capsys.readouterr()
    assert (code, said.out) == (1, "")
    assert right.signing_key is not None
    assert right.signing_key.public_key in said.err


def test_a_new_signing_key_is_shown_or_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "key"

    assert shell.main(["keygen", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shell.main(["keygen", "--save", str(file), "--json"]) == 0
    kept = json.loads(capsys.readouterr().out)

    assert SigningKey.from_text(shown["secret_key"]).did == shown["did"]
    assert kept == {
        "public_key": SigningKey.from_file(file).public_key,
        "did": SigningKey.from_file(file).did,
        "file": str(file),
    }
