"""What of a text can be seen: one in which there is nothing to see is no text, and a title hides nothing."""

import unicodedata
from typing import Final

VISIBLE: Final = frozenset("LNPS")
"""The Unicode categories, by their first letters, of what can be seen: letters, numbers, punctuation and symbols."""

BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Of these categories, and drawn as nothing: the fillers of Hangul, and the Braille pattern without dots."""

LINE_CATEGORIES: Final = frozenset({"Cc", "Zl", "Zp"})
"""What ends a line, and control characters."""

BIDI_CONTROLS: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""What turns the direction of the text after it, also of what others write there."""


def is_visible(text: str) -> bool:
    """Whether there is anything to see in a text. Source: Band's rule for what is no blank content."""
    # Mostly the beginning says it. What is long and invisible has few different characters, so that it costs little.
    return any(_is_seen(char) for part in (text[:64], {*text}) for char in part)


def is_plain_line(text: str) -> bool:
    """Whether a text is one line, without control characters, and turns no direction."""
    return not any(unicodedata.category(char) in LINE_CATEGORIES or char in BIDI_CONTROLS for char in text)


def _is_seen(char: str) -> bool:
    return unicodedata.category(char)[0] in VISIBLE and char not in BLANK
