import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.identity import (
    AGENT_SCOPES,
    RESERVED,
    SCOPES,
    Identity,
    normalise_handle,
    numbered_slug,
    parse_segment,
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


class TestHandles:
    @pytest.mark.parametrize("text", ["j", "john", "john-2", "a_b", "0", "a" * 40, "a--b"])
    def test_a_segment_of_the_right_form_is_taken_as_it_is(self, text: str) -> None:
        assert parse_segment(text) == text

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "John",
            "-john",
            "john-",
            "_a",
            "a_",
            "a" * 41,
            "a b",
            "a/b",
            "jöhn",
            "john\n",
            "a.b",
            "@john",
            "j\u200bohn",
        ],
    )
    def test_a_segment_of_another_form_is_refused(self, text: str) -> None:
        refusal = refused(parse_segment, text)

        assert (refusal.kind, refusal.reason) == ("invalid", "invalid_handle")

    @pytest.mark.parametrize("text", sorted(RESERVED))
    def test_words_that_would_speak_for_the_house_are_reserved(self, text: str) -> None:
        assert refused(parse_user_handle, f"@{text}").reason == "reserved_handle"

    def test_the_reserved_words_are_the_documented_ones(self) -> None:
        assert " ".join(sorted(RESERVED)) == "admin agrenting api band official root support system thenvoi"

    def test_a_user_handle_comes_with_or_without_the_at_sign_and_goes_without(self) -> None:
        assert parse_user_handle("@john") == parse_user_handle("john") == "john"
        assert refused(parse_user_handle, "@@john").reason == "invalid_handle"

    def test_a_handle_is_looked_up_in_lower_case_without_the_at_sign(self) -> None:
        assert normalise_handle("@John/Research-Bot") == "john/research-bot"


class TestSlugs:
    @pytest.mark.parametrize(
        ("name", "slug"),
        [
            ("Research Bot", "research-bot"),
            ("  Übersetzer  №1!", "ubersetzer-no1"),
            ("a__b", "a-b"),
            ("x" * 39 + " y", "x" * 39),
            ("é", "e"),
        ],
    )
    def test_a_slug_is_made_of_what_a_name_has_of_plain_letters_and_digits(self, name: str, slug: str) -> None:
        assert slug_from_name(name) == slug

    @pytest.mark.parametrize(
        ("name", "reason"), [("翻译", "invalid_handle"), ("!!", "invalid_handle"), ("Admin", "reserved_handle")]
    )
    def test_a_name_without_plain_letters_or_of_a_reserved_word_has_none(self, name: str, reason: str) -> None:
        assert refused(slug_from_name, name).reason == reason

    def test_a_second_agent_of_the_name_gets_a_number_within_the_length(self) -> None:
        assert numbered_slug("bot", 2) == "bot-2"
        assert numbered_slug("a" * 40, 12) == "a" * 37 + "-12"
        assert numbered_slug("a" * 37 + "-bb", 2) == "a" * 37 + "-2"

    @given(name=st.text("abcXYZ019 -_.éü№", max_size=60), number=st.integers(2, 9_999))
    def test_every_slug_that_is_made_is_a_segment_also_with_a_number(self, name: str, number: int) -> None:
        slug = slug_from_name(f"x{name}")

        assert parse_segment(slug) == slug
        assert parse_segment(numbered_slug(slug, number)).endswith(f"-{number}")
