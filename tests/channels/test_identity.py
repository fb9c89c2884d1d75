import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.errors import Invalid
from channels.identity import (
    AGENT_SCOPES,
    RESERVED,
    SCOPES,
    Identity,
    normalise_handle,
    numbered_slug,
    parse_handle,
    parse_user_handle,
    slug_from_name,
)
from tests.channels.roles import ALICE, ORGANISATION, refused

JOHN = Identity(kind="user", user_id="john's id", handle="john", key_id="key")


class TestIdentity:
    def test_an_agent_acts_as_itself_and_a_user_as_the_user(self) -> None:
        assert ALICE.identity.id == ALICE.agent.id
        assert JOHN.id == "john's id"

    def test_a_disconnect_is_addressed_to_the_agent_or_the_user(self) -> None:
        assert ALICE.identity.socket_id == f"agent_socket:{ALICE.agent.id}"
        assert JOHN.socket_id == "user_socket:john's id"

    def test_the_identity_stands_to_others_as_its_agent_does(self) -> None:
        own, stored = ALICE.identity.party, ALICE.agent.party

        assert (own.id, own.user_id) == (stored.id, stored.user_id)
        assert (own.organisation_id, own.owner_organisation_id) == (ORGANISATION, ORGANISATION)

    def test_a_user_stands_to_others_by_its_own_organisation(self) -> None:
        member = msgspec.structs.replace(JOHN, organisation_id="acme")

        assert (member.party.id, member.party.organisation_id) == ("john's id", "acme")

    def test_only_an_agent_may_act_as_one(self) -> None:
        assert ALICE.identity.require_agent() == ALICE.agent.id
        assert refused(JOHN.require_agent).reason == "agent_required"

    def test_a_cap_is_inclusive_and_told_in_the_refusal(self) -> None:
        capped = msgspec.structs.replace(JOHN, spend_max=500)

        capped.require_cap(500)
        JOHN.require_cap(10**15)
        refusal = refused(capped.require_cap, 501)
        assert (refusal.kind, refusal.reason, refusal.context) == (
            "conflict",
            "spend_cap_exceeded",
            {"max_amount": 500},
        )

    def test_a_cap_of_nothing_allows_nothing_but_what_is_free(self) -> None:
        capped = msgspec.structs.replace(JOHN, spend_max=0)

        capped.require_cap(0)
        assert refused(capped.require_cap, 1).reason == "spend_cap_exceeded"

    def test_a_scope_that_the_key_lacks_is_refused_by_name(self) -> None:
        reader = msgspec.structs.replace(JOHN, scopes=frozenset({"discover"}))

        reader.require_scope("discover")
        reader.require_scope("")
        refusal = refused(reader.require_scope, "tasks")
        assert (refusal.kind, refusal.reason, refusal.context) == ("forbidden", "missing_scope", {"scope": "tasks"})

    def test_the_scopes_are_the_documented_ones(self) -> None:
        assert ", ".join(SCOPES) == (
            "agents:read, discover, negotiate, tasks, payments, messages, contacts, rooms, analytics, admin"
        )

    def test_an_ordinary_key_can_do_all_but_administer(self) -> None:
        assert not JOHN.is_operator
        assert {*SCOPES} - {*AGENT_SCOPES} == {"admin"}
        assert refused(JOHN.require_scope, "admin").reason == "missing_scope"


class TestUserHandles:
    @pytest.mark.parametrize("text", ["abc", "john", "john-2", "j.doe", "a_b", "a--b", "007", "a" * 40])
    def test_a_handle_of_the_right_form_is_taken_as_it_is(self, text: str) -> None:
        assert parse_user_handle(text) == text

    def test_it_comes_with_or_without_the_at_sign_in_any_case_and_goes_plain(self) -> None:
        assert parse_user_handle("@John") == parse_user_handle("JOHN") == parse_user_handle("john") == "john"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "@",
            "ab",
            "a" * 41,
            "-john",
            "john-",
            ".john",
            "john.",
            "_john",
            "john_",
            "jo hn",
            " john",
            "john ",
            "john\n",
            "john/bot",
            "jöhn",
            "@@john",
            "jo@hn",
            "j\u200bohn",
            "j٣hn",
        ],
    )
    def test_a_handle_of_another_form_is_refused(self, text: str) -> None:
        refusal = refused(parse_user_handle, text)

        assert (refusal.kind, refusal.reason) == ("invalid", "invalid_handle")

    @pytest.mark.parametrize("text", [*sorted(RESERVED), "Admin", "ad-min", "a.p.i", "s_y-s.tem"])
    def test_what_would_speak_for_the_house_is_reserved_with_or_without_separators(self, text: str) -> None:
        refusal = refused(parse_user_handle, f"@{text}")

        assert (refusal.kind, refusal.reason) == ("invalid", "reserved_handle")

    @pytest.mark.parametrize("text", ["band-aid-bot", "support-desk", "roots", "badminton", "my.api"])
    def test_a_reserved_word_may_be_a_part_of_a_handle(self, text: str) -> None:
        assert parse_user_handle(text) == text

    def test_the_reserved_words_are_the_documented_ones(self) -> None:
        assert " ".join(sorted(RESERVED)) == "admin agrenting api band official root support system thenvoi"

    @pytest.mark.parametrize("text", ["shit", "S.h-i_t", "sh1t"])
    def test_a_profane_one_is_refused(self, text: str) -> None:
        refusal = refused(parse_user_handle, text)

        assert (refusal.kind, refusal.reason) == ("invalid", "profane_handle")


class TestNamingByHandle:
    @pytest.mark.parametrize(
        ("text", "handle"),
        [
            ("john", "john"),
            ("@J.Doe", "j.doe"),
            ("John/Research-Bot", "john/research-bot"),
            ("@john/x", "john/x"),
            ("abc/" + "a" * 64, "abc/" + "a" * 64),
            ("admin", "admin"),
            ("john/shit", "john/shit"),
        ],
    )
    def test_only_the_form_is_looked_at(self, text: str, handle: str) -> None:
        assert parse_handle(text) == handle

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "@",
            "jo",
            "@@john",
            " john",
            "john ",
            "john\n",
            "john/",
            "/bot",
            "john/a/b",
            "john/@bot",
            "john/a_b",
            "john/a.b",
            "john/-a",
            "john/a-",
            "john/ bot",
            "jo/bot",
            "john/" + "a" * 65,
            "jöhn/bot",
        ],
    )
    def test_what_nobody_can_have_is_refused(self, text: str) -> None:
        refusal = refused(parse_handle, text)

        assert (refusal.kind, refusal.reason) == ("invalid", "invalid_handle")

    @given(text=st.text("aB1@/._- \n", min_size=3, max_size=12))
    def test_whatever_is_taken_is_taken_again_and_is_plain(self, text: str) -> None:
        try:
            handle = parse_handle(text)
        except Invalid:
            return
        assert parse_handle(handle) == parse_handle(f"@{handle}") == handle
        assert handle == text.removeprefix("@").lower()
        assert not {*handle} & {*"@ \n"}

    def test_a_handle_is_looked_up_in_lower_case_without_the_at_sign(self) -> None:
        assert normalise_handle("@John/Research-Bot") == "john/research-bot"


class TestSlugs:
    @pytest.mark.parametrize(
        ("name", "slug"),
        [
            ("Research Bot", "research-bot"),
            ("  Übersetzer  №1!", "ubersetzer-no1"),
            ("a__b", "a-b"),
            ("q" * 64 + "y", "q" * 64),
            ("q" * 63 + " y", "q" * 63),
            ("é", "e"),
            ("Band Aid Bot", "band-aid-bot"),
        ],
    )
    def test_a_slug_is_made_of_what_a_name_has_of_plain_letters_and_digits(self, name: str, slug: str) -> None:
        assert slug_from_name(name) == slug

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("翻译", "invalid_handle"),
            ("!!", "invalid_handle"),
            ("", "invalid_handle"),
            ("Admin", "reserved_handle"),
            ("A.P.I.", "reserved_handle"),
            ("Ádmin!", "reserved_handle"),
            ("Shit Bot", "profane_handle"),
            ("S.H.I.T", "profane_handle"),
        ],
    )
    def test_a_name_that_makes_no_slug_is_refused_with_the_reason(self, name: str, reason: str) -> None:
        refusal = refused(slug_from_name, name)

        assert (refusal.kind, refusal.reason) == ("invalid", reason)

    def test_a_second_agent_of_the_name_gets_a_number_within_the_length(self) -> None:
        assert numbered_slug("bot", 2) == "bot-2"
        assert numbered_slug("a" * 64, 12) == "a" * 61 + "-12"
        assert numbered_slug("a" * 61 + "-bb", 2) == "a" * 61 + "-2"

    @given(name=st.text("qwxyzQWXYZ029 -_.éü№", max_size=100), number=st.integers(2, 9_999))
    def test_every_slug_that_is_made_is_a_part_of_a_handle_also_with_a_number(self, name: str, number: int) -> None:
        slug = slug_from_name(f"q{name}")

        assert parse_handle(f"john/{slug}") == f"john/{slug}"
        assert parse_handle(f"john/{numbered_slug(slug, number)}").endswith(f"-{number}")
