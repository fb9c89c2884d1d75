"""What the demo is put together from: how it shows money and steps, what it translates, and its child processes."""

import re
import sys
from pathlib import Path
from queue import SimpleQueue

import pytest

from agrenting.demo.children import Child, Line
from agrenting.demo.show import Show, major
from agrenting.demo.words import GERMAN, TEXT, count_words, translate


@pytest.mark.parametrize(
    ("amount", "exponent", "shown"),
    [
        (8_500_000, 6, "USD 8.50"),
        (425_000, 6, "USD 0.425"),
        (1, 6, "USD 0.000001"),
        (0, 6, "USD 0.00"),
        (-30_000_000, 6, "USD -30.00"),
        (-5, 2, "USD -0.05"),
        (15, 1, "USD 1.5"),
        (12, 0, "USD 12"),
        (-12, 0, "USD -12"),
    ],
)
def test_money_is_shown_in_major_units_with_its_currency(amount: int, exponent: int, shown: str) -> None:
    assert major(amount, currency="USD", exponent=exponent) == shown


@pytest.mark.parametrize(
    ("environment", "is_terminal", "is_coloured"),
    [
        ({}, True, True),
        ({"NO_COLOR": ""}, True, True),
        ({"NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
        ({}, False, False),
    ],
)
def test_steps_are_in_colour_only_where_that_is_wanted(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    *,
    is_terminal: bool,
    is_coloured: bool,
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    show = Show(verbose=False, environment=environment)

    show.step("client", "offers")

    assert ("\x1b[" in capsys.readouterr().out) is is_coloured


def test_steps_and_tables_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    show = Show(verbose=False, environment={})

    show.step("market", "opens")
    show.step("provider", "waits")
    show.table("Before", [("alice", "USD 100.00"), ("fees", "USD 0.00")])

    first, second, *_, alice, fees, _ = capsys.readouterr().out.split("\n")[:-1]
    assert first.index("opens") == second.index("waits")
    assert len(alice) == len(fees)


def test_one_empty_line_stands_before_a_title_and_after_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    show = Show(verbose=False, environment={})

    show.step("market", "opens")
    show.table("Before", [("alice", "USD 1.00")])
    show.title("The deal")
    show.step("client", "offers")
    show.title("The end")

    shape = ["" if not line else line.split()[-1] for line in capsys.readouterr().out.splitlines()]
    assert shape == ["opens", "", "Before", "1.00", "", "deal", "offers", "", "end"]


def test_frames_are_shown_on_demand_alone_and_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    for verbose in (False, True):
        Show(verbose=verbose, environment={}).frame("client", ">", "x" * 500)

    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("x…")
    assert len(line) < 200


def test_every_word_of_the_text_is_translated() -> None:
    words = {word.lower() for line in TEXT for word in re.findall(r"[A-Za-z]+", line)}

    assert words == GERMAN.keys()
    assert translate("Good morning!\n") == "Guten Morgen!\n"
    assert translate("an unknown house") == "an unknown Haus"
    assert count_words("Good morning, house!") == 3


def hear_all(inbox: "SimpleQueue[Line | None]") -> list[str]:
    """What a child says, to its end."""
    said: list[str] = []
    while (line := inbox.get(timeout=30)) is not None and line.text is not None:
        said.append(line.text)
    return said


def child(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch, words: str = "") -> tuple[Child, list[str]]:
    """A child that has run some code to its end."""
    (folder / "someone.py").write_text(code, "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    inbox: SimpleQueue[Line | None] = SimpleQueue()
    started = Child("someone", ["someone"], inbox, words)
    return started, hear_all(inbox)


def test_a_child_gets_its_words_and_says_its_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, said = child("print(input() + '…')", tmp_path, monkeypatch, "hello\n")

    assert said == ["hello…"]
    assert started.fate() == ""
    started.stop()


def test_a_child_that_fails_tells_how_and_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, _ = child("raise SystemExit('it is broken')", tmp_path, monkeypatch)

    assert started.fate() == "exit code 1"
    started.kill()
    assert started.obituary() == "The someone's last lines: It has ended: exit code 1.\nit is broken"


def test_a_child_that_has_been_killed_tells_by_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    started, _ = child(code, tmp_path, monkeypatch, "words that nobody reads\n")

    assert started.fate() == "killed by SIGKILL"
    started.kill()


def test_a_child_that_does_not_want_to_stop_is_made_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agrenting.demo.children.STOP_TIMEOUT_S", 0.5)
    (tmp_path / "someone.py").write_text(
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('here', flush=True)\nsignal.pause()",
        "utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    inbox: SimpleQueue[Line | None] = SimpleQueue()
    started = Child("someone", ["someone"], inbox)
    assert inbox.get(timeout=30) == Line(started, "here")

    started.stop()

    assert started.fate() == "killed by SIGKILL"
