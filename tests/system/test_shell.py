"""The shell: a program is hired out with `agrenting provide`, and files are worked on with `agrenting hire`."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from agrenting.cli import main
from tests.system.harness import MarketProcess
from tests.system.shell_stage import PRICE, TIMEOUT_S, WORK, Provided, Shop, write_private


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
    assert told.keys() == {"AGRENTING_CAPABILITY", "AGRENTING_INPUT", "AGRENTING_INPUT_FILE", "AGRENTING_TASK_ID"}
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
    assert said.splitlines()[-2].endswith("; USD 1.50 is back with the client")
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
    assert f'task {task_id}: cancelled by its client: "given up by its client"; USD 1.50 is back' in said.decode()
    assert shop.balance() == before
    assert provided.until("exited", task_id)["exit_code"] == -signal.SIGTERM
    assert not is_running(child)


def interrupted_after_output(shop: Shop) -> tuple[str, list[str]]:
    """Alice has had output, and then had enough: the task, and what she was told."""
    process = shop.start("-", "--input", '"drip"', "--ask", "Hello")
    assert process.stdout is not None
    assert process.stdout.read(4) == b"drop"
    assert process.stderr is not None
    process.send_signal(signal.SIGINT)
    lines = process.stderr.read().decode().splitlines()  # Her input stays open as long.
    out, _ = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out, lines[-1]) == (130, b"", "interrupted")
    return re.findall(r"is hired .* task (\S+)", lines[0])[0], lines


def settling_is_interrupted(shop: Shop, task_id: str) -> str:
    """Alice waits for the end of a task, and then does not: what she was told first."""
    process = subprocess.Popen(
        [sys.executable, "-m", "agrenting", "task", "settle", task_id],
        stderr=subprocess.PIPE,
        text=True,
        env=shop.environment(AGRENTING_AGENT=str(shop.reader)),
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, said) == (130, "interrupted\n")
    return line


def test_ctrl_c_behind_the_first_output_says_how_it_stands_and_what_can_be_done(shop: Shop, provided: Provided) -> None:
    before = shop.balance()

    task_id, said = interrupted_after_output(shop)

    assert f"task {task_id}: in progress; USD 1.50 is held" in said
    assert f"To refuse it: agrenting task dispute {task_id} --reason TEXT" in said
    assert "task settle" not in "".join(said)
    (listed,) = [task for task in shop.ask("task", "list")["tasks"] if task["task_id"] == task_id]
    assert (listed["role"], listed["status"], listed["escrow_status"]) == ("client", "in_progress", "held")
    assert f"task {task_id} still takes input: waiting for its end. " in settling_is_interrupted(shop, task_id)
    assert "task dispute TASK" in shop.refusal("task", "cancel", task_id)
    disputed = shop.ask("task", "dispute", task_id, "--reason", "I have had enough.")
    assert (disputed["status"], disputed["escrow_status"]) == ("disputed", "held")
    assert provided.until("ended", task_id)["status"] == "disputed"
    (listed,) = [task for task in shop.ask("task", "list")["tasks"] if task["task_id"] == task_id]
    assert (listed["status"], listed["until"]) == ("disputed", shop.task(task_id)["dispute"]["decides_at"])
    assert "I have had enough." in shop.refusal("task", "settle", task_id)
    assert shop.balance()["escrow"] == before["escrow"] + PRICE


def test_a_provider_gives_a_task_back_from_its_shell(shop: Shop, provided: Provided) -> None:
    before = shop.balance()
    task_id, _ = interrupted_after_output(shop)

    (listed,) = [task for task in shop.ask("task", "list", who=shop.tool)["tasks"] if task["task_id"] == task_id]
    assert listed["role"] == "provider"
    assert "its client settles it" in shop.refusal("task", "settle", task_id, who=shop.tool)
    given_up = shop.ask("task", "cancel", task_id, "--reason", "The press is broken.", who=shop.tool)

    assert (given_up["status"], given_up["escrow_status"]) == ("cancelled", "refunded")
    ended = provided.until("ended", task_id)
    assert (ended["status"], ended["reason"]) == ("cancelled", "The press is broken.")
    assert shop.balance() == before
    assert task_id not in {task["task_id"] for task in shop.ask("task", "list")["tasks"]}
    assert task_id in {task["task_id"] for task in shop.ask("task", "list", "--all")["tasks"]}


def test_what_was_held_is_verified_and_paid_later_and_the_provider_hears_of_it(shop: Shop, provided: Provided) -> None:
    code, out, said = shop.hire("-", "--ask", "Hello", "--keep-held", "--json", given=b"later")
    assert (code, out) == (0, b"LATER"), said
    task_id = json.loads(said.splitlines()[-1])["task_id"]
    held = provided.until("ended", task_id)
    (listed,) = [task for task in shop.ask("task", "list")["tasks"] if task["task_id"] == task_id]
    before = shop.balance()
    output, receipt = shop.folder / "later.txt", shop.folder / "later.json"

    settled = shop.ask("task", "settle", task_id, "--output", str(output), "--receipt", str(receipt))

    assert (held["status"], held["escrow_status"]) == ("completed", "held")
    assert (listed["status"], listed["escrow_status"]) == ("completed", "held")
    assert settled == {"task_id": task_id, "price": PRICE, "escrow_status": "released"}
    assert output.read_bytes() == b"LATER"
    assert shop.market.cli("verify", str(receipt))["ok"] is True
    assert shop.balance()["escrow"] == before["escrow"] - PRICE
    paid = provided.until("ended", task_id)
    assert (paid["escrow_status"], 0 < paid["net"] < PRICE) == ("released", True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_output_that_cannot_be_written_leaves_the_price_held(shop: Shop, provided: Provided) -> None:
    code, _, said = shop.hire("-", "--ask", "Hello", "--keep-held", "--json", given=b"lost")
    assert code == 0, said
    task_id = json.loads(said.splitlines()[-1])["task_id"]
    provided.until("ended", task_id)

    refused = shop.refusal("task", "settle", task_id, "--output", "/dev/full")

    assert "No space left" in refused
    assert shop.task(task_id)["escrow_status"] == "held"


def test_a_provider_is_told_in_a_line_when_a_task_is_taken_and_in_one_how_it_has_ended(shop: Shop) -> None:
    lines = shop.agent("bob", "Lines", "--capability", "upper=1.50")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "agrenting", "provide", "upper", "--price", "1.50", "--as", str(lines)),
            *("--accept-contacts", "--", "sh", "-c", WORK),
        ],
        stderr=subprocess.PIPE,
        text=True,
        env=shop.environment(),
    )
    assert process.stderr is not None
    said: list[str] = []
    try:
        said += [process.stderr.readline() for _ in range(3)]
        for word in ("fail", "held"):
            shop.hire("-", "--provider", "bob/lines", "--input", f'"{word}"', "--ask", "Hello", given=b"x")
            while " released" not in said[-1] and "back with" not in said[-1] and "and paid" not in said[-1]:
                said.append(process.stderr.readline())
                assert said[-1], said
            said.append("")
    finally:
        process.send_signal(signal.SIGTERM)
        said += process.communicate(timeout=TIMEOUT_S)[1].splitlines(keepends=True)

    text = "".join(said)
    first, second = dict.fromkeys(re.findall(r"task (\S+):", text))
    assert said[0].startswith("bob/lines has no contacts: only agents of the same owner can hire it. Whoever asks")
    assert said[1].startswith("strangers do not find it by a search, but by its handle alone")
    assert said[2] == "bob/lines provides upper for USD 1.50; Ctrl-C stops it\n"
    assert f"task {first}: started for alice/reader\nthe ink is out\ntask {first}: failed: command_failed " in text
    assert '{"details":{"exit_code":3}}; USD 1.50 is back with the client\n' in text
    assert f"task {second}: started for alice/reader\n" in text
    assert f"task {second}: completed and paid: USD 1." in text
    assert text.endswith("bob/lines has stopped\n")
    assert "connection" not in text


def test_a_provider_that_is_asked_to_stop_finishes_what_it_has_begun(shop: Shop, provided: Provided) -> None:
    late = shop.agent("bob", "Late", "--global", "--capability", "upper=1.50")
    provider = Provided(
        "upper", "--price", "1.50", "--as", str(late), "--accept-contacts", "5.00", "--", "tr", "a-z", "A-Z",
        environment=shop.environment(),
    )  # fmt: skip
    try:
        provider.until("serving")
        process = shop.start("-", "--provider", "bob/late", "--ask", "Hello")
        task_id = provider.until("started")["task_id"]
        provider.stop()
        stopping = provider.until("stopping")
        out, said = process.communicate(b"at last", TIMEOUT_S)
        stopped = provider.until("stopped")
    finally:
        code = provider.end()

    assert (process.returncode, out) == (0, b"AT LAST"), said
    assert (stopping["running"], stopped["left"]) == ([task_id], [])
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
        (("task", "settle", "00000000-0000-7000-8000-000000000000"), "(not_found)"),
        (("task", "cancel", "00000000-0000-7000-8000-000000000000"), "(not_found)"),
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
        (("task", "dispute", "t1"), "--reason"),
        (("task", "settle", "../agents"), "no task's id"),
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
