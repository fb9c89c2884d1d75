"""The folder in which an agent remembers."""

import subprocess
import sys
from pathlib import Path

import pytest

from agrenting.client.errors import ClientError, FolderInUse, LyingServer, WrongMarket
from agrenting.client.folder import StateFolder

ALICE = "0197a1b2-c3d4-7000-8000-0000000000a1"


def test_an_agent_has_a_folder_of_its_own_for_its_eyes_alone(tmp_path: Path) -> None:
    folder = StateFolder.of(ALICE, tmp_path / "state")

    assert folder.path == tmp_path / "state" / ALICE
    assert folder.path.stat().st_mode & 0o777 == 0o700


def test_the_environment_says_where_or_else_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGRENTING_STATE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "alice"))
    at_home = StateFolder.of(ALICE)
    monkeypatch.setenv("AGRENTING_STATE_DIR", str(tmp_path / "there"))
    elsewhere = StateFolder.of(ALICE)

    assert at_home.path == tmp_path / "alice/.local/state/agrenting" / ALICE
    assert elsewhere.path == tmp_path / "there" / ALICE


def test_channels_and_receipts_have_files_in_folders_that_are_there(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)

    files = [folder.channel("0197-c"), folder.receipt("task", "0197-t"), folder.receipt("agreement", "0197-t")]

    assert len({*files}) == 3
    assert all(file.parent.is_dir() and file.is_relative_to(tmp_path) and not file.exists() for file in files)


@pytest.mark.parametrize("name", ["", "../keys", "a/b", ".", "..", ".hidden", "a.b", "x" * 129, "nul\0", "a\n", "-rf"])
def test_an_id_that_leads_elsewhere_is_a_lie(tmp_path: Path, name: str) -> None:
    folder = StateFolder(tmp_path)

    for ask in (folder.channel, lambda text: folder.receipt("task", text), StateFolder.of):
        with pytest.raises(LyingServer, match="is no id"):
            ask(name)


def test_what_was_told_first_is_what_has_to_be_told_ever_after(tmp_path: Path) -> None:
    StateFolder(tmp_path).pin("signing_domain", "market-of-alice")
    StateFolder(tmp_path).pin("platform_public_key", "A")
    StateFolder(tmp_path).pin("signing_domain", "market-of-alice")

    with pytest.raises(WrongMarket, match=r"signing_domain was 'market-of-alice', and is 'market-of-mallory'") as lie:
        StateFolder(tmp_path).pin("signing_domain", "market-of-mallory")

    assert (lie.value.expected, lie.value.told) == ("market-of-alice", "market-of-mallory")
    StateFolder(tmp_path).pin("signing_domain", "market-of-alice")


def test_two_agents_remember_apart(tmp_path: Path) -> None:
    StateFolder.of("alice", tmp_path).pin("signing_domain", "one")
    StateFolder.of("bob", tmp_path).pin("signing_domain", "other")

    with pytest.raises(WrongMarket):
        StateFolder.of("bob", tmp_path).pin("signing_domain", "one")


HOLDER = """
import sys
from agrenting.client.folder import StateFolder
StateFolder(sys.argv[1]).lock()
print("locked", flush=True)
sys.stdin.read()
"""


class TestTheLock:
    def test_is_held_by_one_until_it_lets_go(self, tmp_path: Path) -> None:
        first, second = StateFolder(tmp_path), StateFolder(tmp_path)
        first.lock()
        first.lock()

        with pytest.raises(FolderInUse) as refusal:
            second.lock()
        first.unlock()
        first.unlock()
        second.lock()

        assert isinstance(refusal.value, ClientError)
        assert refusal.value.path == str(tmp_path)
        assert str(tmp_path) in str(refusal.value)
        assert "never two that pay over the same channels" in str(refusal.value)
        with pytest.raises(FolderInUse):
            first.lock()
        second.unlock()

    def test_ends_with_the_program_that_holds_it_however_that_ends(self, tmp_path: Path) -> None:
        mine = StateFolder(tmp_path)
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"locked\n"
            try:
                with pytest.raises(FolderInUse):
                    mine.lock()
            finally:
                other.kill()
                other.wait()

        mine.lock()
        mine.unlock()

    def test_is_for_its_owner_alone_and_stops_nobody_from_noting_what_was_told(self, tmp_path: Path) -> None:
        first, second = StateFolder(tmp_path), StateFolder(tmp_path)
        first.lock()

        second.pin("signing_domain", "market-of-alice")

        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
        assert second.receipt("task", "0197-t").parent.is_dir()
        first.unlock()

    def test_that_cannot_be_had_for_another_reason_says_so_and_leaves_nothing_open(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def without_locks(_descriptor: int, _how: int) -> None:
            raise OSError("no locks available")

        folder = StateFolder(tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr("fcntl.flock", without_locks)
            with pytest.raises(OSError, match="no locks available"):
                folder.lock()

        folder.lock()
        folder.unlock()
