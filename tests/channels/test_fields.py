import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.fields import (
    parse_capability_names,
    parse_key,
    parse_money,
    parse_name,
    parse_price,
    parse_tags,
    parse_text,
)
from channels.ledger import MONEY_MAX
from channels.limits import Limits
from crypto import did_from_public_key, format_public_key, parse_public_key
from tests.channels.roles import ALICE, BOB, MARKET, market_with, refused

LIMITS = Limits()


class TestMoney:
    @pytest.mark.parametrize(
        ("value", "amount"),
        [
            (0, 0),
            (850, 850),
            (MONEY_MAX, MONEY_MAX),
            ("8.50", 8_500_000),
            ("8", 8_000_000),
            ("0.000001", 1),
            ("0", 0),
            ("0.0", 0),
            ("9007199254.740991", MONEY_MAX),
        ],
    )
    def test_an_integer_is_minor_units_and_a_string_major_ones(self, value: object, amount: int) -> None:
        assert parse_money(value, exponent=6) == amount

    @pytest.mark.parametrize(
        "value",
        [
            8.5,
            8.0,
            True,
            None,
            -1,
            [8],
            MONEY_MAX + 1,
            "9007199254.740992",
            "",
            "-1",
            "+1",
            " 1",
            "1\n",
            "1e3",
            "1E3",
            ".5",
            "5.",
            "1.0000000",
            "0.0000001",
            "01",
            "1,5",
            "1_000",
            "0x10",
            "\u0661",
            "\u0668.\u0665",
            "NaN",
            "9" * 5_000,
        ],
        ids=repr,
    )
    def test_a_float_a_sign_an_exponent_white_space_too_much_and_too_fine_are_refused(self, value: object) -> None:
        refusal = refused(parse_money, value, exponent=6, field="deposit")

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_amount", {"field": "deposit"})

    def test_the_field_is_the_amount_unless_it_is_named(self) -> None:
        assert refused(parse_money, -1, exponent=6).context == {"field": "amount"}

    def test_a_currency_without_decimals_takes_none(self) -> None:
        assert parse_money("8", exponent=0) == 8
        assert refused(parse_money, "8.0", exponent=0).reason == "invalid_amount"

    @given(amount=st.integers(0, MONEY_MAX), exponent=st.integers(0, 8))
    def test_what_is_written_out_in_major_units_comes_back_whole(self, amount: int, exponent: int) -> None:
        whole, fraction = divmod(amount, 10**exponent)
        text = f"{whole}.{fraction:0{exponent}}" if exponent else str(whole)

        assert parse_money(text, exponent=exponent) == parse_money(amount, exponent=exponent) == amount


class TestPrices:
    @pytest.mark.parametrize(("value", "price"), [(None, None), (0, 0), ("1.5", 1_500_000), (10**15, 10**15)])
    def test_a_price_is_money_up_to_the_largest_price(self, value: int | str | None, price: int | None) -> None:
        assert parse_price(value, field="base_price", market=MARKET) == price

    @pytest.mark.parametrize("value", [10**15 + 1, -1, "1e3", "1000000000.000001"])
    def test_any_other_is_refused_with_the_field_and_the_largest_price(self, value: int | str) -> None:
        refusal = refused(parse_price, value, field="base_price", market=MARKET)

        assert (refusal.kind, refusal.reason) == ("invalid", "invalid_price")
        assert refusal.context == {"field": "base_price", "price_max": 10**15}

    def test_the_largest_price_is_a_setting(self) -> None:
        assert refused(parse_price, 11, field="price", market=market_with(price_max=10)).context["price_max"] == 10


class TestText:
    def test_white_space_around_it_goes_and_inside_it_stays(self) -> None:
        assert parse_text("  two\n\tlines \n", field="description", chars_max=20) == "two\n\tlines"
        assert parse_text("x", field="description", chars_max=1) == "x"

    @pytest.mark.parametrize("text", ["", " \n\t", "x" * 21])
    def test_nothing_and_too_much_are_refused(self, text: str) -> None:
        refusal = refused(parse_text, text, field="description", chars_max=20)

        assert (refusal.kind, refusal.reason, refusal.context) == (
            "invalid",
            "invalid_payload",
            {"field": "description"},
        )

    @pytest.mark.parametrize(
        "text", ["a\x00b", "a\x1bb", "a\x7fb", "a\ud800b"], ids=["nul", "escape", "delete", "surrogate"]
    )
    def test_control_characters_and_lone_surrogates_are_refused(self, text: str) -> None:
        assert refused(parse_text, text, field="description", chars_max=20).reason == "invalid_payload"

    @pytest.mark.parametrize("text", ["翻译", "👩‍💻", "naïve", "a\u00a0b"])
    def test_every_script_and_emoji_is_text(self, text: str) -> None:
        assert parse_text(text, field="description", chars_max=20) == text

    def test_a_name_is_one_line_with_single_spaces(self) -> None:
        assert parse_name("  Research \n\u2028 Bot ", field="name") == "Research Bot"
        assert parse_name("x" * 100, field="name") == "x" * 100

    @pytest.mark.parametrize("name", ["", " ", "x" * 101, "a\x00b"])
    def test_a_blank_or_long_name_is_refused(self, name: str) -> None:
        assert refused(parse_name, name, field="name").context == {"field": "name"}


class TestTags:
    def test_tags_are_lowered_and_stand_once_in_the_order_given(self) -> None:
        assert parse_tags(["Text", "b2b", "text", "a_b-c"], LIMITS, field="tags") == ("text", "b2b", "a_b-c")

    @pytest.mark.parametrize("tag", ["", "-a", "_a", "a b", "ü", "x" * 17, "a\n", "a,b"])
    def test_a_tag_of_another_form_is_refused(self, tag: str) -> None:
        refusal = refused(parse_tags, ["fine", tag], LIMITS, field="filters.tags")

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "filters.tags"})

    def test_sixteen_tags_of_sixteen_characters_and_no_more(self) -> None:
        tags = [f"{number:016}" for number in range(17)]

        assert len(parse_tags(tags[:16], LIMITS, field="tags")) == 16
        assert refused(parse_tags, tags, LIMITS, field="tags").reason == "invalid_payload"


class TestCapabilityNames:
    def test_names_are_kept_as_they_are(self) -> None:
        assert parse_capability_names(["translate", "a-b_c", "0", "_", "x" * 64], LIMITS)[-1] == "x" * 64

    @pytest.mark.parametrize("name", ["", "Translate", "a b", "x" * 65, "a\n", "a.b", "ü"])
    def test_a_name_of_another_form_is_refused_by_its_place(self, name: str) -> None:
        refusal = refused(parse_capability_names, ["fine", name], LIMITS)

        assert (refusal.kind, refusal.reason, refusal.context) == (
            "invalid",
            "invalid_capability",
            {"field": "capabilities.1"},
        )

    def test_each_stands_once_and_there_are_at_most_fifty(self) -> None:
        names = [f"c{number}" for number in range(51)]

        assert len(parse_capability_names(names[:50], LIMITS)) == 50
        for wrong in (names, ["a", "b", "a"]):
            refusal = refused(parse_capability_names, wrong, LIMITS)
            assert (refusal.reason, refusal.context) == ("invalid_capability", {"field": "capabilities"})


class TestKeys:
    KEY = ALICE.agent.public_key or ""
    DID = did_from_public_key(parse_public_key(KEY))

    def test_either_form_or_both_or_none_is_a_key_in_base64(self) -> None:
        for public_key, did in ((self.KEY, None), (None, self.DID), (self.KEY, self.DID), (self.DID, None)):
            assert parse_key(public_key=public_key, did=did) == self.KEY
        assert parse_key(public_key=None, did=None) is None

    def test_two_forms_of_different_keys_are_refused(self) -> None:
        refusal = refused(parse_key, public_key=BOB.agent.public_key, did=self.DID)

        assert (refusal.kind, refusal.reason, refusal.context) == (
            "invalid",
            "invalid_public_key",
            {"field": "public_key"},
        )

    @pytest.mark.parametrize(
        ("public_key", "did"),
        [
            ("", None),
            ("not a key", None),
            (KEY[:-1], None),
            (format_public_key(bytes(32)), None),  # A point of small order, under which forged signatures verify.
            (None, KEY),
            (None, ""),
            (None, "did:web:example.org"),
            (KEY, "did:key:z"),
        ],
    )
    def test_what_is_no_key_is_refused(self, public_key: str | None, did: str | None) -> None:
        assert refused(parse_key, public_key=public_key, did=did).reason == "invalid_public_key"
