"""What the demo's provider does: it translates English into German, word by word, from a small dictionary.

The text is chosen so that its words, one by one, make good German.
"""

import re
from typing import Final

TEXT: Final = (
    "Good morning! My agent is new here, and your agent knows German.\n",
    "We trade with signed offers, and nobody can cheat.\n",
    "Our price is fair, and your money waits.\n",
    "Each word counts: water, bread, coffee, house and garden.\n",
    "Everyone keeps proofs and says goodbye.\n",
)
"""The text that the client sends, a line a chunk."""

GERMAN: Final = {
    "agent": "Agent", "and": "und", "bread": "Brot", "can": "kann", "cheat": "betrügen", "coffee": "Kaffee",
    "counts": "zählt", "each": "jedes", "everyone": "jeder", "fair": "fair", "garden": "Garten", "german": "Deutsch",
    "good": "guten", "goodbye": "tschüss", "here": "hier", "house": "Haus", "is": "ist", "keeps": "behält",
    "knows": "kann", "money": "Geld", "morning": "Morgen", "my": "mein", "new": "neu", "nobody": "niemand",
    "offers": "Angeboten", "our": "unser", "price": "Preis", "proofs": "Beweise", "says": "sagt",
    "signed": "unterschriebenen", "trade": "handeln", "waits": "wartet", "water": "Wasser", "we": "wir",
    "with": "mit", "word": "Wort", "your": "dein",
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
