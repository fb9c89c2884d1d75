"""`agrenting verify` on payment channels: a receipt, and a history read line by line."""

import json
from pathlib import Path
from typing import Any

import pytest

from agrenting.verifying import LINE_BYTES_MAX, RECEIPT_BYTES_MAX
from crypto import format_public_key
from tests.agrenting.test_cli import Shell
from tests.crypto.bargains import agreement, platform_signs
from tests.crypto.payments import CHANNEL_ID, STORIES, Story, paid_story
from tests.crypto.roles import ALICE, BOB, MALLORY, PLATFORM

KEYS = tuple(
    argument
    for name, role in (("platform", PLATFORM), ("opener", ALICE), ("counterparty", BOB))
    for argument in (f"--{name}-key", role.public_key_text)
)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path / "var", capsys)


def as_lines(lines: list[Any]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def written(folder: Path, text: str | bytes, name: str = "history.jsonl") -> str:
    """A file of that content."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def error_of(shell: Shell, *arguments: str) -> str:
    """Why the only file is bad."""
    code, out, err = shell.run("verify", *arguments, "--json")
    document = json.loads(out)["documents"][0]
    assert (code, err, document["ok"]) == (1, "", False)
    error: str = document["error"]
    assert "\n" not in error
    return error


HISTORY = as_lines(STORIES["joint_close"].lines())
RECEIPT = json.dumps(platform_signs(STORIES["joint_close"].receipt()))


@pytest.mark.parametrize("name", ["history.jsonl", "history.json", "history"])
def test_a_history_is_verified_whatever_its_file_is_called(shell: Shell, tmp_path: Path, name: str) -> None:
    path = written(tmp_path, HISTORY, name)

    document = shell.json("verify", path, *KEYS)["documents"][0]

    assert (document["kind"], document["id"], document["file"]) == ("payment_history", CHANNEL_ID, path)
    assert document["unproven"] == []


def test_a_history_is_told_to_people_with_what_it_proves_and_what_not(shell: Shell, tmp_path: Path) -> None:
    code, out, _ = shell.run("verify", written(tmp_path, HISTORY))

    assert code == 0
    assert "history.jsonl: good" in out
    assert "  · 6 steps" in out
    assert out.count("  ! ") == 3


def test_a_receipt_of_a_channel_is_verified_also_as_rest_wraps_it(shell: Shell, tmp_path: Path) -> None:
    plain = written(tmp_path, RECEIPT, "receipt.json")
    wrapped = written(tmp_path, f'{{"data": {RECEIPT}}}', "wrapped.json")
    pretty = written(tmp_path, json.dumps(json.loads(RECEIPT), indent=2), "pretty.json")

    answer = shell.json("verify", plain, wrapped, pretty, *KEYS)

    assert [document["kind"] for document in answer["documents"]] == ["payment_channel"] * 3


def test_several_files_are_verified_at_once_and_one_bad_one_shows(shell: Shell, tmp_path: Path) -> None:
    good = written(tmp_path, HISTORY)
    receipt = written(tmp_path, RECEIPT, "receipt.json")
    bad = written(tmp_path, HISTORY.replace('"amount": 250', '"amount": 251'), "bad.jsonl")

    code, out, _ = shell.run("verify", good, receipt, bad, "--json")

    documents = json.loads(out)["documents"]
    assert (code, [document["ok"] for document in documents]) == (1, [True, True, False])
    assert documents[2]["error"].startswith("Line 4/")


@pytest.mark.parametrize("role", ["platform", "opener", "counterparty"])
@pytest.mark.parametrize("text", [HISTORY, RECEIPT], ids=["history", "receipt"])
def test_another_key_than_the_known_one_is_refused(shell: Shell, tmp_path: Path, text: str, role: str) -> None:
    path = written(tmp_path, text)

    assert f"The {role}'s key" in error_of(shell, path, f"--{role}-key", MALLORY.public_key_text)


@pytest.mark.parametrize("role", ["client", "provider"])
def test_a_channel_has_no_client_and_no_provider(shell: Shell, tmp_path: Path, role: str) -> None:
    key = (f"--{role}-key", ALICE.public_key_text)

    assert role in error_of(shell, written(tmp_path, HISTORY), *key)
    assert role in error_of(shell, written(tmp_path, RECEIPT, "receipt.json"), *key)


@pytest.mark.parametrize("role", ["opener", "counterparty"])
def test_an_agreement_has_no_opener_and_no_counterparty(shell: Shell, tmp_path: Path, role: str) -> None:
    path = written(tmp_path, json.dumps(agreement([1000, 1501])))

    assert role in error_of(shell, path, f"--{role}-key", format_public_key(ALICE.public_key))


def test_a_history_larger_than_any_receipt_is_read_line_by_line(shell: Shell, tmp_path: Path) -> None:
    story = Story().opened(10).accepted()
    for _ in range(5):
        story.transfer(ALICE, 1, memo="x" * (LINE_BYTES_MAX - 1_000))
    text = as_lines(story.lines())
    assert len(text) > RECEIPT_BYTES_MAX

    assert shell.json("verify", written(tmp_path, text))["ok"]


def test_a_line_that_is_too_long_is_refused(shell: Shell, tmp_path: Path) -> None:
    story = Story().opened(10).accepted().dispute(ALICE, "x" * LINE_BYTES_MAX)

    assert error_of(shell, written(tmp_path, as_lines(story.lines()))) == f"Line 4: longer than {LINE_BYTES_MAX} bytes"


def test_a_receipt_that_is_too_large_is_refused(shell: Shell, tmp_path: Path) -> None:
    path = written(tmp_path, RECEIPT + " " * RECEIPT_BYTES_MAX)

    assert error_of(shell, path) == f"larger than {RECEIPT_BYTES_MAX} bytes"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"\n", "Line 5: "),
        (b"no JSON\n", "Line 5: "),
        (b"[" * 100_000 + b"\n", "Line 5: "),
        (b'{"kind":"revoked","kind":"closed"}\n', "Line 5: kind: "),
        (b'{"n":1' + b"0" * 400 + b"}\n", "Line 5: n: "),
        (b'"\xff"\n', "Line 5: "),
        (b"{}\n", "Line 5: "),
    ],
)
def test_a_line_that_is_no_step_is_refused_with_its_number(
    shell: Shell, tmp_path: Path, line: bytes, said: str
) -> None:
    lines = HISTORY.encode().splitlines(keepends=True)

    assert error_of(shell, written(tmp_path, b"".join([*lines[:4], line, *lines[4:]]))).startswith(said)


def test_a_history_that_was_cut_off_is_refused(shell: Shell, tmp_path: Path) -> None:
    lines = HISTORY.splitlines(keepends=True)

    for count in range(1, len(lines)):
        assert f"ine {count + 1}: " in error_of(shell, written(tmp_path, "".join(lines[:count])))
    assert "Line 7: " in error_of(shell, written(tmp_path, HISTORY[: HISTORY.index('"closed"')]))


def test_the_last_line_may_lack_its_line_feed(shell: Shell, tmp_path: Path) -> None:
    assert shell.json("verify", written(tmp_path, HISTORY.rstrip()))["ok"]


@pytest.mark.parametrize("text", ["", "\n", "{}", "[]", '"payment_history"', '{"kind":"payment_history"', "\x00"])
def test_what_is_neither_is_refused(shell: Shell, tmp_path: Path, text: str) -> None:
    assert error_of(shell, written(tmp_path, text))


def test_a_history_that_goes_on_is_good_and_says_so(shell: Shell, tmp_path: Path) -> None:
    document = shell.json("verify", written(tmp_path, as_lines(paid_story().lines())))["documents"][0]

    assert any("has not ended" in check for check in document["checks"])
