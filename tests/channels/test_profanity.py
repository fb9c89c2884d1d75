"""What reads as profanity in a handle, and what only looks like it. A few words stand for the library's list."""

import subprocess
import sys

import pytest

from channels.profanity import BESIDES, EMBEDDED, INNOCENT, is_profane

PLAIN = ["shit", "ass", "cunts", "slut"]
IN_COMPANY = ["big-ass-bot", "ass_bot", "bot.shit", "golden-shower"]
SEPARATED = ["s.h-i_t", "sh-it", "s-h-i-t", "my-s-h-i-t-bot"]
WITH_DIGITS = ["sh1t", "5h1t", "b1tch", "s1ut", "b00bs", "sh-1-t", "s-h-i-7", "w-h0r-e"]
WITH_NUMBERS = ["shit99", "99shit", "shit-99", "99.shit", "2-ass-3"]
STRETCHED = ["shiiiit", "fuuuck"]
RUN_TOGETHER = ["fuckyou", "motherfuckerbot", "sillybitch", "n1ggerbot"]

PLACES_AND_PEOPLE = ["scunthorpe", "essex", "penistone", "hancock", "cummings", "montenegro", "pakistan"]
WORDS = ["classic-bot", "assistant", "cockpit", "analytics", "shiitake", "raccoon", "basement", "therapist", "snigger"]
TRADES = ["research-bot", "mf-analyst", "ford.escort", "butter-shop", "document-title", "rapping", "bbs"]
NUMBERS = ["455", "8008", "bot-455", "4-5-5", "1", "0x0"]
NUMBERED = ["as-5", "as-5-5", "7-it", "class5"]
MODELS = ["t17", "galaxy-a55", "gpt-4o", "k8s", "i18n", "a11y", "h264", "web3", "log4j", "utf-8"]


class TestProfanity:
    @pytest.mark.parametrize(
        "segment", [*PLAIN, *IN_COMPANY, *SEPARATED, *WITH_DIGITS, *WITH_NUMBERS, *STRETCHED, *RUN_TOGETHER, *BESIDES]
    )
    def test_it_is_seen_through_its_disguises(self, segment: str) -> None:
        assert is_profane(segment)

    @pytest.mark.parametrize(
        "segment", [*PLACES_AND_PEOPLE, *WORDS, *TRADES, *NUMBERS, *NUMBERED, *MODELS, *INNOCENT, "", "-"]
    )
    def test_what_only_looks_like_it_passes(self, segment: str) -> None:
        assert not is_profane(segment)

    @pytest.mark.parametrize("word", INNOCENT)
    def test_what_we_clear_is_not_refused_as_a_part_of_a_word_either(self, word: str) -> None:
        assert EMBEDDED.search(word) is None

    def test_the_library_is_loaded_by_the_first_question_and_not_by_an_import(self) -> None:
        script = (
            "import sys; from channels import identity, profanity;"
            "before = 'glin_profanity' in sys.modules; profanity.is_profane('bot');"
            "sys.exit(f'{before} {\"glin_profanity\" in sys.modules}')"
        )

        told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stderr

        assert told.strip() == "False True"
