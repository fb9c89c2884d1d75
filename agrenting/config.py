"""Settings: every limit and switch with its unit and default, from the environment or a TOML file.

Precedence: command line, then environment (`AGRENTING_…`), then the TOML file, then the default. An unknown setting is
an error, not ignored. `agrenting config` prints what is in force.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import msgspec

from channels.ledger import BASIS_POINTS
from channels.limits import Limits

EXPONENT_MAX, ROUNDS_MAX, PRICE_MAX = 18, 10, 10**15
ENVIRONMENT_PREFIX = "AGRENTING_"
ENVIRONMENT_ONLY = frozenset(
    {
        "AGRENTING_CONFIG",
        # Of agents and their owners, who may sit at the same machine.
        "AGRENTING_AGENT",
        "AGRENTING_API_KEY",
        "AGRENTING_OWNER_KEY",
        "AGRENTING_SIGNING_KEY",
        "AGRENTING_STATE_DIR",
        "AGRENTING_URL",
    }
)
LOG_LEVELS = ("debug", "info", "warning", "error")
PORT_MAX = 65_535
ABOVE_ZERO = ("_s", "_max", "_burst")
"""How the names of settings end that bound or time something: none of them works at 0 or below."""

MAY_BE_ZERO = ("drain_s", "ledger_check_s")
"""But for these, of which 0 has a meaning."""


class SettingsError(Exception):
    """A setting that does not exist, or a value that does not fit; the sentence says which and what would."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of one server.

    Args:
        data_dir: The folder of the database, the server key and the lock.
        host, port: Where to listen; port 0 takes a free one.
        signing_domain: Goes into every signed message. Empty: a random one is made at the first start. Fixed then.
        currency, exponent: The money unit: 1 is 10^-exponent of the currency. Fixed at the first start.
        fee_bps: The platform's part of a completed task, in basis points of its price.
        topics: Python modules that add topics of an operator's own.
        allowed_origins: Web origins whose pages may open sockets and call REST; empty: none but the server's own.
        trusted_proxies: Addresses whose X-Forwarded-For is believed; empty: none.
        frame_bytes_max: The largest frame a socket may send; beyond it the socket is closed (1009).
        body_bytes_max: The largest REST body.
        topics_per_socket_max: Topics that one socket may have joined, but for those of chat rooms.
        room_topics_per_socket_max: Topics of chat rooms that it may have joined, two for each room.
        outbox_bytes_max: What may wait for a socket that does not read; beyond it the socket is closed (1013).
        inbox_frames_max: Frames of one socket under way at most; beyond it the socket is not read for a while.
        inbox_bytes_max: Their bytes at most, likewise.
        socket_idle_s: A socket that has sent nothing for so long is closed.
        join_timeout_s: A join that has not been answered by then is refused (`join timeout`).
        drain_s: Over how many seconds sockets are closed when the server stops.
        message_repeats_s: When a message that a socket was pushed and that is not acknowledged is pushed to it again:
            one time at least, rising.
        private_grace_s: How long a member of a private channel may be without a socket until it has left.
        private_restart_grace_s: How long, after a start of the server.
        private_failures_*: Joins of a private channel that are refused: beyond it no token is looked at.
        dacp_heartbeat_s: How often a socket that speaks FDC3's messages is asked whether it lives.
        session_ttl_s: How long a session token lives.
        idempotency_ttl_s: How long an idempotency key is remembered.
        commit_batch_max: Changes that share one commit at most.
        busy_timeout_s: How long a commit waits for another process that writes to the same file.
        timer_poll_s: How often due timers, and changes by other processes, are looked for.
        ledger_check_s: How often it is checked beside everything else that the ledger adds up; 0: never.
        *_per_s, *_burst: Token buckets: so many a second for ever, and so many at once. See PROTOCOL.md, "Rate limits".
        on_metrics: Whether `/metrics` answers.
        on_dashboard: Whether the dashboard is served at `/`.
        log_format: `console` or `json`.
        log_level: `debug`, `info`, `warning` or `error`.
    """

    data_dir: str = "./var"
    host: str = "127.0.0.1"
    port: int = 4000
    signing_domain: str = ""
    currency: str = "USD"
    exponent: int = 6
    fee_bps: int = 500
    topics: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    frame_bytes_max: int = 1_048_576
    body_bytes_max: int = 1_048_576
    topics_per_socket_max: int = 100
    room_topics_per_socket_max: int = 2_000
    outbox_bytes_max: int = 1_048_576
    inbox_frames_max: int = 1_024
    inbox_bytes_max: int = 4_194_304
    socket_idle_s: float = 60.0
    join_timeout_s: float = 10.0
    drain_s: float = 5.0
    message_repeats_s: tuple[float, ...] = (5.0, 10.0, 20.0, 40.0)
    private_grace_s: float = 5.0
    private_restart_grace_s: float = 60.0
    private_failures_per_s: float = 0.2
    private_failures_burst: float = 10.0
    dacp_heartbeat_s: float = 20.0
    session_ttl_s: int = 86_400
    idempotency_ttl_s: int = 86_400
    commit_batch_max: int = 512
    busy_timeout_s: float = 10.0
    timer_poll_s: float = 1.0
    ledger_check_s: float = 300.0
    control_per_s: float = 200.0
    control_burst: float = 400.0
    stream_bytes_per_s: float = 33_554_432.0
    stream_bytes_burst: float = 67_108_864.0
    chain_bytes_per_s: float = 262_144.0
    chain_bytes_burst: float = 4_194_304.0
    message_bytes_per_s: float = 262_144.0
    message_bytes_burst: float = 8_388_608.0
    discovery_per_s: float = 50.0
    discovery_burst: float = 200.0
    joins_per_s: float = 100.0
    joins_burst: float = 300.0
    connects_per_s: float = 200.0
    connects_burst: float = 2_000.0
    bad_credentials_per_s: float = 1.0
    bad_credentials_burst: float = 60.0
    on_metrics: bool = True
    on_dashboard: bool = True
    log_format: str = "console"
    log_level: str = "info"
    limits: Limits = Limits()

    @property
    def folder(self) -> Path:
        """The data folder as a path."""
        return Path(self.data_dir)

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return self.folder / "agrenting.sqlite3"

    @property
    def server_key_path(self) -> Path:
        """The platform's signing seed, in base64, readable by its owner alone."""
        return self.folder / "server.key"


def load_settings(
    overrides: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    path: Path | None = None,
) -> Settings:
    """Settings from a TOML file, the environment and overrides, in rising precedence.

    Args:
        overrides: Values of the command line; None values are left out.
        environment: The process's environment by default. A list is JSON; limits are `AGRENTING_LIMITS_…`.
        path: The TOML file; by default what `AGRENTING_CONFIG` names, if it does.

    Raises:
        SettingsError: An unknown setting, or a value of the wrong type, or a file that cannot be read.
    """
    environment = os.environ if environment is None else environment
    named = environment.get("AGRENTING_CONFIG")
    path = path or (Path(named) if named else None)
    merged: dict[str, Any] = _from_toml(path) if path else {}
    limits: Any = merged.pop("limits", {})
    if not isinstance(limits, dict):
        raise SettingsError("limits is a table of settings")
    limits = cast("dict[str, Any]", {**limits})
    for name, text in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name in ENVIRONMENT_ONLY:
            continue
        field = name.removeprefix(ENVIRONMENT_PREFIX).lower()
        if field == "limits":
            raise SettingsError(f"unknown setting: {name}. Limits are set one by one, as in {name}_TASKS_OPEN_MAX.")
        if field.startswith("limits_"):
            limits[field.removeprefix("limits_")] = _value(text)
        else:
            merged[field] = _value(text)
    merged.update({name: value for name, value in (overrides or {}).items() if value is not None})
    unknown = sorted({*merged} - {*Settings.__struct_fields__}) + [
        f"limits.{name}" for name in sorted({*limits} - {*Limits.__struct_fields__})
    ]
    if unknown:
        raise SettingsError(f"unknown setting: {', '.join(unknown)}. `agrenting config` lists them all.")
    try:
        settings = msgspec.convert({**merged, "limits": limits}, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"a setting does not fit: {error}") from error
    _require_ranges(settings)
    return settings


def _require_ranges(settings: Settings) -> None:
    """Refuse what types do not: receipts of an agreement hold just these (crypto/SIGNING.md).

    Raises:
        SettingsError: The sentence names the setting and its range.
    """
    if settings.log_format not in {"console", "json"}:
        raise SettingsError("log_format is console or json")
    _require_workable(settings)
    if not 0 <= settings.exponent <= EXPONENT_MAX:
        raise SettingsError(f"exponent is between 0 and {EXPONENT_MAX}")
    if not re.fullmatch(r"[!-~]{1,16}", settings.currency):
        raise SettingsError("currency has 1-16 visible ASCII characters")
    if settings.signing_domain and not re.fullmatch(r"[a-z0-9.-]{1,253}", settings.signing_domain):
        raise SettingsError("signing_domain has 1-253 of a-z, 0-9, . and -")
    if not 0 <= settings.fee_bps <= BASIS_POINTS:
        raise SettingsError(f"fee_bps is between 0 and {BASIS_POINTS}")
    if not 1 <= settings.limits.rounds_per_side_max <= ROUNDS_MAX:
        raise SettingsError(f"limits.rounds_per_side_max is between 1 and {ROUNDS_MAX}")
    if not 1 <= settings.limits.price_max <= PRICE_MAX:
        raise SettingsError(f"limits.price_max is between 1 and {PRICE_MAX}")
    if not 0 <= settings.limits.hold_default_s <= settings.limits.hold_max_s:
        raise SettingsError("limits.hold_default_s is between 0 and limits.hold_max_s")


def _require_workable(settings: Settings) -> None:
    """Refuse sizes, rates and times with which nothing would work.

    Raises:
        SettingsError: The sentence names the setting and its range.
    """
    if settings.log_level not in LOG_LEVELS:
        raise SettingsError(f"log_level is one of {', '.join(LOG_LEVELS)}")
    if not 0 <= settings.port <= PORT_MAX:
        raise SettingsError(f"port is between 0 and {PORT_MAX}")
    for name in MAY_BE_ZERO:
        if not getattr(settings, name) >= 0:
            raise SettingsError(f"{name} is not below 0")
    if not settings.message_repeats_s or not _rises(settings.message_repeats_s):
        raise SettingsError("message_repeats_s has one time at least, and each is later than the one before: [5, 10]")
    for name in Settings.__struct_fields__:
        if name.endswith(ABOVE_ZERO) and name not in MAY_BE_ZERO and not _are_above_zero(getattr(settings, name)):
            raise SettingsError(f"{name} is above 0")


def _are_above_zero(value: float | tuple[float, ...]) -> bool:
    return all(one > 0 for one in value) if isinstance(value, tuple) else value > 0


def _rises(times_s: tuple[float, ...]) -> bool:
    return all(earlier < later for earlier, later in pairwise(times_s))


def _from_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the settings in {path}: {error}") from error


def _value(text: str) -> Any:
    """A list is JSON; everything else is text that the field's type converts."""
    if text.startswith(("[", "{")):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise SettingsError(f"not JSON: {text!r}: {error}") from error
    return text
