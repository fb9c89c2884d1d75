"""The commands that scripts rely on: their JSON, their exit codes, and one clear line where they fail."""

import asyncio
import json
import shutil
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agrenting import __version__
from agrenting.cli import main
from crypto import did_from_public_key, parse_public_key, parse_secret_key, public_key_of
from tests.agrenting.api.market import PRICE, Player, marketplace


class Shell:
    """A command line on one data folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        self._capsys.readouterr()
        code = main([*arguments, "--data-dir", str(self.folder)])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def json(self, *arguments: str) -> Any:
        """The JSON of a command that works: one object on one line, and nothing else."""
        code, out, err = self.run(*arguments, "--json")
        assert (code, err) == (0, "")
        assert out.count("\n") == 1
        return json.loads(out)

    def fails(self, *arguments: str) -> str:
        """The reason of a command that fails, as JSON; and for people one clear line on standard error."""
        code, out, err = self.run(*arguments)
        assert (code, out) == (1, "")
        assert err.startswith("agrenting: ")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        code, out, err = self.run(*arguments, "--json")
        assert code == 1
        error = json.loads(out)["error"]
        assert error["message"] in err
        reason: str = error["code"]
        return reason


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path / "var", capsys)


@pytest.fixture
def unlogged(monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve` sets up the logs of its whole process, which here is that of the tests."""
    monkeypatch.setattr("agrenting.serve.configure_logs", lambda _settings: None)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Alice and her agent."""
    folder = tmp_path_factory.mktemp("template")
    for arguments in (("user", "create", "alice"), ("agent", "create", "alice", "Client", "--description", "it hires")):
        assert main([*arguments, "--data-dir", str(folder)]) == 0
    return folder


@pytest.fixture
def agent(shell: Shell, template: Path) -> dict[str, Any]:
    """Alice's agent, in the shell's folder."""
    shutil.copytree(template, shell.folder)
    with closing(sqlite3.connect(shell.folder / "agrenting.sqlite3")) as database:
        id_, handle = database.execute("SELECT id, handle FROM agents").fetchone()
    return {"id": id_, "handle": handle}


def test_keygen_makes_a_seed_its_public_key_and_its_did(shell: Shell) -> None:
    made = shell.json("keygen")

    public = public_key_of(parse_secret_key(made["secret_key"]))
    assert made.keys() == {"secret_key", "public_key", "did"}
    assert parse_public_key(made["public_key"]) == public
    assert made["did"] == did_from_public_key(public)
    assert shell.json("keygen")["secret_key"] != made["secret_key"]


def test_organisations_users_and_agents_are_made(shell: Shell) -> None:
    organisation = shell.json("org", "create", "Acme")
    user = shell.json("user", "create", "alice", "--org", "Acme", "--operator")
    key = shell.json("keygen")
    made = shell.json(
        "agent", "create", "alice", "My Translator", "--description", "words", "--capability", "translate=8500000",
        "--capability", "summarise", "--base-price", "100", "--pricing-model", "fixed", "--public-key", key["did"],
        "--tag", "words", "--tag", "fast", "--global", "--unlisted", "--org", "Acme",
    )  # fmt: skip

    assert organisation.keys() == {"id", "name"}
    assert user.keys() == made.keys() == {"id", "handle", "api_key"}
    assert (organisation["name"], user["handle"], made["handle"]) == ("Acme", "alice", "alice/my-translator")
    with closing(sqlite3.connect(shell.folder / "agrenting.sqlite3")) as database:
        (text,) = database.execute("SELECT state FROM agents").fetchone()
    state = json.loads(text)
    assert (state["base_price"], state["pricing_model"], state["is_global"], state["is_listed"]) == (
        100, "fixed", True, False,
    )  # fmt: skip
    assert state["public_key"] == key["public_key"]
    assert (state["organisation_id"], sorted(state["tags"])) == (organisation["id"], ["fast", "words"])
    assert [(one["name"], one["price"]) for one in state["capabilities"]] == [
        ("translate", 8_500_000), ("summarise", None),
    ]  # fmt: skip


def test_for_people_a_command_prints_a_sentence_with_the_key(shell: Shell) -> None:
    code, out, err = shell.run("user", "create", "alice")

    assert (code, err) == (0, "")
    assert "alice" in out
    assert "agk_" in out
    with pytest.raises(json.JSONDecodeError):
        json.loads(out)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("user", "create", "Not A Handle"), "invalid_handle"),
        (("user", "create", "admin"), "reserved_handle"),
        (("user", "create", "sh1t"), "profane_handle"),
        (("user", "create", "alice"), "handle_taken"),
        (("user", "create", "bob", "--org", "Nowhere"), "not_found"),
        (("org", "create", " "), "invalid_payload"),
        (("agent", "create", "nobody", "X", "--description", "x"), "not_found"),
        (("agent", "create", "alice", "X", "--description", "x", "--public-key", "AAAA"), "invalid_public_key"),
        (("agent", "create", "alice", "X", "--description", "x", "--capability", "a=much"), "invalid_price"),
        (("agent", "create", "alice", "X", "--description", "x", "--capability", "a=-1"), "invalid_price"),
        (("agent", "create", "alice", "X", "--description", "x", "--base-price", "-5"), "invalid_price"),
        (("agent", "create", "alice", "X", "--description", "x", "--org", "Nowhere"), "not_found"),
        (("agent", "suspend", "alice/nobody"), "not_found"),
        (("agent", "reinstate", "alice/nobody"), "not_found"),
        (("key", "rotate", "nobody"), "not_found"),
        (("deposit", "alice/nobody", "5"), "not_found"),
        (("deposit", "alice/client", "0"), None),
        (("deposit", "alice/client", "-5"), None),
        (("deposit", "alice/client", "much"), None),
        (("deposit", "alice/client", "0.0000001"), None),
        (("deposit", "alice/client", str(2**53)), None),
        (("restore", "nothing.sqlite3"), "failed"),
        (("backup", "."), "failed"),
        (("verify", "--platform-key", "AAAA", "x.json"), None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_command_that_fails_says_why_in_one_line(
    shell: Shell, agent: dict[str, Any], arguments: tuple[str, ...], reason: str | None
) -> None:
    said = shell.fails(*arguments)

    assert reason in {None, said}


@pytest.mark.parametrize(
    "arguments",
    [(), ("nothing",), ("user",), ("user", "create"), ("agent", "create", "a", "b"), ("serve", "--port", "x")],
)
def test_a_command_line_that_is_none_exits_with_2(shell: Shell, arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(("amount", "minor"), [("8500000", 8_500_000), ("8.50", 8_500_000), ("0.000001", 1), ("1", 1)])
def test_a_deposit_is_minor_units_or_major_units_with_a_point(
    shell: Shell, agent: dict[str, Any], amount: str, minor: int
) -> None:
    assert shell.json("deposit", agent["handle"], amount) == {"available": minor}
    assert shell.json("deposit", f"@{agent['handle']}", amount) == {"available": 2 * minor}


def test_a_deposit_with_the_same_idempotency_key_counts_once(shell: Shell, agent: dict[str, Any]) -> None:
    for _ in range(3):
        assert shell.json("deposit", agent["handle"], "5", "--idempotency-key", "k") == {"available": 5}

    assert shell.fails("deposit", agent["handle"], "6", "--idempotency-key", "k") == "idempotency_mismatch"
    assert shell.json("deposit", agent["handle"], "5", "--idempotency-key", "other") == {"available": 10}


def test_the_doctor_finds_nothing_in_sound_books_and_every_difference_in_others(
    shell: Shell, agent: dict[str, Any]
) -> None:
    shell.json("deposit", agent["handle"], "500")
    healthy = shell.json("doctor")
    assert (healthy["ok"], healthy["differences"]) == (True, [])

    with closing(sqlite3.connect(shell.folder / "agrenting.sqlite3")) as database, database:
        database.execute("UPDATE accounts SET balance = balance + 7 WHERE name = ?", [f"agent:{agent['id']}:available"])
    code, out, _ = shell.run("doctor", "--json")
    sick = json.loads(out)

    assert (code, sick["ok"]) == (1, False)
    assert any("507" in difference and "500" in difference for difference in sick["differences"])


def test_the_doctor_of_an_empty_folder_says_that_there_is_nothing(shell: Shell) -> None:
    assert shell.fails("doctor") == "failed"
    assert not shell.folder.exists()


def test_config_prints_what_is_in_force_and_refuses_what_does_not_exist(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGRENTING_FEE_BPS", "7")
    monkeypatch.setenv("AGRENTING_TOPICS", '["examples.echo_room"]')
    settings = shell.json("config")
    assert (settings["fee_bps"], settings["topics"]) == (7, ["examples.echo_room"])
    assert settings["data_dir"] == str(shell.folder)
    assert "fee_bps = 7" in shell.run("config")[1]

    monkeypatch.setenv("AGRENTING_FEE", "7")
    assert shell.fails("config") == "failed"


def test_rotating_makes_a_new_key_each_time(shell: Shell, agent: dict[str, Any]) -> None:
    first, second = (shell.json("key", "rotate", agent["handle"]) for _ in range(2))

    assert (first["id"], first["handle"]) == (agent["id"], agent["handle"])
    assert first["api_key"] != second["api_key"]


async def receipt(alice: Player, bob: Player) -> str:
    """The receipt of an agreement, as REST gives it."""
    session = await alice.post("/negotiations", {"provider_agent_id": bob.id, "capability": "translate"})
    session = await alice.post(f"/negotiations/{session['id']}/offer", alice.offer(session, 800))
    await bob.post(f"/negotiations/{session['id']}/offer", bob.offer(session, 800))
    answer = await alice.call("GET", f"/negotiations/{session['id']}/receipt")
    return answer.text


async def test_verify_tells_a_good_receipt_from_a_changed_one(shell: Shell, tmp_path: Path) -> None:
    async with marketplace(shell.folder) as market:
        text = await receipt(*await market.deal())
    good, bad, odd = (tmp_path / name for name in ("good.json", "bad.json", "odd.json"))
    good.write_text(text, "utf-8")
    bad.write_text(text.replace('"amount":800', '"amount":801', 1), "utf-8")
    odd.write_text("[" * 100_000, "utf-8")
    assert bad.read_text("utf-8") != text

    verified = shell.json("verify", str(good))
    assert verified["ok"]
    assert verified["documents"][0]["file"] == str(good)
    code, out, _ = shell.run("verify", str(good), str(bad), str(odd), str(tmp_path / "missing.json"), "--json")
    documents = json.loads(out)["documents"]
    assert (code, json.loads(out)["ok"]) == (1, False)
    assert [document["ok"] for document in documents] == [True, False, False, False]
    assert all(document["error"] for document in documents[1:])
    other = shell.json("keygen")["public_key"]
    assert shell.run("verify", str(good), "--platform-key", other)[0] == 1


async def test_a_backup_is_consistent_while_serving_and_a_restore_refuses_to_overwrite(
    shell: Shell, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.sqlite3"
    async with marketplace(shell.folder) as market:
        alice, bob = await market.deal()
        stopping = asyncio.Event()

        async def hire_on() -> int:
            count = 0
            while not stopping.is_set():
                body = {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE}
                await alice.post("/tasks", body)
                count += 1
            return count

        hiring = asyncio.create_task(hire_on())
        code, out, _ = await asyncio.to_thread(shell.run, "backup", str(copy), "--json")
        stopping.set()
        assert await hiring > 0
    assert code == 0
    assert json.loads(out.splitlines()[-1]) == {"file": str(copy), "bytes": copy.stat().st_size}
    assert shell.fails("backup", str(copy)) == "failed"  # It exists already.
    assert shell.fails("restore", str(copy)) == "failed"  # So does the database.

    restored = Shell(tmp_path / "restored", shell._capsys)  # noqa: SLF001 - the same terminal
    restored.json("restore", str(copy))
    assert restored.json("doctor")["ok"]
    assert restored.fails("restore", str(copy)) == "failed"
    async with marketplace(tmp_path / "restored") as market:
        assert len(market.server.engine.market.restores) == 1
    async with marketplace(shell.folder) as market:
        assert market.server.engine.market.restores == ()


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_a_file_that_is_no_backup_is_refused_and_leaves_nothing(shell: Shell, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "odd.sqlite3"
    file.write_bytes(content)

    assert shell.fails("restore", str(file)) == "failed"
    assert not shell.folder.exists()


def test_a_folder_may_be_called_as_its_owner_likes(shell: Shell, tmp_path: Path) -> None:
    odd = tmp_path / "what#is?this %41 ü"
    here, there = Shell(odd / "var", shell._capsys), Shell(odd / "other", shell._capsys)  # noqa: SLF001 - as above
    made = here.json("user", "create", "alice")
    here.json("backup", str(odd / "copy?#.sqlite3"))

    there.json("restore", str(odd / "copy?#.sqlite3"))

    assert there.json("doctor")["ok"]
    assert made["handle"] == "alice"
    assert there.fails("user", "create", "alice") == here.fails("user", "create", "alice")
    assert [one.name for one in tmp_path.iterdir()] == [odd.name]


def test_a_backup_of_a_newer_program_is_refused(shell: Shell, agent: dict[str, Any], tmp_path: Path) -> None:
    copy = tmp_path / "newer.sqlite3"
    shell.json("backup", str(copy))
    with closing(sqlite3.connect(copy)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    other = Shell(tmp_path / "other", shell._capsys)  # noqa: SLF001 - the same terminal

    assert other.fails("restore", str(copy)) == "failed"
    assert other.fails("doctor") == "failed"


@pytest.mark.usefixtures("unlogged")
def test_serving_a_folder_of_a_newer_program_is_refused(shell: Shell, agent: dict[str, Any]) -> None:
    with closing(sqlite3.connect(shell.folder / "agrenting.sqlite3")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")

    assert shell.fails("serve", "--port", "0") == "failed"


@pytest.mark.usefixtures("unlogged")
def test_serving_with_a_topic_that_is_none_is_refused(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no.such.module", "json"):
        monkeypatch.setenv("AGRENTING_TOPICS", json.dumps([name]))
        assert shell.fails("serve", "--port", "0") == "failed"


@pytest.mark.usefixtures("unlogged")
def test_serving_on_an_address_that_is_taken_is_refused(shell: Shell) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert shell.run("serve", "--port", str(taken.getsockname()[1]))[0] == 1
