"""What the demo is put together from: how it shows money and steps, what it translates, and its child processes."""

import re
import sys
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from agrenting.client import Signer, Topic
from agrenting.demo.agent import Agent, Receipt
from agrenting.demo.children import Child, Line
from agrenting.demo.desk import DemoFailed
from agrenting.demo.payments import FOLLOW_UPS, STREAMED, Payee
from agrenting.demo.proofs import Expected, Proofs
from agrenting.demo.show import Show, major
from agrenting.demo.words import GERMAN, TEXT, count_words, translate
from tests import paying
from tests.channels.payment_stage import Stage
from tests.channels.roles import ALICE, BOB, MARKET, as_told
from tests.crypto import roles
from tests.crypto.bargains import platform_signs
from tests.crypto.hires import TASK_ID, task
from tests.crypto.payments import Story


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


def test_whoever_has_no_colour_is_shown_all_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    Show(verbose=False, environment={}).step("dora/editor", "is online")

    assert "\x1b[0mdora/editor\x1b[0m  is online" in capsys.readouterr().out


def test_a_listing_has_its_texts_one_below_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    Show(verbose=False, environment={}).listing("Log in", [("page", "http://…"), ("operator", "agk_")])

    _, title, page, operator, empty = capsys.readouterr().out.split("\n")[:-1]
    assert (title.strip(), empty) == ("Log in", "")
    assert page.index("http") == operator.index("agk_")


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
    assert len("".join(TEXT)) > 2_000
    assert {word for word in (*FOLLOW_UPS, *STREAMED) if word in GERMAN} == {*FOLLOW_UPS, *STREAMED}
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


def test_a_child_leaves_its_last_words_to_stand_below_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loud, _ = child("raise SystemExit('it is broken')", tmp_path, monkeypatch)
    still, _ = child("pass", tmp_path, monkeypatch)

    assert (loud.testament(), still.testament()) == ("\nit is broken", "")


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


# Proofs, and what is owed.


def proofs_of(receipts: dict[str, bytes], folder: Path) -> tuple[Proofs, list[str]]:
    """Both parties' proofs of the channel, as files with this content, and what is told of them."""
    told: list[str] = []
    proofs = Proofs(told.append)
    proofs.expect(Expected(of="c-1", proves="both receipts", keys={}))
    for name, content in receipts.items():
        proofs.verify()
        (folder / name).write_bytes(content)
        proofs.keep(Receipt(of="c-1", paths=(str(folder / name),)))
    return proofs, told


def files_in(folder: Path) -> list[Path]:
    """All that lies in a folder."""
    return [*folder.iterdir()]


class BobsProgram:
    """What the demo gives an agent, and a topic, with the market's own rules behind them: Alice pays, and closes.

    Args:
        folder: Where files go.
    """

    def __init__(self, folder: Path) -> None:
        self.id = BOB.id
        self.signer = Signer(BOB.secret_key, MARKET.signing_domain)
        self.configuration = SimpleNamespace(look_up_price=10, receipts=str(folder), role="provider")
        self.stage = Stage(counter_deposit=None)
        self.pushed: list[str] = []
        self.socket = self.rest = self
        self.state: dict[str, Any] = {}

    async def join(self, _topic: str, payload: dict[str, Any]) -> "BobsProgram":
        self.state = self.stage.send(BOB, "join", **payload)
        return self

    async def push(self, event: str, payload: dict[str, Any]) -> dict[str, Any]:
        self.pushed.append(event)
        return {} if event == "complete" else self.stage.send(BOB, event, **payload)

    async def next_event(self, _timeout_s: float) -> tuple[str, dict[str, Any]]:
        """What Alice does next, as Bob is told of it."""
        channel = self.stage.snapshot
        if channel["last_nonce"] == 0:
            payload = paying.proposal(channel, ALICE.secret_key, from_agent_id=ALICE.id, amount=10)
            self.stage.send(ALICE, "propose_transfer", **payload)
        else:
            self.stage.send(ALICE, "close", **paying.close(channel, ALICE.secret_key, BOB.secret_key))
        told = self.stage.told[-1]
        return told.event, as_told(told.payload)

    async def leave(self) -> None:
        """Nothing is left behind."""

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self.stage.send(BOB, path.rpartition("/")[2], **body)

    async def get(self, path: str) -> dict[str, Any]:
        return {"path": path}

    async def file(self, path: str, media_type: str) -> bytes:
        return f"{path} {media_type}".encode()

    def path_of(self, of: str, suffix: str) -> Path:
        return Path(self.configuration.receipts) / f"{self.configuration.role}-{of}.{suffix}"

    def money(self, amount: int) -> str:
        return str(amount)


async def test_what_is_paid_for_nothing_is_rejected(tmp_path: Path) -> None:
    bob = BobsProgram(tmp_path)
    payee = Payee(cast("Agent", bob))
    word = {"task_id": "t-1", "client_agent_id": ALICE.id, "input": {"word": "bread"}}
    channel = bob.stage.channel

    await payee.look_up(cast("Topic", bob), word)
    await payee.be_paid({"channel_id": channel.id, "topic": channel.topic, "agent_a_handle": "alice/bot"})

    assert bob.pushed == ["complete", "reject_transfer"]
    assert [step.details["text"] for step in bob.stage.steps if step.nonce] == ["this is not what is owed"]
    history = tmp_path / f"provider-{channel.id}.jsonl"
    assert history.read_text("utf-8") == f"/payment-channels/{channel.id}/history application/jsonl"


def test_what_two_have_kept_is_verified_once_both_have(tmp_path: Path) -> None:
    story = Story().opened().accepted().transfer(roles.ALICE, 5).closed("joint_close")
    receipt = msgspec.json.encode(platform_signs(story.receipt()))

    proofs, told = proofs_of({"a.json": receipt}, tmp_path)
    proofs.verify()
    assert (proofs.are_missing, told) == (True, [])

    proofs, told = proofs_of({"a.json": receipt, "b.json": receipt}, tmp_path)
    proofs.verify()
    assert not proofs.are_missing
    assert told == ["both receipts verify offline, with public keys alone (agrenting verify)"]


@pytest.mark.parametrize(("output", "is_good"), [(b"hallo welt", True), (b"hallo mond", False)])
def test_a_tasks_receipt_is_held_against_the_files_of_who_kept_them(
    tmp_path: Path, output: bytes, *, is_good: bool
) -> None:
    told: list[str] = []
    proofs = Proofs(told.append)
    proofs.expect(Expected(of=TASK_ID, proves="both receipts", keys={}))
    for name, content in (("text.input", b"hello world"), ("text.output", output)):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "task.json").write_bytes(msgspec.json.encode(task()))
    files = {name: str(tmp_path / f"text.{name}") for name in ("input", "output")}
    paths = (str(tmp_path / "task.json"),)
    proofs.keep(Receipt(of=TASK_ID, paths=paths))
    proofs.keep(Receipt(of=TASK_ID, paths=paths, **files))

    if not is_good:
        with pytest.raises(DemoFailed, match=r"both receipts do not verify: .*The output here"):
            proofs.verify()
        return
    proofs.verify()

    (sentence,) = told
    assert sentence.endswith("with public keys alone, against the files of input and output (agrenting verify)")


def test_what_does_not_verify_fails_the_demo(tmp_path: Path) -> None:
    proofs, _ = proofs_of({"a.json": b"{}", "b.json": b"[]"}, tmp_path)

    with pytest.raises(DemoFailed, match=r"both receipts do not verify: .*a\.json: BAD"):
        proofs.verify()
