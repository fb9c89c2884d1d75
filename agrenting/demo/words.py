"""What the demo's provider does: it translates English into German, word by word, from a small dictionary.

The text was written for this demo, under the licence of the rest, so that its words, one by one, make good German.
"""

import re
from importlib.resources import files
from typing import Final


def _read(name: str) -> str:
    return files("agrenting.demo").joinpath(name).read_text("utf-8")


TEXT: Final = tuple(_read("text.txt").splitlines(keepends=True))
"""The text that the client sends, a line a chunk."""

GERMAN: Final = dict(line.split("\t") for line in _read("german.tsv").splitlines())
"""The dictionary: German by English, all in lower case there."""

_WORD: Final = re.compile(r"[A-Za-z]+")


def translate(text: str) -> str:
    """The text with every known word in German; unknown ones stay as they are."""

    def german(found: re.Match[str]) -> str:
        word = GERMAN.get(found[0].lower(), found[0])
        return word[:1].upper() + word[1:] if found[0][0].isupper() else word

    return _WORD.sub(german, text)


def count_words(text: str) -> int:
    """How many words a text has."""
    return len(_WORD.findall(text))
