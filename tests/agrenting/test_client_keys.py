"""Keys and credentials: where they come from, that nothing shows them, and that no file of them is overwritten."""

import copy
import logging
import os
import pickle
import sys
import tomllib
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agrenting.client.credentials import Credentials, require_url
from agrenting.client.errors import ClientError, MalformedKey, MissingKey, UnsafeKeyFile
from agrenting.client.keys import ApiKey, SigningKey
from agrenting.client.private_files import CHARS_MAX, new_private_file
from crypto import did_from_public_key, format_public_key, format_secret_key, public_key_of

SEED = bytes(range(32))
SEED_TEXT = format_secret_key(SEED)
KEY_TEXT = "agk_The-Secret-of-Alice_0123456789"
URL = "http://127.0.0.1:4000"

Read = Callable[[], Any]


def private(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    return path


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AGRENTING_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """A keyring, in the place of the one of whoever is logged in."""
    kept: dict[tuple[str, str], str] = {}
    stand_in = SimpleNamespace(get_password=lambda service, username: kept.get((service, username)))
    monkeypatch.setitem(sys.modules, "keyring", stand_in)
    return kept


# Where they come from.


def test_an_api_key_is_read_from_file_environment_and_keyring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keyring: dict[tuple[str, str], str]
) -> None:
    monkeypatch.setenv("AGRENTING_API_KEY", f"{KEY_TEXT}\n")
    monkeypatch.setenv("ALICES_KEY", KEY_TEXT)
    keyring[URL, "alice/reader"] = KEY_TEXT

    read = [
        ApiKey.from_file(private(tmp_path / "key", f"{KEY_TEXT}\n")),
        ApiKey.from_environment(),
        ApiKey.from_environment("ALICES_KEY"),
        ApiKey.from_keyring(URL, "alice/reader"),
    ]

    assert [key.reveal() for key in read] == [KEY_TEXT] * 4


def test_a_signing_key_is_read_from_text_file_environment_and_keyring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keyring: dict[tuple[str, str], str]
) -> None:
    monkeypatch.setenv("AGRENTING_SIGNING_KEY", SEED_TEXT)
    monkeypatch.setenv("ALICES_SEED", SEED_TEXT)
    keyring[URL, "alice/reader"] = SEED_TEXT

    read = [
        SigningKey.from_text(SEED_TEXT),
        SigningKey.from_file(private(tmp_path / "key", f"{SEED_TEXT}\n")),
        SigningKey.from_environment(),
        SigningKey.from_environment("ALICES_SEED"),
        SigningKey.from_keyring(URL, "alice/reader"),
    ]

    assert [key.reveal() for key in read] == [SEED] * 5


def test_a_signing_key_has_the_public_key_of_its_seed() -> None:
    key, public = SigningKey(SEED), public_key_of(SEED)

    assert (key.public_key, key.did) == (format_public_key(public), did_from_public_key(public))


def test_a_new_signing_key_is_another_each_time() -> None:
    assert SigningKey.generate() != SigningKey.generate()


def test_credentials_come_from_the_file_that_the_environment_names_before_its_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Credentials("https://market.example", ApiKey("agk_of-the-file"), SigningKey(SEED)).save(tmp_path / "alice.toml")
    monkeypatch.setenv("AGRENTING_URL", URL)
    monkeypatch.setenv("AGRENTING_API_KEY", KEY_TEXT)

    without_file = Credentials.from_environment()
    monkeypatch.setenv("AGRENTING_SIGNING_KEY", SEED_TEXT)
    signing = Credentials.from_environment()
    monkeypatch.setenv("AGRENTING_AGENT", str(tmp_path / "alice.toml"))
    with_file = Credentials.from_environment()

    assert (without_file.url, without_file.api_key.reveal(), without_file.signing_key) == (URL, KEY_TEXT, None)
    assert signing.signing_key == SigningKey(SEED)
    assert (with_file.url, with_file.api_key.reveal()) == ("https://market.example", "agk_of-the-file")


@pytest.mark.parametrize("missing", ["AGRENTING_URL", "AGRENTING_API_KEY"])
def test_who_acts_has_to_be_said_and_the_refusal_says_how(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setenv("AGRENTING_URL", URL)
    monkeypatch.setenv("AGRENTING_API_KEY", KEY_TEXT)
    monkeypatch.delenv(missing)

    with pytest.raises(MissingKey, match=r"AGRENTING_AGENT.*AGRENTING_URL and AGRENTING_API_KEY"):
        Credentials.from_environment()


def test_a_key_that_is_nowhere_is_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keyring: dict[tuple[str, str], str]
) -> None:
    monkeypatch.setenv("AGRENTING_API_KEY", "  ")
    with pytest.raises(MissingKey, match="AGRENTING_API_KEY is not set"):
        ApiKey.from_environment()
    with pytest.raises(MissingKey, match="there is no file"):
        SigningKey.from_file(tmp_path / "nowhere")
    with pytest.raises(MissingKey, match=r"nothing for alice/reader at http://127"):
        ApiKey.from_keyring(URL, "alice/reader")


def test_without_the_package_a_keyring_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)

    with pytest.raises(MissingKey, match=r"agrenting-client\[keyring\]"):
        SigningKey.from_keyring(URL, "alice/reader")


# Nothing shows them.


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        (ApiKey(KEY_TEXT), "<ApiKey agk_…>"),
        (ApiKey("ags_a-session"), "<ApiKey ags_…>"),
        (ApiKey("pass-word-of-Alice"), "<ApiKey …>"),
        (SigningKey(SEED), f"<SigningKey {did_from_public_key(public_key_of(SEED))}>"),
    ],
)
def test_a_key_shows_only_what_it_is(secret: ApiKey | SigningKey, shown: str, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("alice").warning("%s %r", secret, secret)

    assert (repr(secret), str(secret), f"{secret}", caplog.messages) == (shown, shown, shown, [f"{shown} {shown}"])
    assert not hasattr(secret, "__dict__")


def test_credentials_show_address_and_public_key_alone() -> None:
    shown = repr(Credentials(URL, ApiKey(KEY_TEXT), SigningKey(SEED)))

    assert URL in shown
    assert SigningKey(SEED).did in shown
    assert "Secret" not in shown
    assert SEED_TEXT not in shown


@pytest.mark.parametrize("secret", [ApiKey(KEY_TEXT), SigningKey(SEED)])
@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_key_is_neither_pickled_nor_copied(secret: ApiKey | SigningKey, way: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        way(secret)


def test_keys_are_equal_to_their_like_alone() -> None:
    text: object = KEY_TEXT
    seed: object = SEED

    assert ApiKey(KEY_TEXT) == ApiKey(KEY_TEXT) != ApiKey(f"{KEY_TEXT}1")
    assert SigningKey(SEED) == SigningKey(SEED) != SigningKey(bytes(32))
    assert len({ApiKey(KEY_TEXT), ApiKey(KEY_TEXT), SigningKey(SEED), SigningKey(SEED)}) == 2
    assert ApiKey(KEY_TEXT) != text
    assert SigningKey(SEED) != seed


BROKEN: dict[str, Callable[[Path], object]] = {
    "an API key with a space": lambda folder: ApiKey(f"{KEY_TEXT} {KEY_TEXT}"),
    "an API key of two lines": lambda folder: ApiKey.from_file(private(folder / "k", f"{KEY_TEXT}\n{KEY_TEXT}")),
    "an API key with a line for a header": lambda folder: ApiKey(f"{KEY_TEXT}\r\nx-admin: {KEY_TEXT}"),
    "a long API key": lambda folder: ApiKey(KEY_TEXT * 10),
    "a short seed": lambda folder: SigningKey.from_text(SEED_TEXT[:-4]),
    "a seed without padding": lambda folder: SigningKey.from_text(SEED_TEXT[:-1]),
    "a file of a seed and more": lambda folder: SigningKey.from_file(private(folder / "k", f"{SEED_TEXT}{SEED_TEXT}")),
    "credentials of another kind": lambda folder: Credentials.from_file(private(folder / "k", KEY_TEXT)),
    "credentials with one more field": lambda folder: Credentials.from_file(
        private(folder / "k", f'url = "{URL}"\napi_key = "{KEY_TEXT}"\nsecret = "{SEED_TEXT}"\n')
    ),
    "credentials whose key is no text": lambda folder: Credentials.from_file(
        private(folder / "k", f'url = "{URL}"\napi_key = ["{KEY_TEXT}"]\n')
    ),
    "credentials without address": lambda folder: Credentials.from_file(
        private(folder / "k", f'api_key = "{KEY_TEXT}"\n')
    ),
    "credentials with a broken seed": lambda folder: Credentials.from_file(
        private(folder / "k", f'url = "{URL}"\napi_key = "{KEY_TEXT}"\nsigning_key = "{SEED_TEXT}{SEED_TEXT}"\n')
    ),
    "a file that is no text": lambda folder: SigningKey.from_file(latin(folder / "k")),
    "a file without end": lambda folder: ApiKey.from_file(private(folder / "k", KEY_TEXT * CHARS_MAX)),
    "an address with a password": lambda folder: require_url(f"http://alice:{KEY_TEXT}@127.0.0.1:4000"),
}


def latin(path: Path) -> Path:
    path.write_bytes(f"{SEED_TEXT}\xe9".encode("latin-1"))
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_key_is_refused_and_no_traceback_holds_it(tmp_path: Path, what: str) -> None:
    with pytest.raises(MalformedKey) as refusal:
        BROKEN[what](tmp_path)

    text = "".join(traceback.format_exception(refusal.value, chain=True)) + repr(refusal.value)
    errors = [refusal.value, refusal.value.__cause__, refusal.value.__context__]
    told = text + "".join(repr(vars(error)) + repr(error.args) for error in errors if error is not None)
    assert KEY_TEXT not in told
    assert SEED_TEXT[:-4] not in told
    assert isinstance(refusal.value, ClientError)
    assert isinstance(refusal.value, ValueError)


def test_a_seed_of_another_size_is_refused() -> None:
    with pytest.raises(MalformedKey, match="32 bytes, not 31"):
        SigningKey(SEED[:-1])


# Files.


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o644])
@pytest.mark.parametrize("read", [ApiKey.from_file, SigningKey.from_file, Credentials.from_file])
def test_a_file_that_others_may_open_is_not_read_and_the_refusal_says_what_to_run(
    tmp_path: Path, mode: int, read: Callable[[Path], Any]
) -> None:
    path = private(tmp_path / "Alice's key", SEED_TEXT)
    path.chmod(mode)

    with pytest.raises(UnsafeKeyFile) as refusal:
        read(path)

    assert f"chmod 600 '{tmp_path}/Alice'\"'\"'s key'" in str(refusal.value)
    assert SEED_TEXT not in str(refusal.value)


@pytest.mark.parametrize("signing_key", [SigningKey(SEED), None])
def test_saved_credentials_are_read_again(tmp_path: Path, signing_key: SigningKey | None) -> None:
    path = tmp_path / "of/alice/reader.toml"

    Credentials(f"{URL}/", ApiKey(KEY_TEXT), signing_key).save(path)
    read = Credentials.from_file(path)

    assert (read.url, read.api_key, read.signing_key) == (URL, ApiKey(KEY_TEXT), signing_key)
    assert {*tomllib.loads(path.read_text("utf-8"))} == {"url", "api_key"} | ({"signing_key"} if signing_key else set())
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "save", [SigningKey(SEED).save, Credentials(URL, ApiKey(KEY_TEXT)).save], ids=["a key", "credentials"]
)
def test_nothing_is_overwritten(tmp_path: Path, save: Callable[[Path], None]) -> None:
    path = private(tmp_path / "key", "Bob's")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")

    for taken in (path, tmp_path / "link"):
        with pytest.raises(FileExistsError, match=f"{taken.name} exists already"):
            save(taken)

    assert path.read_text("utf-8") == "Bob's"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["key", "link"]


def test_a_file_that_appears_meanwhile_is_not_overwritten_either(tmp_path: Path) -> None:
    path = tmp_path / "key"

    def race() -> None:
        with new_private_file(path) as write:
            private(path, "Bob's")
            write("Alice's")

    with pytest.raises(FileExistsError):
        race()

    assert [(entry.name, entry.read_text("utf-8")) for entry in tmp_path.iterdir()] == [("key", "Bob's")]


def test_a_file_has_its_name_only_with_all_that_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "key"

    def fail() -> None:
        with new_private_file(path):
            assert not path.exists()
            raise LookupError("the market is away")

    with pytest.raises(LookupError):
        fail()

    assert [*tmp_path.iterdir()] == []


def test_a_file_system_without_second_names_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_paths: Any) -> None:
        raise PermissionError("no second names here")

    monkeypatch.setattr(os, "link", refuse)

    SigningKey(SEED).save(tmp_path / "key")

    assert SigningKey.from_file(tmp_path / "key") == SigningKey(SEED)
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


# Addresses.


@pytest.mark.parametrize(
    "url", [URL, f"{URL}/", "https://market.example", "https://market.example/under", "http://[::1]:1"]
)
def test_an_address_is_taken_without_its_last_slash(url: str) -> None:
    assert require_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:4000", "ws://127.0.0.1", "http://", "http://a b", f"{URL}?key=1", f"{URL}#x", "http://h:99999"],
)
def test_what_is_no_address_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(MalformedKey, match=r"http://127\.0\.0\.1:4000"):
        require_url(url)
