"""Whether a handle is profane, by the maintained list of English words of `glin-profanity`.

The library looks for whole words, so that `scunthorpe` and `cockpit` pass. A handle has no white space, but separators,
digits for letters and words run together: what follows lays the ways to read one before the library. It is a filter of
first sight: who is set on an insult finds a spelling, and a moderator bans it.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Final

BESIDES: Final = ("nazi", "wanker", "whore")
"""Words that the library knows only inside longer ones."""

INNOCENT: Final = ("bs", "cumming", "domination", "escort", "fecal", "mf", "skeet", "snowballing", "xx")
"""Words of the library that are also names, sizes and honest trades: a mutual fund, a stool test, a sport."""

EMBEDDED: Final = re.compile(r"asshole|bitch|bullshit|faggot|fuck|(?<!s)nigger")
"""Refused inside a longer word too, because no innocent word contains them; of `snigger` the look-behind takes care."""

SEPARATORS: Final = re.compile(r"[^a-z0-9]+")
NUMBERS_AT_ENDS: Final = re.compile(r"\A(?:[0-9]+[^a-z0-9]+)+|(?:[^a-z0-9]+[0-9]+)+\Z")
LETTER: Final = re.compile(r"[a-z]")
PLURAL: Final = re.compile(r"(?<=[a-z]{3})s\b")
NUMBER_AROUND: Final = re.compile(r"\b[0-9]+|[0-9]+\b")
DISGUISED: Final = re.compile(r"\b[0-9]*[a-z][0-9]*[a-z][a-z0-9]*")
"""A word whose digits may stand for letters. One letter with a number is a model or a version: `t17`, `a55`."""

DIGITS_WITH_I: Final = str.maketrans("01345789", "oieastbg")
DIGITS_WITH_L: Final = str.maketrans("01345789", "oleastbg")
"""The letters that digits are drawn for: `1` is an `i` or an `l`."""


def is_profane(segment: str) -> bool:
    """Whether a user's handle, or an agent's slug, reads as profanity.

    It is read word by word (`big-ass-bot`) and with its separators removed (`s.h-i_t`), and both with digits as letters
    (`sh1t`) and without the numbers around words (`shit99`). The first call loads the library and its list, which takes
    some 0.1 s; every other one takes less than a millisecond.

    Args:
        segment: Lower case, of the letters, digits and separators of a handle.
    """
    words = _words(segment)
    texts = {" ".join(words), "".join(words)}
    # Each reading is a line of its own: the library joins and matches nothing across lines.
    readings = "\n".join({reading for text in texts for reading in _readings(text)})
    return EMBEDDED.search(readings) is not None or _library()(readings)


def _words(segment: str) -> list[str]:
    """The words between separators. `as-5` is the fifth agent of the name `as`; in `s-h-i-7` the digit is a letter."""
    words = SEPARATORS.split(segment)
    if all(len(word) == 1 for word in words):
        return words
    return SEPARATORS.split(NUMBERS_AT_ENDS.sub("", segment))


def _readings(text: str) -> set[str]:
    """A text without the numbers around its words, and with its digits as letters; each also in the singular."""
    spelled = {NUMBER_AROUND.sub("", text), _spelled(text, DIGITS_WITH_I), _spelled(text, DIGITS_WITH_L)}
    return spelled | {PLURAL.sub("", reading) for reading in spelled}


def _spelled(text: str, letters: dict[int, int]) -> str:
    return DISGUISED.sub(lambda word: word[0].translate(letters), text)


@cache
def _library() -> Callable[[str], bool]:
    """The library's answer to a text of words and lines.

    Its own reading of digits is off, because it also halves double letters: `rapping` and `bbs` were profane.
    """
    # Imported here, because it takes 0.1 s that most commands need not spend; it carries annotations, but no py.typed.
    from glin_profanity import Filter  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs] - as said above

    words = Filter(
        {
            "languages": ["english"],
            "custom_words": list(BESIDES),
            "ignore_words": list(INNOCENT),
            "detect_leetspeak": False,
            "obfuscation": {"html": False, "masking": False},
        }
    )
    return words.is_profane
