"""What the demo prints: a line a step, who did it, and tables of money."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

COLOURS: Final = {
    "market": "36", "client": "32", "provider": "35", "rival": "34", "owner": "96", "stranger": "31", "frame": "2",
    "title": "33",
}  # fmt: skip
OTHERS: Final = "0"
"""Of whoever has no colour of its own."""

ACTOR_WIDTH: Final = 8
FRAME_CHARS_MAX: Final = 160


class Show:
    """Prints steps as they happen; in colour on a terminal that knows colours, unless NO_COLOR is set.

    Args:
        verbose: Print every frame too.
        environment: The process's environment by default.
    """

    def __init__(self, *, verbose: bool, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        is_plain = bool(environment.get("NO_COLOR")) or environment.get("TERM") == "dumb"
        self.verbose = verbose
        self._is_coloured = sys.stdout.isatty() and not is_plain
        self._started = time.monotonic()
        self._is_apart = False
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # Better a question mark than no demo where there is no "…".

    def step(self, actor: str, text: str) -> None:
        """Something that somebody did."""
        elapsed_s = time.monotonic() - self._started
        self.text(f"{elapsed_s:6.2f} s  {self._paint(actor, actor.ljust(ACTOR_WIDTH))}  {text}")

    def title(self, text: str) -> None:
        """A new part of the story, with one empty line before it."""
        if not self._is_apart:
            self.text("")
        self.text(f"          {self._paint('title', text)}")

    def frame(self, actor: str, direction: str, frame: str) -> None:
        """A frame on somebody's socket, cut off where it is long."""
        if self.verbose:
            shown = frame if len(frame) <= FRAME_CHARS_MAX else frame[:FRAME_CHARS_MAX] + "…"
            self.text(self._paint("frame", f"          {actor.ljust(ACTOR_WIDTH)}  {direction} {shown}"))

    def table(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Names and amounts, aligned."""
        width = max(len(amount) for _, amount in rows)
        self.listing(title, [(name, amount.rjust(width)) for name, amount in rows])

    def listing(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Names, and what belongs to each."""
        width = max(len(name) for name, _ in rows)
        lines = [f"            {name.ljust(width)}  {text}" for name, text in rows]
        self.title(title)
        self.text("\n".join([*lines, ""]))
        self._is_apart = True

    def text(self, text: str) -> None:
        """A line as it is."""
        print(text, flush=True)
        self._is_apart = False

    def _paint(self, name: str, text: str) -> str:
        return f"\x1b[{COLOURS.get(name, OTHERS)}m{text}\x1b[0m" if self._is_coloured else text


def major(amount: int, *, currency: str, exponent: int) -> str:
    """An amount of minor units for people: `USD 8.50`, with at least two decimals where the currency has them."""
    sign, digits = "-" if amount < 0 else "", str(abs(amount)).rjust(exponent + 1, "0")
    if exponent == 0:
        return f"{currency} {sign}{digits}"
    whole, fraction = digits[:-exponent], digits[-exponent:].rstrip("0").ljust(min(2, exponent), "0")
    return f"{currency} {sign}{whole}.{fraction}"
