"""`agrenting demo`, as somebody runs it who has just cloned the repository."""

import contextlib
import io
import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import httpx
import msgspec
import psutil
import pytest

from agrenting.cli import main
from agrenting.config import load_settings
from agrenting.demo.agent import Configuration
from agrenting.demo.children import STOP_TIMEOUT_S, Child, Inbox
from agrenting.demo.running import run as run_demo
from agrenting.demo.words import TEXT, translate
from crypto import NO_CHUNKS, next_digest
from tests.system.harness import ROOT, free_environment

LINE_TIMEOUT_S = 60.0
STEPS = (
    "market    is open at http://127.0.0.1:",
    "market    has four agents of four owners: alice/reader, bob/translator, carol/linguist, mallory/stranger",
    "market    the operator deposits USD 30.00 for alice/reader",
    "market    the operator deposits USD 1.00 for mallory/stranger",
    "The ledger before",
    "sum over all accounts    USD 0.00",
    "Consent: they are strangers, and ask first",
    "stranger  mallory/stranger would hire bob/translator, and is refused: contact_required",
    'stranger  asks bob/translator for contact: "Just trust me."',
    "owner     bob rejects mallory/stranger by REST",
    "stranger  mallory/stranger tries again to hire bob/translator, and is refused: contact_required",
    "client    joins the market and sees who of its contacts is there: nobody",
    "client    discovers carol/linguist, which translates for USD 9.00, reputation 3.50, contact_required: true",
    "client    discovers bob/translator, which translates for USD 10.00, reputation 3.50, contact_required: true",
    "client    would open a negotiation with carol/linguist, and is refused: contact_required",
    'client    asks carol/linguist for contact: "May I send you short texts?"',
    "client    hears contact_request_updated and contact_added, and sees carol/linguist in the market from now on",
    "client    would hire carol/linguist for USD 9.00, and is refused: contact_scope_exceeded, above USD 5.00",
    'client    asks bob/translator for contact: "May I send you short texts?"',
    "owner     bob approves alice/reader by REST: negotiation, task, payment_channel, up to USD 15.00",
    "client    hears contact_request_updated and contact_added, and sees bob/translator in the market from now on",
    "The deal",
    "client    opens a negotiation with bob/translator, whose digest is ",
    "client    offers USD 5.00 (round 1, signed)",
    "client    accepts the midpoint: USD 8.00",
    "client    creates the task: USD 8.00 are held, of which USD 0.40 will be the platform's fee",
    "client    streams 2536 bytes of text, 53 lines, 6 ahead of what returns",
    "client    is cut off without goodbye: 22 lines are sent, 17 have come back",
    "client    is back, and joins with output_from 17: lines 17 to 21 are replayed, then it goes on live",
    "client    has the whole translation, 2907 bytes: its checksum and digest ",
    "client    finds all 428 words as computed by itself; USD 8.00 are held for up to 3600 s",
    "client    releases USD 8.00 at once: escrow released",
    "client    keeps its receipt of the task, signed by the platform, and the files of input and output",
    "client    opens a payment channel with bob/translator and locks USD 1.00 in it",
    "client    asks bob/translator for 5 words, to be paid as they stream: USD 0.05 a word, 1 on credit, nothing held",
    (
        "client    has Äpfel, Honig, Kerzen, Sterne, Freunde, each paid once it was here: "
        "units 5, paid_up_to 5, USD 0.25, nonces 1 to 5"
    ),
    "client    has asked bob/translator for water, hears Wasser, and owes USD 0.25",
    "client    has asked bob/translator for bread, hears Brot, and owes USD 0.25",
    "client    has paid USD 0.25 (nonce 6, signed by both), and has USD 0.50 left there",
    "client    has paid USD 0.25 (nonce 7, signed by both), and has USD 0.25 left there",
    "client    closes it with both signatures: USD 0.25 come back, bob/translator has USD 0.75",
    "market    both receipts of the agreement verify offline, with public keys alone",
    "market    both receipts of the task verify offline, with public keys alone, against the files of input and output",
    "market    both receipts and histories of the channel verify offline, with public keys alone",
    "Mallory tries to cheat",
    'stranger  asks carol/linguist for contact: "May I send you short texts?"',
    "stranger  opens a payment channel with carol/linguist and locks USD 1.00 in it",
    "stranger  has paid USD 0.25 (nonce 2, signed by both), and has USD 0.50 left there",
    "stranger  tries to close with what both signed at nonce 1, to have USD 0.75 back, and is refused: stale_state",
    "stranger  tries to put a smaller payment at nonce 1, and is refused: nonce_replayed, 3 is next",
    "stranger  closes it with both signatures: USD 0.50 come back, carol/linguist has USD 0.50",
    "market    both receipts and histories of the cheat's channel verify offline, with public keys alone",
    "The ledger after",
    "alice/reader            USD 21.25",
    "bob/translator           USD 8.35",
    "carol/linguist           USD 0.50",
    "mallory/stranger         USD 0.50",
    "held in tasks            USD 0.00",
    "locked in channels       USD 0.00",
    "fees                     USD 0.40",
    "outside                USD -31.00",
    "sum over all accounts    USD 0.00",
    "market    agrenting doctor has recomputed the books: no difference",
    "Done: 1 deal, and everything balanced.",
)
"""What stands in the output, in this order."""

PROVIDERS_STEPS = (
    "provider  is online and announces translate and look_up; bob, its owner, decides who may hire it",
    "provider  hears contact_request_received from mallory/stranger, and leaves that to bob",
    "provider  hears contact_request_received from alice/reader, and leaves that to bob",
    "provider  hears contact_request_updated and contact_added, and sees alice/reader in the market from now on",
    "provider  asks USD 12.00 (round 2, signed)",
    "provider  asks USD 9.00 (round 4, signed)",
    "provider  starts the task: USD 8.00 are held for it",
    "provider  translates line 0: Guten Morgen! Mein Agent ist neu hier, und dein Agent spricht Deutsch.",
    "provider  is cut off without goodbye after 35 lines, and forgets everything",
    "provider  is back, and joins with input_from 32: its checkpoint knows 256 words, and 35 of its lines are stored",
    "provider  delivers 2907 bytes, SHA-256 ",
    "provider  has completed the task and is paid USD 7.60",
    "provider  keeps its receipt of the task, signed by the platform",
    "provider  accepts the payment channel of alice/reader, with USD 1.00 in it",
    "provider  has looked up 5 words, at most 1 ahead of its payment: units 5, paid_up_to 5",
    "provider  acknowledges USD 0.25 for look_up: water (nonce 6, signed by both), and has USD 0.50 there",
    "provider  acknowledges USD 0.25 for look_up: bread (nonce 7, signed by both), and has USD 0.75 there",
    "provider  is owed nothing more, and offers to close (nonce 7, signed)",
    "provider  sees the payment channel closed, and is paid USD 0.75",
    "provider  keeps its receipt of the payment channel, and its history",
)
"""The same of the provider, whose lines come between the others whenever it has done something."""

RIVALS_STEPS = (
    "rival     is online and announces translate and look_up; its policy: whoever asks may do business, up to USD 5.00",
    "rival     hears contact_request_received from alice/reader, and approves by its policy, up to USD 5.00",
    "rival     hears contact_request_updated and contact_added, and sees alice/reader in the market from now on",
    "rival     hears contact_request_received from mallory/stranger, and approves by its policy, up to USD 5.00",
    "rival     accepts the payment channel of mallory/stranger, with USD 1.00 in it",
    "rival     is owed nothing more, and offers to close (nonce 1, signed)",
    "rival     is owed nothing more, and offers to close (nonce 2, signed)",
    "rival     sees the payment channel closed, and is paid USD 0.50",
)
"""The same of its rival."""

CREDENTIAL = re.compile(r"ag[ks]_[\w-]")


class Demo:
    """`agrenting demo` in a process of its own."""

    def __init__(self, *options: str, **environment: str) -> None:
        self.output = ""
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "agrenting", "demo", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env=free_environment(**environment),
        )
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def until(self, text: str) -> None:
        """Read on until a line holds this text."""
        while (line := self._next()) is not None:
            if text in line:
                return
        raise AssertionError(f"{text!r} never came:\n{self.output}")

    def end(self) -> int:
        """Read on to the end; the exit code."""
        while self._next() is not None:
            pass
        return self._process.wait(LINE_TIMEOUT_S)

    def _next(self) -> str | None:
        try:
            line = self._lines.get(timeout=LINE_TIMEOUT_S)
        except Empty:
            raise AssertionError(f"nothing came any more:\n{self.output}") from None
        self.output += line or ""
        return line

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def children(self) -> dict[str, psutil.Process]:
        """Its processes at the moment, by what they are: the server, and the agents by their role."""
        found = psutil.Process(self._process.pid).children(recursive=True)
        return {process.cmdline()[3]: process for process in found}

    def close(self) -> None:
        """Leave nothing behind, whatever the test came to."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(LINE_TIMEOUT_S)
        self._thread.join(LINE_TIMEOUT_S)


@contextlib.contextmanager
def demo(*options: str, **environment: str) -> Iterator[Demo]:
    running = Demo(*options, **environment)
    try:
        yield running
    finally:
        running.close()


def assert_in_order(output: str, steps: tuple[str, ...]) -> None:
    place = 0
    for step in steps:
        found = output.find(step, place)
        assert found >= 0, f"{step!r} is missing, or not in its place:\n{output}"
        place = found + len(step)


def assert_gone(children: dict[str, psutil.Process]) -> None:
    _, alive = psutil.wait_procs(children.values(), timeout=LINE_TIMEOUT_S)
    assert alive == []


def test_one_deal_is_shown_step_by_step_and_leaves_nothing_behind() -> None:
    with demo("--once") as running:
        running.until("client    joins the market")
        children = running.children()
        assert running.end() == 0, running.output

    assert_in_order(running.output, STEPS)
    assert_in_order(running.output, PROVIDERS_STEPS)
    assert_in_order(running.output, RIVALS_STEPS)
    assert "\x1b[" not in running.output
    assert not CREDENTIAL.search(running.output)
    folder = re.search(r"with its data in (\S+)", running.output)
    assert folder is not None
    assert not Path(folder[1]).exists()
    assert {*children} == {"serve", "provider", "rival", "client"}
    assert_gone(children)


def test_ctrl_c_in_the_story_ends_it_after_the_deal_at_hand_and_leaves_no_process() -> None:
    with demo() as running:
        running.until("client    opens a negotiation")
        children = running.children()
        running.interrupt()
        assert running.end() == 0, running.output

    assert {*children} == {"serve", "provider", "rival", "client"}
    assert_gone(children)
    assert "closes once the deal at hand is done" in running.output
    assert "The market lives on" not in running.output
    assert running.output.endswith("no difference\nDone: 1 deal, and everything balanced.\n")


CREW = {
    *("dora/interpreter", "emil/wordsmith", "fay/polyglot", "gina/scribe", "hugo/lexicon"),
    *("dora/editor", "fay/reader", "iris/publisher", "jan/collector"),
}
"""Who trades once the story is told."""

KINDS = {"bargained", "listed", "failed", "cancelled", "rejected", "paid_in_channels", "messages"}
"""What happens in a market that lives."""


class Watching:
    """Somebody at the page of a living market: an owner and the operator, by REST with the keys that it shows."""

    def __init__(self, output: str) -> None:
        page = re.search(r"^ +page +(http://127\.0\.0\.1:\d+)/$", output, re.MULTILINE)
        keys = {name: re.search(rf"^ +{name} +(agk_\S+)  \(", output, re.MULTILINE) for name in ("dora", "operator")}
        assert page is not None
        self._url = page[1]
        self._keys = {name: found[1] for name, found in keys.items() if found is not None}

    def ask(self, who: str, path: str, **body: Any) -> Any:
        """The answer's data."""
        method = "POST" if body else "GET"
        answer = self._answer(who, method, path, body)
        assert answer.is_success, answer.text
        return answer.json()["data"]

    def approves(self, who: str, request: dict[str, Any]) -> bool:
        """Approve a request for contact; False: the market, whose owner answers one itself, was quicker."""
        answer = self._answer(
            who, "POST", f"/me/contacts/requests/{request['id']}/approve", {"scope": {"kinds": ["task"]}}
        )
        assert answer.is_success or answer.json()["error"]["code"] == "request_resolved", answer.text
        return answer.is_success

    def _answer(self, who: str, method: str, path: str, body: dict[str, Any]) -> httpx.Response:
        return httpx.request(
            method,
            f"{self._url}/api/v1{path}",
            headers={"x-api-key": self._keys[who]},
            json=body or None,
            trust_env=False,
            timeout=LINE_TIMEOUT_S,
        )


def what_happened(folder: Path) -> set[str]:
    """Which kinds of things have happened in the market so far, as its database says."""
    tasks = "SELECT count(*) FROM tasks WHERE status = "
    questions = {
        "bargained": f"{tasks} 'completed' AND state ->> '$.negotiation_session_id' IS NOT NULL",
        "listed": f"{tasks} 'completed' AND state ->> '$.hold_seconds' = 0",
        "failed": f"{tasks} 'failed'",
        "cancelled": f"{tasks} 'cancelled'",
        "rejected": "SELECT count(*) FROM negotiations WHERE status = 'rejected'",
        "paid_in_channels": "SELECT max(0, count(*) - 9) FROM channel_steps WHERE nonce > 0",
        "messages": "SELECT count(*) FROM messages WHERE state ->> '$.type' = 'status_update'",
    }
    with contextlib.closing(sqlite3.connect(f"file:{folder}/agrenting.sqlite3?mode=ro", uri=True)) as database:
        return {kind for kind, question in questions.items() if database.execute(question).fetchone()[0]}


@pytest.mark.timeout(300)  # Some of it happens now and then, by chance.
def test_the_market_lives_on_after_the_story_until_ctrl_c(tmp_path: Path) -> None:
    with demo("--verbose", "--data-dir", str(tmp_path)) as running:
        running.until("The market is alive until Ctrl-C")
        running.until("operator  agk_")
        children, watching = running.children(), Watching(running.output)
        pending: list[dict[str, Any]] = []
        while not any(watching.approves("dora", request) for request in pending):
            running.until("")  # Any line: something has happened.
            pending = watching.ask("dora", "/me/contacts/requests?whose=agents")
        assert watching.ask("operator", "/admin/ledger")["sum"] == 0
        while what_happened(tmp_path) != KINDS:
            running.until("has had a task of")
        asked_at = time.monotonic()
        running.interrupt()
        assert running.end() == 0, running.output

    assert {*children} == {"serve", *CREW}
    assert_gone(children)
    assert time.monotonic() - asked_at < STOP_TIMEOUT_S, "somebody had to be killed"
    assert {request["recipient"]["handle"] for request in pending} == {"dora/interpreter"}
    assert_in_order(running.output, (*STEPS[:-2], "The market lives on", "has 9 more agents of 7 owners"))
    assert_in_order(running.output, ("The ledger at the end", "held in tasks", "locked in channels", "no difference"))
    assert re.search(r"^Done: \d+ deals, and everything balanced\.$", running.output, re.MULTILINE)
    assert len(CREDENTIAL.findall(running.output)) == 2
    assert {path.name.partition("-")[0] for path in tmp_path.glob("receipts/*")} == {
        *("client", "provider", "rival", "stranger")
    }


def test_ctrl_c_before_the_only_deal_is_done_is_no_success() -> None:
    with demo("--once") as running:
        running.until("is open at")
        children = running.children()
        running.interrupt()
        assert running.end() == 130, running.output

    assert "Stopped before the first deal was done." in running.output
    assert_gone(children)


def test_a_provider_that_dies_fails_the_demo_with_a_clear_sentence() -> None:
    with demo("--once") as running:
        running.until("client    opens a negotiation")
        children = running.children()
        children["provider"].kill()
        assert running.end() == 1, running.output

    assert "agrenting demo: the provider ended early, killed by SIGKILL\nThe server's last lines:" in running.output
    assert_gone(children)


def test_a_server_that_dies_fails_the_demo_with_a_clear_sentence() -> None:
    with demo() as running:
        running.until("client    opens a negotiation")
        children = running.children()
        children["serve"].kill()
        assert running.end() == 1, running.output

    assert re.search(
        r"^agrenting demo: the (server ended early|client gave up|provider gave up|rival gave up)",
        running.output,
        re.MULTILINE,
    )
    assert "The server's last lines: It has ended: killed by SIGKILL." in running.output
    assert_gone(children)


def test_a_deal_is_done_in_other_money_behind_a_proxy_and_on_a_terminal_that_knows_ascii_alone() -> None:
    environment = {"AGRENTING_EXPONENT": "2", "AGRENTING_CURRENCY": "EUR", "AGRENTING_HOST": "0.0.0.0"}  # noqa: S104 - the demo does not obey
    elsewhere = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "PYTHONIOENCODING": "ascii"}

    with demo("--once", **environment, **elsewhere) as running:
        assert running.end() == 0, running.output

    assert "is open at http://127.0.0.1:" in running.output
    assert "client    accepts the midpoint: EUR 8.00" in running.output
    assert "client    has ?pfel, Honig" in running.output


def test_a_server_that_cannot_start_fails_the_demo_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "agrenting.sqlite3").write_text("this is no database", "utf-8")

    with demo("--once", "--data-dir", str(tmp_path)) as running:
        assert running.end() == 1

    assert "agrenting demo: the server ended early, exit code 1\nThe server's last lines:" in running.output
    assert "file is not a database" in running.output


class Kept:
    """A verbose demo that ran inside this process, with all that it handed to its children."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arguments: list[str] = []
        self.agents: list[Configuration] = []
        output = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
            patch.setattr("agrenting.demo.story.Child", self._child)
            patch.setattr("agrenting.demo.ensemble.Child", self._child)
            patch.chdir(ROOT)
            self.code = run_demo(
                data_dir=folder, once=True, verbose=True, settings=load_settings({"data_dir": str(folder)}, {})
            )
        self.output = output.getvalue()

    def _child(self, name: str, arguments: list[str], inbox: Inbox, first_words: str = "") -> Child:
        self.arguments += arguments
        if first_words:
            self.agents.append(msgspec.json.decode(first_words, type=Configuration))
        return Child(name, arguments, inbox, first_words)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept(tmp_path_factory.mktemp("demo") / "var")


def test_verbose_shows_the_frames_of_all_agents(kept: Kept) -> None:
    assert kept.code == 0, kept.output
    frames = [
        line
        for line in kept.output.splitlines()
        if re.search(r"^ {10}(client  |provider|rival   |stranger)  [<>] \[", line)
    ]
    deal = ("phx_join", "phx_reply", "discover", "offer", "accept", "input_stream", "output_stream")
    payment = ("propose_transfer", "acknowledge_transfer", "transfer_complete", "close_request", "channel_closed")
    for event in (
        "contact_request_received",
        "contact_request_updated",
        "contact_added",
        "presence_diff",
        *deal,
        *payment,
    ):
        assert [line for line in frames if f'"{event}"' in line], event


def frames_of(kept: Kept, name: str) -> list[str]:
    """The frames of one agent, in order; long ones are cut off."""
    start = f"          {name.ljust(8)}  "
    return [line.removeprefix(start) for line in kept.output.splitlines() if re.match(rf"{start}[<>] \[", line)]


def seqs(frames: list[str], event: str) -> list[int]:
    """The seqs of chunks that were heard, in order."""
    found = (re.search(rf'^< .*"{event}",{{"task_id":"[^"]+","seq":(\d+)', frame) for frame in frames)
    return [int(one[1]) for one in found if one is not None]


def joins(frames: list[str], topic: str) -> list[int]:
    """Where a topic was joined."""
    return [place for place, frame in enumerate(frames) if f'"{topic}","phx_join"' in frame]


def test_both_sides_are_really_cut_off_and_take_up_the_streams_where_they_were(kept: Kept) -> None:
    (path,) = kept.folder.glob("receipts/client-*.output")
    topic = f"task:{path.stem.removeprefix('client-')}"
    client, provider = (
        [frame for frame in frames_of(kept, name) if f'"{topic}"' in frame] for name in ("client", "provider")
    )

    first, again = joins(client, topic)
    assert '{"output_from":0,"input_from":0,' in client[first]
    assert '{"output_from":17,"input_from":22,' in client[again]
    assert seqs(client[:again], "output_stream")[:17] == [*range(17)]
    assert seqs(client[again:], "output_stream") == [*range(17, len(TEXT))]

    first, looking, again = joins(provider, topic)
    assert '{"input_from":0,"output_from":0,' in provider[first]
    assert '"phx_join",{}' in provider[looking]
    assert '{"input_from":32,"output_from":0,' in provider[again]
    assert seqs(provider[again:], "input_stream") == [*range(32, len(TEXT))]
    replayed = seqs(provider[again:], "output_stream")
    assert replayed == [*range(max(35, len(replayed)))]  # What it sends before the replay is over comes with it.
    assert not [frame for frame in (*client, *provider) if '"phx_leave"' in frame]


def test_the_digests_of_what_was_delivered_are_those_of_an_uncut_run(kept: Kept) -> None:
    (client,) = kept.folder.glob("receipts/client-*.output")
    task_id = client.stem.removeprefix("client-")
    receipts = [
        json.loads((kept.folder / "receipts" / f"{name}-{task_id}.json").read_text("utf-8"))
        for name in ("client", "provider")
    ]

    for direction, lines in (("input", TEXT), ("output", [translate(line) for line in TEXT])):
        digest = NO_CHUNKS
        for seq, line in enumerate(lines):
            digest = next_digest(digest, seq=seq, chunk=line.encode())
        for receipt in receipts:
            stream = receipt["document"]["streams"][direction]
            assert (stream["chunks"], stream["digest"], stream["complete"]) == (len(TEXT), digest, True)
        assert client.with_suffix(f".{direction}").read_text("utf-8") == "".join(lines)


def test_the_kept_receipt_verifies_against_the_kept_files_and_against_no_others(kept: Kept, tmp_path: Path) -> None:
    (output,) = kept.folder.glob("receipts/client-*.output")
    receipt, spoilt = str(output.with_suffix(".json")), tmp_path / "spoilt"
    spoilt.write_text(output.read_text("utf-8").replace("Jedes", "Keines", 1), "utf-8")

    good = main(["verify", receipt, "--input", str(output.with_suffix(".input")), "--output", str(output)])
    bad = main(["verify", receipt, "--output", str(spoilt)])

    assert (good, bad) == (0, 1)


def test_no_secret_is_shown_nor_handed_over_in_arguments(kept: Kept) -> None:
    secrets = [agent.api_key for agent in kept.agents] + [agent.secret_key for agent in kept.agents]
    secrets.append((kept.folder / "server.key").read_text("utf-8").strip())

    assert len(set(secrets)) == 9
    for secret in secrets:
        assert len(secret) > 20
        assert secret not in kept.output
        assert secret not in " ".join(kept.arguments)
    assert not CREDENTIAL.search(kept.output)


def test_a_given_folder_is_kept_with_its_receipts_and_serves_another_demo(kept: Kept) -> None:
    kept_by = [path.name.partition("-")[0] for path in kept.folder.glob("receipts/*.json")]
    assert sorted(kept_by) == [*["client"] * 3, *["provider"] * 3, "rival", "stranger"]
    assert len([*kept.folder.glob("receipts/*.jsonl")]) == len([*kept.folder.glob("receipts/*.channel")]) == 4

    with demo("--once", "--data-dir", str(kept.folder)) as running:
        assert running.end() == 0, running.output

    assert len([*kept.folder.glob("receipts/*.json")]) == 16
    assert re.search(r"client    opens a negotiation with bob-[0-9a-f]{8}/translator", running.output)
