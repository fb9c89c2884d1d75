"""`agrenting top`: the numbers of the whole market in a terminal, again and again.

They come from the data folder, whether or not a server runs on it: what `global_stats` and `request_metrics` tell on
`analytics:global`. In a pipe there are no escape codes.
"""

import argparse
import math
import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, TextIO

import msgspec

from agrenting.clock import system_clock
from agrenting.commands import Answer, CommandError
from agrenting.config import Settings
from agrenting.db import analytics
from agrenting.db.transaction import Tx
from agrenting.folder import Folder
from agrenting.market import known_market
from channels.scopes import GLOBAL

INTERVAL_S: Final = 2.0
INTERVAL_MIN_S: Final = 0.1

PERIODS: Final = ("24h", "1h", "all", "7d", "30d")
"""The columns that are shown, the most wanted ones first: as many as fit."""

IN_ORDER: Final = ("1h", "24h", "7d", "30d", "all")
COLUMNS_MIN: Final = 2
"""So many columns are shown however narrow the terminal is."""

LABEL_WIDTH: Final = 16
PERCENT: Final = 100

NOTHING: Final = "–"
KEYS_THAT_END: Final = frozenset("qQ\x1b\x03\x04")
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"
OPEN_SCREEN, CLOSE_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
HOME, CLEAR_LINE, CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
FAILED: Final = 1


class Snapshot(msgspec.Struct, frozen=True):
    """The whole market at one time.

    Args:
        stats: What `global_stats` tells.
        metrics: What `request_metrics` answers, by period.
    """

    stats: dict[str, Any]
    metrics: dict[str, dict[str, Any]]


def top(chosen: argparse.Namespace, settings: Settings) -> Answer | int:
    """Show the numbers until Ctrl-C or q, or once.

    Raises:
        CommandError: There is no market in the folder, or the interval is none.
    """
    interval_s = INTERVAL_S if chosen.interval is None else chosen.interval
    if not (math.isfinite(interval_s) and interval_s >= INTERVAL_MIN_S):
        raise CommandError(f"an interval is {INTERVAL_MIN_S} s at least")
    if not settings.database_path.exists():
        raise CommandError(f"there is no database in {settings.folder}; name a data folder with --data-dir")
    folder = Folder(settings)

    def look() -> Snapshot:
        return folder.look(lambda tx: _snapshot(tx, settings, now=system_clock()))

    if chosen.once or (chosen.json and chosen.interval is None):
        snapshot = look()
        return Answer("\n".join(_lines_of(snapshot, settings)), msgspec.to_builtins(snapshot))
    screen = Screen(sys.stdin, sys.stdout, is_plain=chosen.json)
    try:
        with screen.open():
            while True:
                snapshot = look()
                as_json = [msgspec.json.encode(snapshot).decode()]
                screen.put(as_json if chosen.json else _lines_of(snapshot, settings))
                if screen.wait(interval_s):
                    return 0
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:  # Whoever reads has seen enough; nothing more is to be flushed at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _lines_of(snapshot: Snapshot, settings: Settings) -> list[str]:
    return lines(snapshot, width=shutil.get_terminal_size().columns, folder=str(settings.folder))


def _snapshot(tx: Tx, settings: Settings, *, now: datetime) -> Snapshot:
    market = known_market(tx, settings)
    if market is None:
        raise CommandError(f"no server was ever started on {settings.folder}")
    found = {period: analytics.metrics(tx, GLOBAL, now=now, market=market, period=period) for period in PERIODS}
    return Snapshot(analytics.global_stats(tx, now=now, market=market), found)


class Screen:
    """Where snapshots are put: a terminal, whose top they keep; or a pipe, where one follows the other.

    Args:
        keys: What is typed comes from there, where that is a terminal too.
        out: Where they are put.
        is_plain: Nothing but text, also on a terminal.
    """

    def __init__(self, keys: TextIO, out: TextIO, *, is_plain: bool) -> None:
        self._keys = keys
        self._out = out
        self._is_live = out.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not is_plain
        self._hears = self._is_live and keys.isatty()
        self._is_apart = not is_plain
        self._has_begun = False

    @contextmanager
    def open(self) -> Generator[None, None, None]:
        """Take a terminal over, and give it back as it was."""
        if not self._is_live:
            yield
            return
        before = termios.tcgetattr(self._keys) if self._hears else None
        ending = signal.signal(signal.SIGTERM, signal.default_int_handler)
        self._out.write(OPEN_SCREEN)
        try:
            if before is not None:
                tty.setcbreak(self._keys)
            yield
        finally:
            if before is not None:
                termios.tcsetattr(self._keys, termios.TCSADRAIN, before)
            self._out.write(CLOSE_SCREEN)
            self._out.flush()
            signal.signal(signal.SIGTERM, ending)

    def put(self, texts: list[str]) -> None:
        """Show lines: instead of those before, or below them with an empty line between."""
        if self._is_live:
            shown = texts[: shutil.get_terminal_size().lines]
            self._out.write(HOME + "\n".join(f"{_dressed(text)}{CLEAR_LINE}" for text in shown) + CLEAR_BELOW)
        else:
            between = [""] if self._has_begun and self._is_apart else []
            self._out.write("\n".join([*between, *texts]) + "\n")
        self._has_begun = True
        self._out.flush()

    def wait(self, seconds: float) -> bool:
        """Wait for the next snapshot; whether a key was pressed that ends it all."""
        if not self._hears:
            select.select([], [], [], seconds)
            return False
        ready, _, _ = select.select([self._keys], [], [], seconds)
        return bool(ready) and os.read(self._keys.fileno(), 1).decode(errors="replace") in {*KEYS_THAT_END, ""}


def _dressed(text: str) -> str:
    """A line for a terminal: headings in bold, unless colours are not wanted."""
    if os.environ.get("NO_COLOR") or not text or text.startswith(" "):
        return text
    return f"{BOLD}{text}{PLAIN}"


# What is shown.


def lines(snapshot: Snapshot, *, width: int, folder: str) -> list[str]:
    """A snapshot for people, in lines no wider than a terminal of 60 columns or more, as long as amounts are sane.

    Args:
        snapshot: What is shown.
        width: Columns.
        folder: Named in the first line, if there is room.
    """
    stats = snapshot.stats
    title = f"agrenting top  {stats['at']:%Y-%m-%d %H:%M:%S} UTC"
    whole = f"{title}  {folder}"
    return [whole if len(whole) <= width else title, "", *_present(stats), "", *_over(snapshot, width)]


def _present(stats: dict[str, Any]) -> list[str]:
    """The market as it is now."""
    rows = {
        "agents online": f"{stats['online_agents']:,} of {stats['total_agents']:,}",
        "tasks open": f"{stats['active_tasks']:,} of {stats['total_tasks']:,}",
        "tasks a minute": f"{stats['tasks_per_minute']:,.2f}",
        "volume of 24 h": f"{stats['currency']} {_money(stats['volume_24h'], stats['exponent'])}",
        "system load": f"{stats['system_load'] * PERCENT:.0f} %",
    }
    width = max(len(text) for text in rows.values())
    return ["Now", *(f"  {name.ljust(LABEL_WIDTH)}{text.rjust(width)}" for name, text in rows.items())]


def _over(snapshot: Snapshot, width: int) -> list[str]:
    """What has happened, a column a period: as many as fit."""
    columns = {period: _column(snapshot.metrics[period]) for period in PERIODS}
    labels = [*columns[PERIODS[0]]]
    label_width = max(len(label) for label in labels) + 2
    column_width = max(len(text) for column in columns.values() for text in column.values()) + 2
    count = max(COLUMNS_MIN, (width - label_width) // column_width)
    shown = [period for period in IN_ORDER if period in PERIODS[:count]]
    return [
        label.ljust(label_width) + "".join(columns[period][label].rjust(column_width) for period in shown)
        for label in labels
    ]


def _column(metrics: dict[str, Any]) -> dict[str, str]:
    """The texts of one period by their labels; the heading first."""

    def count(field: str) -> str:
        return f"{metrics[field]:,}"

    def money(field: str) -> str:
        return _money(metrics[field], metrics["exponent"])

    period, unit = metrics["period"], metrics["currency"]
    rate = metrics["success_rate"]
    return {
        "Over": "all time" if period == "all" else f"{period[:-1]} {period[-1]}",
        "  tasks opened": count("tasks_total"),
        "  tasks completed": count("tasks_completed"),
        "  tasks failed": count("tasks_failed"),
        "  tasks cancelled": count("tasks_cancelled"),
        "  success rate": NOTHING if rate is None else f"{rate * PERCENT:.1f} %",
        "  time taken, p50": _duration(metrics["p50_execution_time_ms"]),
        "  time taken, p95": _duration(metrics["p95_execution_time_ms"]),
        "  time taken, p99": _duration(metrics["p99_execution_time_ms"]),
        f"  revenue, {unit}": money("revenue_gross"),
        f"  fees, {unit}": money("fees"),
        f"  net, {unit}": money("revenue_net"),
        "  negotiations begun": count("negotiations_started"),
        "  negotiations agreed": count("negotiations_completed"),
        "  transfers": count("transfers_in"),
        f"  transferred, {unit}": money("transfers_in_amount"),
        "  messages": count("messages_in"),
    }


def _duration(ms: int | None) -> str:
    if ms is None:
        return NOTHING
    for unit, length_ms in (("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if ms >= length_ms:
            return f"{ms / length_ms:,.1f} {unit}"
    return f"{ms} ms"


def _money(amount: int, exponent: int) -> str:
    """An amount of minor units in whole ones, with two decimals at most; half a one of the last is rounded away from 0.

    `--json` has the exact amounts.
    """
    decimals = min(2, exponent)
    step: int = 10 ** (exponent - decimals)
    rounded = (2 * abs(amount) + step) // (2 * step)  # Exact up to there, whatever the amount is.
    sign = "-" if amount < 0 and rounded else ""
    whole, fraction = divmod(rounded, 10**decimals)
    return f"{sign}{whole:,}.{fraction:0{decimals}d}" if decimals else f"{sign}{whole:,}"
