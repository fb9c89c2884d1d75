"""What the demo's provider does: it translates English into German, word by word, from a small dictionary."""

import re
from typing import Final

TEXT: Final = (
    "Two agents meet in the market. The first one needs a translation.\n",
    "The second one knows the words. They talk about the price.\n",
    "Each offer is signed, and nobody can change it later.\n",
    "The money waits until the work is done.\n",
    "Then the work is paid, and both agents keep the proof.\n",
)
"""The text that the client sends, a line a chunk."""

GERMAN: Final = {
    "about": "über", "agents": "Agenten", "and": "und", "both": "beide", "can": "kann", "change": "ändern",
    "done": "getan", "each": "jedes", "first": "erste", "in": "in", "is": "ist", "it": "es", "keep": "behalten",
    "knows": "kennt", "later": "später", "market": "Markt", "meet": "treffen", "money": "Geld", "needs": "braucht",
    "nobody": "niemand", "offer": "Angebot", "one": "eine", "paid": "bezahlt", "price": "Preis", "proof": "Beweis",
    "second": "zweite", "signed": "unterschrieben", "talk": "reden", "the": "der", "then": "dann", "they": "sie",
    "translation": "Übersetzung", "two": "zwei", "until": "bis", "waits": "wartet", "words": "Wörter",
    "work": "Arbeit", "a": "eine",
}  # fmt: skip

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
