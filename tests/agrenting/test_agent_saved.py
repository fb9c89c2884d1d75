"""`agrenting agent create … --save FILE`: the agent's credentials in a file of its own, made before the agent is."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agrenting.cli import main
from agrenting.client.credentials import Credentials
from agrenting.client.keys import SigningKey

Create = Callable[..., tuple[int, Any]]


@pytest.fixture
def create(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Create:
    """Make Alice's reader; the exit code, and what was said as JSON."""
    monkeypatch.chdir(tmp_path)
    assert main(["user", "create", "alice", "--data-dir", "var"]) == 0
    capsys.readouterr()

    def run(*options: str) -> tuple[int, Any]:
        code = main(
            ["agent", "create", "alice", "Reader", "--description", "it reads", "--data-dir", "var", "--json", *options]
        )
        return code, json.loads(capsys.readouterr().out)

    return run


def stored_agents(folder: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(folder / "var/agrenting.sqlite3")) as database:
        return [json.loads(state) for (state,) in database.execute("SELECT state FROM agents ORDER BY id")]


def test_the_file_holds_address_api_key_and_a_new_signing_key_and_nothing_else_shows_them(
    create: Create, tmp_path: Path
) -> None:
    code, told = create("--save", "reader.toml", "--capability", "read=8.50", "--capability", "skim=12")

    credentials = Credentials.from_file(tmp_path / "reader.toml")
    (agent,) = stored_agents(tmp_path)
    assert (code, told["file"], told["handle"]) == (0, "reader.toml", "alice/reader")
    assert credentials.signing_key is not None
    assert told["public_key"] == agent["public_key"] == credentials.signing_key.public_key
    assert credentials.url == "http://127.0.0.1:4000"
    assert credentials.api_key.reveal() not in json.dumps(told)
    assert {one["name"]: one["price"] for one in agent["capabilities"]} == {"read": 8_500_000, "skim": 12}


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:4177"),
        ("0.0.0.0", "http://127.0.0.1:4177"),  # noqa: S104 - Nothing is bound.
        ("::", "http://[::1]:4177"),
        ("market.example", "http://market.example:4177"),
    ],
)
def test_the_address_is_that_of_the_settings(
    create: Create, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, url: str
) -> None:
    monkeypatch.setenv("AGRENTING_HOST", host)
    monkeypatch.setenv("AGRENTING_PORT", "4177")

    create("--save", "reader.toml")

    assert Credentials.from_file(tmp_path / "reader.toml").url == url


def test_the_address_may_be_named(create: Create, tmp_path: Path) -> None:
    create("--save", "reader.toml", "--url", "https://market.example/")

    assert Credentials.from_file(tmp_path / "reader.toml").url == "https://market.example"


def test_a_key_that_is_named_is_taken_and_its_secret_stays_where_it_is(create: Create, tmp_path: Path) -> None:
    key = SigningKey.generate()

    create("--save", "reader.toml", "--public-key", key.did)

    assert Credentials.from_file(tmp_path / "reader.toml").signing_key is None
    assert stored_agents(tmp_path)[0]["public_key"] == key.public_key


def test_no_file_is_overwritten_and_no_agent_is_made_then(create: Create, tmp_path: Path) -> None:
    (tmp_path / "reader.toml").write_text("Bob's", "utf-8")

    code, told = create("--save", "reader.toml")

    assert code == 1
    assert "reader.toml exists already" in told["error"]["message"]
    assert (tmp_path / "reader.toml").read_text("utf-8") == "Bob's"
    assert stored_agents(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--capability", "a=much"), "invalid_price"),
        (("--capability", "a=8,5"), "invalid_price"),
        (("--public-key", "AAAA"), "invalid_public_key"),
        (("--url", "market.example"), "failed"),
    ],
)
def test_where_no_agent_is_made_no_file_is_left(
    create: Create, tmp_path: Path, options: tuple[str, ...], reason: str
) -> None:
    code, told = create("--save", "reader.toml", *options)

    assert (code, told["error"]["code"]) == (1, reason)
    assert [path.name for path in tmp_path.iterdir()] == ["var"]


def test_variables_of_agents_are_no_settings_of_the_server(create: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AGENT", "API_KEY", "OWNER_KEY", "SIGNING_KEY", "STATE_DIR", "URL"):
        monkeypatch.setenv(f"AGRENTING_{name}", "x")

    assert create("--save", "reader.toml")[0] == 0
