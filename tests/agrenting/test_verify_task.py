"""`agrenting verify` on a task's receipt, alone and with the files that were sent."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pytest

from agrenting import verifying
from agrenting.cli import main
from crypto import verify_stream
from tests.agrenting.test_cli import Shell
from tests.agrenting.test_verify_history import HISTORY, RECEIPT, error_of, written
from tests.crypto.bargains import agreement
from tests.crypto.hires import HONEST, INPUT, OUTPUT, TASK_ID, stream, task
from tests.crypto.roles import ALICE, MALLORY, PLATFORM

COMPLETED, OPEN = HONEST["completed"], HONEST["failed"]
CHUNK_BYTES = 6
"""Of all chunks of the example but the last ones, which are shorter."""


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path / "var", capsys)


@pytest.fixture
def receipt(tmp_path: Path) -> str:
    """Of a task that was completed, both of its streams closed."""
    return written(tmp_path, json.dumps(COMPLETED), "receipt.json")


@pytest.fixture
def unclosed(tmp_path: Path) -> str:
    """Of a task that failed while both streams were open."""
    return written(tmp_path, json.dumps(OPEN), "unclosed.json")


@pytest.fixture
def sent(tmp_path: Path) -> str:
    """What Alice has sent."""
    return written(tmp_path, b"".join(INPUT), "sent.txt")


@pytest.fixture
def got(tmp_path: Path) -> str:
    """What she has got."""
    return written(tmp_path, b"".join(OUTPUT), "got.txt")


def test_a_receipt_is_verified_by_itself(shell: Shell, receipt: str) -> None:
    document = shell.json("verify", receipt, "--platform-key", PLATFORM.public_key_text)["documents"][0]

    assert (document["kind"], document["id"], document["unproven"]) == ("task", TASK_ID, [])


@pytest.mark.parametrize("name", HONEST)
def test_a_receipt_of_any_end_is_verified_also_as_rest_wraps_it(shell: Shell, tmp_path: Path, name: str) -> None:
    wrapped = written(tmp_path, json.dumps({"data": HONEST[name]}), "wrapped.json")

    assert shell.json("verify", wrapped)["ok"]


def test_both_files_are_held_against_it(shell: Shell, receipt: str, sent: str, got: str) -> None:
    alone = shell.json("verify", receipt)["documents"][0]["checks"]

    checks = shell.json("verify", receipt, "--input", sent, "--output", got)["documents"][0]["checks"]

    assert checks[: len(alone)] == alone
    of_input, of_output = checks[len(alone) :]
    assert of_input.startswith("The input here is that of the receipt: 11 bytes with the SHA-256 b94d27b9")
    assert of_output.startswith("The output here is that of the receipt: 10 bytes")


@pytest.mark.parametrize("direction", ["input", "output"])
def test_either_file_is_held_against_it_and_people_are_told(
    shell: Shell, receipt: str, sent: str, got: str, direction: str
) -> None:
    code, out, err = shell.run("verify", receipt, f"--{direction}", sent if direction == "input" else got)

    assert (code, err) == (0, "")
    assert "receipt.json: good\n" in out
    assert f"  · The {direction} here is that of the receipt" in out


def test_the_chunks_are_held_against_the_running_digest(shell: Shell, receipt: str, sent: str, got: str) -> None:
    files = ("--input", sent, "--output", got, "--chunk-bytes", str(CHUNK_BYTES))

    checks = shell.json("verify", receipt, *files)["documents"][0]["checks"]

    for check, direction in zip(checks[-2:], ("input", "output"), strict=True):
        assert COMPLETED["document"]["streams"][direction]["digest"] in check
        assert COMPLETED["document"]["streams"][direction]["checksum"] in check


def test_another_file_is_refused(shell: Shell, tmp_path: Path, receipt: str, sent: str, got: str) -> None:
    other = written(tmp_path, b"hello worle", "other.txt")
    shorter = written(tmp_path, b"hello worl", "shorter.txt")
    longer = written(tmp_path, b"hello world\n", "longer.txt")

    assert "The input here has the SHA-256 " in error_of(shell, receipt, "--input", other)
    assert "The input here has 10 bytes; the receipt says 11." in error_of(shell, receipt, "--input", shorter)
    assert "more than the 11 bytes" in error_of(shell, receipt, "--input", longer)
    assert "The output here " in error_of(shell, receipt, "--input", sent, "--output", sent)
    assert "The input here " in error_of(shell, receipt, "--input", got, "--output", got)


@pytest.mark.parametrize("size", [1, 5, 11, verifying.CHUNK_BYTES_MAX])
def test_the_same_file_in_other_chunks_is_refused(shell: Shell, receipt: str, sent: str, size: int) -> None:
    assert "running digest" in error_of(shell, receipt, "--input", sent, "--chunk-bytes", str(size))


def test_a_stream_that_was_not_closed_has_no_checksum_to_hold_a_file_against(
    shell: Shell, unclosed: str, sent: str
) -> None:
    assert error_of(shell, unclosed, "--input", sent) == (
        "The input was not closed, so the receipt has no checksum of it; only its chunks can be compared."
    )


def test_a_stream_that_was_not_closed_is_proved_by_its_chunks(shell: Shell, unclosed: str, got: str) -> None:
    checks = shell.json("verify", unclosed, "--output", got, "--chunk-bytes", str(CHUNK_BYTES))["documents"][0][
        "checks"
    ]

    assert checks[-1].endswith("; it was not closed.")


def test_a_file_is_read_block_by_block(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, sizes = bytes(range(256)) * 1_000, list[int]()
    closed = {"input": stream([content], is_closed=True), "output": stream(OUTPUT, is_closed=True)}
    path = written(tmp_path, json.dumps(task(streams=closed)), "large.json")

    def noted(receipt: object, *, direction: Literal["input", "output"], blocks: Iterable[bytes]) -> str:
        held = list(blocks)
        sizes.extend(map(len, held))
        return verify_stream(receipt, direction=direction, blocks=held)

    monkeypatch.setattr(verifying, "verify_stream", noted)

    assert shell.json("verify", path, "--input", written(tmp_path, content, "large.bin"))["ok"]
    assert sizes == [65_536, 65_536, 65_536, 59_392]


def test_a_file_that_is_not_there_is_named(shell: Shell, tmp_path: Path, receipt: str) -> None:
    missing = tmp_path / "missing.txt"

    assert str(missing) in error_of(shell, receipt, "--output", str(missing))
    assert str(tmp_path) in error_of(shell, receipt, "--output", str(tmp_path))


def test_a_receipt_that_was_changed_is_refused_before_any_file_is_read(shell: Shell, tmp_path: Path, sent: str) -> None:
    changed = written(tmp_path, json.dumps(COMPLETED).replace('"price": 1250', '"price": 1251'), "changed.json")

    assert "do not add up to the price" in error_of(shell, changed, "--input", str(tmp_path / "missing.txt"))


@pytest.mark.parametrize("role", ["client", "provider"])
def test_a_task_is_signed_by_neither_party(shell: Shell, receipt: str, role: str) -> None:
    assert role in error_of(shell, receipt, f"--{role}-key", ALICE.public_key_text)


def test_another_platform_is_refused(shell: Shell, receipt: str) -> None:
    assert "The platform's key" in error_of(shell, receipt, "--platform-key", MALLORY.public_key_text)


@pytest.mark.parametrize(
    ("text", "kind"),
    [(HISTORY, "payment_history"), (RECEIPT, "payment_channel"), (json.dumps(agreement([1000, 1501])), "agreement")],
    ids=["history", "channel", "agreement"],
)
def test_only_a_task_has_files(shell: Shell, tmp_path: Path, sent: str, text: str, kind: str) -> None:
    path = written(tmp_path, text, "other.json")

    for direction in ("input", "output"):
        assert error_of(shell, path, f"--{direction}", sent) == (
            f"--{direction} goes with the receipt of a task; this is of kind {kind}"
        )


@pytest.mark.parametrize("size", ["0", "-1", str(verifying.CHUNK_BYTES_MAX + 1)])
def test_chunks_have_a_size(shell: Shell, receipt: str, sent: str, size: str) -> None:
    assert shell.fails("verify", receipt, "--input", sent, "--chunk-bytes", size) == "failed"
    assert "from 1 to" in shell.run("verify", receipt, "--input", sent, "--chunk-bytes", size)[2]


def test_the_size_of_chunks_goes_with_a_file(shell: Shell, receipt: str) -> None:
    assert shell.fails("verify", receipt, "--chunk-bytes", "6") == "failed"
    assert "--input or --output" in shell.run("verify", receipt, "--chunk-bytes", "6")[2]


def test_the_help_tells_of_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["verify", "--help"])

    out = " ".join(capsys.readouterr().out.split())
    assert "--input FILE what the client sent: its size and SHA-256 must be those that the task's receipt says" in out
    assert "--output FILE what the provider sent" in out
    assert "--chunk-bytes N the file was sent in chunks of N bytes, but for the last" in out
