"""An agent's two secrets: the key that it is let in by, and the key that it signs with.

Neither shows itself: not in a log, not in `repr`, not in an exception, not in a pickle. Only `reveal()` gives one away.
"""

import hmac
import importlib
import os
import re
from typing import Any, Final, NoReturn, Self

from ._crypto import (
    BadSecretKey,
    did_from_public_key,
    format_public_key,
    format_secret_key,
    generate_secret_key,
    parse_secret_key,
    public_key_of,
)
from .errors import MalformedKey, MissingKey
from .private_files import create_private, read_private

API_KEY_VARIABLE: Final = "AGRENTING_API_KEY"
SIGNING_KEY_VARIABLE: Final = "AGRENTING_SIGNING_KEY"
SEED_SIZE: Final = 32
"""Bytes of what a signing key is made from."""

_API_KEY: Final = re.compile(r"[!-~]{8,256}")
_KNOWN_PREFIX: Final = re.compile(r"(?:agk|ags)_")


class ApiKey:
    """What an agent, or a user, is let in by: an API key, or a session token.

    Args:
        text: As the server showed it, 8-256 visible ASCII characters.

    Raises:
        MalformedKey: It has another form. The sentence does not repeat it.
    """

    __slots__ = ("__text",)

    def __init__(self, text: str) -> None:
        if not _API_KEY.fullmatch(text):
            raise MalformedKey("an API key is 8-256 visible ASCII characters on one line, such as agk_…")
        self.__text = text

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read it from a file that holds nothing else.

        Raises:
            MissingKey: There is no such file.
            UnsafeKeyFile: Others may read the file.
            MalformedKey: It holds something else.
            OSError: It cannot be read.
        """
        text = read_private(path).strip()
        if not _API_KEY.fullmatch(text):
            raise MalformedKey(f"{os.fspath(path)} does not hold an API key alone")
        return cls(text)

    @classmethod
    def from_environment(cls, name: str = API_KEY_VARIABLE) -> Self:
        """Read it from an environment variable.

        Raises:
            MissingKey: The variable is not set.
            MalformedKey: It holds something else.
        """
        return cls(_variable(name))

    @classmethod
    def from_keyring(cls, service: str, username: str) -> Self:
        """Read it from the keyring of the person who is logged in. Takes the extra `keyring`.

        Args:
            service: Under which the keyring keeps it, such as the market's address.
            username: For whom, such as the agent's handle.

        Raises:
            MissingKey: The keyring has none, or the package `keyring` is not installed.
            MalformedKey: It holds something else.
        """
        return cls(_kept(service, username))

    def reveal(self) -> str:
        """The key itself. Whatever it is given to must neither show nor keep it."""
        return self.__text

    def __repr__(self) -> str:
        prefix = _KNOWN_PREFIX.match(self.__text)
        return f"<ApiKey {prefix[0] if prefix else ''}…>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ApiKey):
            return NotImplemented
        return hmac.compare_digest(self.__text, other.__text)

    def __hash__(self) -> int:
        return hash((ApiKey, self.__text))

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is not pickled: it would be readable there")


class SigningKey:
    """What an agent signs with: an Ed25519 key.

    Args:
        seed: 32 bytes.

    Raises:
        MalformedKey: It has another size.
    """

    __slots__ = ("__seed", "_public_key")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_SIZE:
            raise MalformedKey(f"the seed of a signing key has {SEED_SIZE} bytes, not {len(seed)}")
        self.__seed = bytes(seed)
        self._public_key = public_key_of(self.__seed)

    @classmethod
    def generate(cls) -> Self:
        """A new one."""
        return cls(generate_secret_key())

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read it from text.

        Args:
            text: The seed in standard padded base64, 44 characters: the `secret_key` of `keygen`.

        Raises:
            MalformedKey: It has another form. The sentence does not repeat it.
        """
        return cls(_seed(text, "this text"))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read it from a file that holds nothing else, as `save` has written it.

        Raises:
            MissingKey: There is no such file.
            UnsafeKeyFile: Others may read the file.
            MalformedKey: It holds something else.
            OSError: It cannot be read.
        """
        return cls(_seed(read_private(path).strip(), os.fspath(path)))

    @classmethod
    def from_environment(cls, name: str = SIGNING_KEY_VARIABLE) -> Self:
        """Read it from an environment variable.

        Raises:
            MissingKey: The variable is not set.
            MalformedKey: It holds something else.
        """
        return cls(_seed(_variable(name), name))

    @classmethod
    def from_keyring(cls, service: str, username: str) -> Self:
        """Read it from the keyring of the person who is logged in. Takes the extra `keyring`.

        Args:
            service: Under which the keyring keeps it, such as the market's address.
            username: For whom, such as the agent's handle.

        Raises:
            MissingKey: The keyring has none, or the package `keyring` is not installed.
            MalformedKey: It holds something else.
        """
        return cls(_seed(_kept(service, username), f"the keyring's {service}"))

    @property
    def public_key(self) -> str:
        """The public key in standard padded base64."""
        return format_public_key(self._public_key)

    @property
    def did(self) -> str:
        """The public key as a `did:key`."""
        return did_from_public_key(self._public_key)

    def reveal(self) -> bytes:
        """The seed itself, 32 bytes. Whatever it is given to must neither show nor keep it."""
        return self.__seed

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a new file that only its owner may read.

        Raises:
            FileExistsError: There is a file already; no key is ever overwritten.
            OSError: It cannot be written.
        """
        create_private(path, f"{format_secret_key(self.__seed)}\n")

    def __repr__(self) -> str:
        return f"<SigningKey {self.did}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SigningKey):
            return NotImplemented
        return hmac.compare_digest(self.__seed, other.__seed)

    def __hash__(self) -> int:
        return hash((SigningKey, self._public_key))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key is not pickled: it would be readable there")


def _seed(text: str, where: str) -> bytes:
    try:
        return parse_secret_key(text)
    except BadSecretKey:
        pass
    raise MalformedKey(f"{where} holds no signing key: 32 bytes in standard padded base64, 44 characters")


def _variable(name: str) -> str:
    text = os.environ.get(name, "").strip()
    if not text:
        raise MissingKey(f"the environment variable {name} is not set")
    return text


def _kept(service: str, username: str) -> str:
    try:
        keyring: Any = importlib.import_module("keyring")
    except ImportError:
        raise MissingKey(
            "reading a keyring takes the package keyring: pip install 'agrenting-client[keyring]'"
        ) from None
    kept = keyring.get_password(service, username)
    if not kept:
        raise MissingKey(f"the keyring has nothing for {username} at {service}")
    return str(kept)
