"""The client's own command line: an owner registers agents, keys are made, and an agent asks who it is."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agrenting.client import shell
from agrenting.client.credentials import Credentials
from agrenting.client.keys import SigningKey
from tests.system.harness import MarketProcess
from tests.system.shell_stage import Shop, write_private


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    market = MarketProcess(folder / "var").start()
    yield Shop(market, folder)
    assert market.stop() == 0


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
