"""The builders refuse what would make the signed bytes ambiguous, and every field counts."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import (
    accept_message,
    close_message,
    digest,
    key_proof_message,
    offer_message,
    receipt_message,
    session_message,
    transfer_message,
)
from crypto.messages import INTEGER_MAX, Kind

DIGEST = hashlib.sha256(b"terms").hexdigest()
OTHER_DIGEST = hashlib.sha256(b"other terms").hexdigest()

Builder = Callable[..., bytes]

BUILDERS: dict[Builder, dict[str, Any]] = {
    session_message: {
        "signing_domain": "market.test",
        "session_id": "session",
        "client_agent_id": "alice",
        "provider_agent_id": "bob",
        "capability": "translate",
        "base_max": 1000,
        "terms_digest": DIGEST,
    },
    offer_message: {
        "signing_domain": "market.test",
        "session_id": "session",
        "agent_id": "alice",
        "round_number": 1,
        "amount": 900,
        "answered_digest": DIGEST,
    },
    accept_message: {
        "signing_domain": "market.test",
        "session_id": "session",
        "agent_id": "bob",
        "amount": 950,
        "client_offer_digest": DIGEST,
        "provider_offer_digest": OTHER_DIGEST,
    },
    transfer_message: {
        "signing_domain": "market.test",
        "channel_id": "channel",
        "nonce": 1,
        "payer_agent_id": "alice",
        "amount": 250,
        "balance_a": 9750,
        "balance_b": 251,
        "task_id": "task",
    },
    close_message: {
        "signing_domain": "market.test",
        "channel_id": "channel",
        "nonce": 2,
        "final_balance_a": 9800,
        "final_balance_b": 200,
    },
    key_proof_message: {
        "signing_domain": "market.test",
        "owner_id": "owner",
        "agent_id": "alice",
        "challenge": "challenge",
    },
    receipt_message: {
        "signing_domain": "market.test",
        "kind": "agreement",
        "document_id": "session",
        "document_digest": DIGEST,
    },
}

FIELDS = [(builder, name) for builder, fields in BUILDERS.items() for name in fields]
OF_TYPE = {
    kind: [(builder, name) for builder, name in FIELDS if isinstance(BUILDERS[builder][name], kind)]
    for kind in (str, int)
}
DIGESTS = [(builder, name) for builder, name in FIELDS if name.endswith("_digest")]
OPTIONAL = [(session_message, "terms_digest"), (transfer_message, "task_id"), (key_proof_message, "agent_id")]
INTEGERS = st.integers(0, INTEGER_MAX)
LINES = st.text(min_size=1).filter(lambda text: "\n" not in text and text != "-")


def test_every_kind_has_a_builder_and_stands_in_the_third_line() -> None:
    kinds = [builder(**fields).decode().split("\n")[2] for builder, fields in BUILDERS.items()]

    assert sorted(kinds) == sorted(Kind)


@pytest.mark.parametrize(("builder", "name"), FIELDS)
def test_another_value_of_a_field_makes_other_bytes(builder: Builder, name: str) -> None:
    fields = BUILDERS[builder]
    value = fields[name]
    other = value + 1 if isinstance(value, int) else OTHER_DIGEST[::-1] if name.endswith("_digest") else f"{value}2"

    assert builder(**{**fields, name: other}) != builder(**fields)


@pytest.mark.parametrize(("builder", "name"), OPTIONAL)
def test_a_field_that_is_not_there_is_a_dash(builder: Builder, name: str) -> None:
    fields = BUILDERS[builder]

    lines = builder(**fields).decode().split("\n")
    without = builder(**{**fields, name: None}).decode().split("\n")

    assert without == ["-" if line == fields[name] else line for line in lines]


@pytest.mark.parametrize(("builder", "name"), OPTIONAL)
def test_a_dash_given_as_a_value_is_a_mistake_of_the_program(builder: Builder, name: str) -> None:
    with pytest.raises(ValueError, match="-"):
        builder(**{**BUILDERS[builder], name: "-"})


@pytest.mark.parametrize("value", ["", "two\nlines", "at the end\n", "\n", "lone \ud800 surrogate"])
@pytest.mark.parametrize(("builder", "name"), OF_TYPE[str])
def test_a_text_that_is_not_one_line_is_never_signed(builder: Builder, name: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"one line|domain|digest|surrogates"):
        builder(**{**BUILDERS[builder], name: value})


@pytest.mark.parametrize("value", [-1, INTEGER_MAX + 1, True, False, 1.0, "1", None])
@pytest.mark.parametrize(("builder", "name"), OF_TYPE[int])
def test_a_number_that_is_no_integer_in_range_is_never_signed(builder: Builder, name: str, value: object) -> None:
    with pytest.raises(ValueError, match="signed number"):
        builder(**{**BUILDERS[builder], name: value})


@pytest.mark.parametrize("value", [0, INTEGER_MAX])
@pytest.mark.parametrize(("builder", "name"), OF_TYPE[int])
def test_a_number_may_go_to_its_bounds_and_stands_in_plain_decimal(builder: Builder, name: str, value: int) -> None:
    assert str(value) in builder(**{**BUILDERS[builder], name: value}).decode().split("\n")


@pytest.mark.parametrize("value", [DIGEST.upper(), DIGEST[:-1], DIGEST + "0", DIGEST + "\n", f"sha256:{DIGEST}"])
@pytest.mark.parametrize(("builder", "name"), DIGESTS)
def test_a_digest_of_another_form_is_never_signed(builder: Builder, name: str, value: str) -> None:
    with pytest.raises(ValueError, match="digest"):
        builder(**{**BUILDERS[builder], name: value})


@pytest.mark.parametrize("domain", ["", "Market.test", "market_test", "market.test\n", "märkt.test", "a" * 254])
@pytest.mark.parametrize("builder", BUILDERS)
def test_a_domain_of_another_form_is_never_signed(builder: Builder, domain: str) -> None:
    with pytest.raises(ValueError, match="domain"):
        builder(**{**BUILDERS[builder], "signing_domain": domain})


@pytest.mark.parametrize("domain", ["a", "a" * 253, "5d5a6f6e-0c0b-4c54-9d1c-0a1b2c3d4e5f"])
def test_a_domain_has_1_to_253_characters(domain: str) -> None:
    message = close_message(**{**BUILDERS[close_message], "signing_domain": domain})

    assert message.decode().split("\n")[1] == domain


@given(texts=st.lists(LINES, min_size=2, max_size=2), numbers=st.lists(INTEGERS, min_size=4, max_size=4), task=LINES)
def test_the_fields_can_be_read_back_from_the_bytes(texts: list[str], numbers: list[int], task: str) -> None:
    nonce, amount, balance_a, balance_b = numbers

    message = transfer_message(
        signing_domain="market.test",
        channel_id=texts[0],
        nonce=nonce,
        payer_agent_id=texts[1],
        amount=amount,
        balance_a=balance_a,
        balance_b=balance_b,
        task_id=task,
    )

    lines = message.decode("utf-8").split("\n")
    assert lines[:3] == ["agrenting-sig-v1", "market.test", "payment.transfer"]
    assert lines[3:] == [texts[0], str(nonce), texts[1], str(amount), str(balance_a), str(balance_b), task]


@given(st.binary())
def test_a_digest_is_sha_256_in_lower_case_hex(message: bytes) -> None:
    assert digest(message) == hashlib.sha256(message).hexdigest()
