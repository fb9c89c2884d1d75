"""`agrenting top`: the market's numbers, in a terminal and in a pipe, as the roll-ups have them."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agrenting import top
from agrenting.cli import main
from tests.agrenting.api.market import marketplace
from tests.system.harness import ROOT, free_environment

AT = datetime(2030, 1, 31, 12, 0, 5, tzinfo=UTC)
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


def metrics(period: str, **changed: Any) -> dict[str, Any]:
    """The answer of `request_metrics`, as far as it is shown."""
    times = {f"p{part}_execution_time_ms": ms for part, ms in ((50, 820), (95, 61_000), (99, 7_200_000))}
    counts = {"tasks_total": 1_234, "tasks_completed": 90, "tasks_failed": 10, "tasks_cancelled": 2}
    money = {"revenue_gross": 12_345_678_900, "fees": 5_000, "revenue_net": 12_345_673_900, "transfers_in_amount": 0}
    rest = {"negotiations_started": 7, "negotiations_completed": 5, "transfers_in": 3, "messages_in": 21}
    unit = {"period": period, "currency": "USD", "exponent": 6, "success_rate": 0.9}
    return unit | times | counts | money | rest | changed


def snapshot(**changed: Any) -> top.Snapshot:
    """A market, with other numbers in each of its periods."""
    stats = {
        "total_agents": 1_500,
        "online_agents": 9,
        "total_tasks": 1_234,
        "active_tasks": 12,
        "tasks_per_minute": 0.4,
        "volume_24h": 8_500_000,
        "system_load": 0.126,
        "currency": "USD",
        "exponent": 6,
        "at": AT,
    }
    return top.Snapshot(stats, {period: metrics(period, **changed) for period in top.PERIODS})


def test_numbers_have_units_and_their_currency() -> None:
    text = "\n".join(top.lines(snapshot(), width=60, folder="./var"))

    for line in (
        "agrenting top  2030-01-31 12:00:05 UTC  ./var",
        "  agents online    9 of 1,500",
        "  tasks open      12 of 1,234",
        "  tasks a minute         0.40",
        "  volume of 24 h     USD 8.50",
        "  system load            13 %",
        "  tasks opened               1,234      1,234      1,234",
        "  success rate              90.0 %     90.0 %     90.0 %",
        "  time taken, p50           820 ms     820 ms     820 ms",
        "  time taken, p95          1.0 min    1.0 min    1.0 min",
        "  time taken, p99            2.0 h      2.0 h      2.0 h",
        "  revenue, USD           12,345.68  12,345.68  12,345.68",
        "  fees, USD                   0.01       0.01       0.01",
    ):
        assert f"{line}\n" in text


def test_what_there_is_none_of_is_a_dash() -> None:
    texts = top.lines(snapshot(success_rate=None, p50_execution_time_ms=None), width=60, folder="./var")

    assert [text.split()[-3:] for text in texts if "success rate" in text or "p50" in text] == [["–"] * 3] * 2


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (20, ["1 h", "24 h"]),
        (60, ["1 h", "24 h", "all time"]),
        (80, ["1 h", "24 h", "7 d", "30 d", "all time"]),
        (200, ["1 h", "24 h", "7 d", "30 d", "all time"]),
    ],
)
def test_as_many_periods_are_shown_as_fit(width: int, headings: list[str]) -> None:
    texts = top.lines(snapshot(), width=width, folder="./var")

    (over,) = (text for text in texts if text.startswith("Over"))
    assert re.split(r" {2,}", over) == ["Over", *headings]
    assert max(map(len, texts)) <= max(width, 45)


def test_a_long_folder_is_left_out_where_it_does_not_fit() -> None:
    first = top.lines(snapshot(), width=60, folder="/srv/" + "x" * 60)[0]

    assert first == "agrenting top  2030-01-31 12:00:05 UTC"


@pytest.mark.parametrize(
    ("amount", "exponent", "text"),
    [
        (5_000, 6, "0.01"),
        (4_999, 6, "0.00"),
        (-4_999, 6, "0.00"),
        (-5_000, 6, "-0.01"),
        (12, 0, "12"),
        (-1_205, 1, "-120.5"),
    ],
)
def test_money_is_rounded_to_two_decimals_where_it_has_more(amount: int, exponent: int, text: str) -> None:
    stats = top.lines(snapshot(fees=amount, exponent=exponent), width=60, folder="./var")

    (line,) = (line for line in stats if line.startswith("  fees"))
    assert line.split()[-1] == text


async def test_the_numbers_are_those_of_the_roll_ups_whether_or_not_a_server_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with marketplace(tmp_path) as market:
        await market.user("alice")
        assert main(["top", "--once", "--json", "--data-dir", str(tmp_path)]) == 0
        served = json.loads(capsys.readouterr().out)
    assert main(["top", "--json", "--data-dir", str(tmp_path)]) == 0
    stopped = json.loads(capsys.readouterr().out)

    for told in (served, stopped):
        assert told["stats"]["total_tasks"] == told["metrics"]["all"]["tasks_total"] == 0
        assert (told["stats"]["currency"], told["stats"]["exponent"]) == ("USD", 6)
        assert {*told["metrics"]} == {"1h", "24h", "7d", "30d", "all"}
        assert told["stats"]["at"].endswith("Z")


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """The folder of a market that was started once."""
    async with marketplace(tmp_path):
        pass
    return tmp_path


async def test_once_prints_one_snapshot_without_escape_codes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--once", "--data-dir", str(folder)]) == 0

    said = capsys.readouterr().out
    assert said.count("agrenting top") == 1
    assert "\x1b" not in said


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "inf"])
async def test_an_interval_that_is_none_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], interval: str
) -> None:
    assert main(["top", "--interval", interval, "--data-dir", str(folder)]) == 1
    assert capsys.readouterr().err == "agrenting: an interval is 0.1 s at least\n"


def test_a_folder_without_a_market_is_refused_and_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--once", "--data-dir", str(tmp_path / "none")]) == 1
    assert "there is no database" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()

    assert main(["migrate", "--data-dir", str(tmp_path / "fresh")]) == 0
    capsys.readouterr()
    assert main(["top", "--once", "--data-dir", str(tmp_path / "fresh")]) == 1
    assert "no server was ever started" in capsys.readouterr().err


@contextmanager
def in_a_pipe(folder: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """`agrenting top` with its output in a pipe."""
    command = [sys.executable, "-m", "agrenting", "top", "--interval", "0.1", *options, "--data-dir", str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=free_environment()
    ) as running:
        try:
            yield running
        finally:
            running.kill()


async def test_in_a_pipe_one_json_object_follows_the_other_until_ctrl_c(folder: Path) -> None:
    with in_a_pipe(folder, "--json") as running:
        assert running.stdout is not None
        told = [json.loads(running.stdout.readline()) for _ in range(3)]
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0

    times = [one["stats"]["at"] for one in told]
    assert times == sorted(times)
    assert len({*times}) == 3


async def test_in_a_pipe_one_snapshot_follows_the_other_without_escape_codes(folder: Path) -> None:
    with in_a_pipe(folder) as running:
        assert running.stdout is not None
        said = ""
        while said.count("agrenting top") < 2:
            said += running.stdout.readline()
        running.stdout.close()
        assert running.wait(30) == 1

    assert "\x1b" not in said
    assert "\n\nagrenting top" in said


class Terminal:
    """`agrenting top` in a terminal of 60 columns."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._master, slave = pty.openpty()
        self._running = subprocess.Popen(
            [sys.executable, "-m", "agrenting", "top", "--interval", "0.1", "--data-dir", str(folder)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env=free_environment(**{"TERM": "xterm", "COLUMNS": "60", "LINES": "12", **environment}),
            start_new_session=True,
        )
        os.close(slave)
        self.said = ""

    def until(self, text: str, times: int = 1) -> None:
        """Read on until something was said so often."""
        while self.said.count(text) < times:
            self.said += os.read(self._master, 65_536).decode()

    def press(self, key: str) -> None:
        os.write(self._master, key.encode())

    def interrupt(self, number: signal.Signals) -> None:
        self._running.send_signal(number)

    def end(self) -> int:
        """The exit code."""
        try:
            while heard := os.read(self._master, 65_536):
                self.said += heard.decode()
        except OSError:
            pass  # So Linux says that nobody holds the other end any more.
        return self._running.wait(30)

    def close(self) -> None:
        """Leave nothing behind."""
        self._running.kill()
        self._running.wait()
        os.close(self._master)


@contextmanager
def terminal(folder: Path, **environment: str) -> Iterator[Terminal]:
    with closing(Terminal(folder, **environment)) as opened:
        yield opened


@pytest.mark.parametrize("key", ["q", "Q", "\x04"])
async def test_in_a_terminal_snapshots_take_each_others_place_until_q(folder: Path, key: str) -> None:
    with terminal(folder) as opened:
        opened.until("agrenting top", times=3)
        opened.press("x")
        opened.until("agrenting top", times=5)
        opened.press(key)
        assert opened.end() == 0

    assert opened.said.startswith(ENTER)
    assert opened.said.endswith(LEAVE)
    assert opened.said.count("\x1b[H") == opened.said.count("agrenting top")
    first = opened.said.split("\x1b[H")[1]
    assert first.count("\n") == 11, "no more lines than the terminal has"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_terminal_is_given_back_as_it_was_whatever_ends_it(folder: Path, number: signal.Signals) -> None:
    with terminal(folder) as opened:
        opened.until("agrenting top")
        opened.interrupt(number)
        assert opened.end() == 0

    assert opened.said.endswith(LEAVE)


async def test_a_terminal_that_knows_no_codes_gets_none(folder: Path) -> None:
    with terminal(folder, TERM="dumb") as opened:
        opened.until("agrenting top", times=2)
        opened.interrupt(signal.SIGINT)
        assert opened.end() == 0

    assert "\x1b" not in opened.said


async def test_bold_is_left_out_where_colours_are_not_wanted(folder: Path) -> None:
    for no_color, is_bold in (("", True), ("1", False)):
        with terminal(folder, NO_COLOR=no_color) as opened:
            opened.until("agrenting top")
            opened.press("q")
            assert opened.end() == 0

        assert ("\x1b[1m" in opened.said) is is_bold
