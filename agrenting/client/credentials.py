"""All that an agent needs to work in a market, in one file: where it is, and the two keys."""

import os
import tomllib
from typing import Any, Final, Self
from urllib.parse import urlsplit

import msgspec

from ._crypto import format_secret_key
from .errors import MalformedKey, MissingKey
from .keys import API_KEY_VARIABLE, SIGNING_KEY_VARIABLE, ApiKey, SigningKey
from .private_files import create_private, read_private

FILE_VARIABLE: Final = "AGRENTING_AGENT"
URL_VARIABLE: Final = "AGRENTING_URL"

_NAMES: Final = {"url", "api_key", "signing_key"}


class Credentials:
    """Where a market is, and the keys of one agent in it.

    Args:
        url: The market's, as in `http://127.0.0.1:4000`.
        api_key: The agent's.
        signing_key: None for an agent that has none: it neither bargains nor pays over channels.

    Raises:
        MalformedKey: The address is none.
    """

    __slots__ = ("api_key", "signing_key", "url")

    def __init__(self, url: str, api_key: ApiKey, signing_key: SigningKey | None = None) -> None:
        self.url = require_url(url)
        self.api_key = api_key
        self.signing_key = signing_key

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read them from a file that `save` has written, or that looks alike.

        Raises:
            MissingKey: There is no such file.
            UnsafeKeyFile: Others may read the file.
            MalformedKey: It holds something else. The sentence repeats no key.
            OSError: It cannot be read.
        """
        where = os.fspath(path)
        fields = _fields(read_private(path))
        if fields is None or not fields.keys() <= _NAMES or not all(isinstance(text, str) for text in fields.values()):
            raise MalformedKey(f'{where} holds no credentials: url = "…", api_key = "…", signing_key = "…", in TOML')
        if "url" not in fields or "api_key" not in fields:
            raise MalformedKey(f"{where} lacks {'api_key' if 'url' in fields else 'url'}")
        signing_key = fields.get("signing_key")
        return cls(
            fields["url"],
            ApiKey(fields["api_key"]),
            None if signing_key is None else SigningKey.from_text(signing_key),
        )

    @classmethod
    def from_environment(cls) -> Self:
        """Read them from the environment.

        That is the file that `AGRENTING_AGENT` names, or else `AGRENTING_URL`, `AGRENTING_API_KEY` and, for an agent
        that signs, `AGRENTING_SIGNING_KEY`.

        Raises:
            MissingKey: Neither is set, or there is no such file.
            UnsafeKeyFile: Others may read the file.
            MalformedKey: Something else stands there.
            OSError: The file cannot be read.
        """
        file = os.environ.get(FILE_VARIABLE)
        if file:
            return cls.from_file(file)
        url = os.environ.get(URL_VARIABLE)
        if not url or not os.environ.get(API_KEY_VARIABLE):
            raise MissingKey(
                f"no agent is named: set {FILE_VARIABLE} to a file of credentials, "
                f"or {URL_VARIABLE} and {API_KEY_VARIABLE}"
            )
        signs = bool(os.environ.get(SIGNING_KEY_VARIABLE))
        return cls(url, ApiKey.from_environment(), SigningKey.from_environment() if signs else None)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them to a new file that only its owner may read.

        Raises:
            FileExistsError: There is a file already; no key is ever overwritten.
            OSError: It cannot be written.
        """
        create_private(path, self.to_toml())

    def to_toml(self) -> str:
        """The file's text, keys and all. Whoever asks writes it where only the owner may read."""
        fields = {"url": self.url, "api_key": self.api_key.reveal()}
        if self.signing_key is not None:
            fields["signing_key"] = format_secret_key(self.signing_key.reveal())
        lines = "".join(f"{name} = {msgspec.json.encode(text).decode()}\n" for name, text in fields.items())
        return f"# One agent's credentials: who reads them acts, pays and signs as the agent.\n{lines}"

    def __repr__(self) -> str:
        return f"<Credentials {self.url} {self.api_key} {self.signing_key}>"


def require_url(text: str) -> str:
    """A market's address, without a slash at its end.

    Raises:
        MalformedKey: It is none, or has a user, a query or a fragment.
    """
    try:
        parts = urlsplit(text)
        is_plain = bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        is_plain = False
    else:
        is_plain = is_plain and parts.scheme in {"http", "https"} and not parts.query and not parts.fragment
    if not is_plain or not text.isascii() or not text.isprintable() or " " in text:
        raise MalformedKey("a market's address looks like http://127.0.0.1:4000 or https://market.example")
    return text.rstrip("/")


def _fields(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None
