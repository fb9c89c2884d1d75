"""The published vectors: every positive case by building, signing and verifying, every refused one by its refusal."""

import json

import pytest

from crypto import (
    BadSignature,
    canonical_digest,
    canonical_json,
    did_from_public_key,
    digest,
    format_public_key,
    parse_public_key,
    public_key_from_did,
    public_key_of,
    sign,
    verify_signature,
)
from crypto.messages import FORMAT, Kind

from .signing_vectors import CASES, REFUSED, SECRET_KEYS, VECTORS, build_message

SIGNED = [(name, signer) for name, case in CASES.items() for signer in case["signatures"]]


def message_of(name: str) -> bytes:
    case = CASES[name]
    return build_message(case["kind"], VECTORS["signing_domain"], case["fields"])


def test_the_vectors_are_of_our_format_and_have_every_kind() -> None:
    assert VECTORS["format"] == FORMAT
    assert {case["kind"] for case in CASES.values()} == set(Kind)


@pytest.mark.parametrize("name", CASES)
def test_the_builder_makes_the_message_of(name: str) -> None:
    message = message_of(name)

    assert message == bytes.fromhex(CASES[name]["message_hex"])
    assert len(message) == CASES[name]["length"]
    assert digest(message) == CASES[name]["digest"]


@pytest.mark.parametrize(("name", "signer"), SIGNED)
def test_signing_gives_the_signature_of(name: str, signer: str) -> None:
    assert sign(SECRET_KEYS[signer], message_of(name)) == CASES[name]["signatures"][signer]


@pytest.mark.parametrize(("name", "signer"), SIGNED)
def test_the_signature_verifies_of(name: str, signer: str) -> None:
    verify_signature(
        public_key=public_key_of(SECRET_KEYS[signer]),
        message=message_of(name),
        signature=CASES[name]["signatures"][signer],
    )


@pytest.mark.parametrize("name", REFUSED)
def test_the_signature_is_refused_that_is(name: str) -> None:
    refused = REFUSED[name]

    with pytest.raises(BadSignature) as refusal:
        verify_signature(
            public_key=public_key_of(SECRET_KEYS[refused["signer"]]),
            message=message_of(refused["case"]),
            signature=refused["signature"],
        )

    assert refusal.value.reason == "invalid_signature"


@pytest.mark.parametrize("signer", SECRET_KEYS)
def test_a_key_has_the_texts_of(signer: str) -> None:
    public_key, texts = public_key_of(SECRET_KEYS[signer]), VECTORS["keys"][signer]

    assert format_public_key(public_key) == texts["public_base64"]
    assert did_from_public_key(public_key) == texts["did_key"]
    assert parse_public_key(texts["public_base64"]) == public_key
    assert parse_public_key(texts["did_key"]) == public_key
    assert public_key_from_did(texts["did_key"]) == public_key


@pytest.mark.parametrize(
    ("name", "member"),
    [
        (name, member)
        for name, case in CASES.items()
        for member in ("terms_canonical", "document_canonical")
        if member in case
    ],
)
def test_the_canonical_json_and_its_digest_are_those_of(name: str, member: str) -> None:
    canonical: str = CASES[name][member]
    shuffled = dict(reversed(json.loads(canonical).items()))

    assert canonical_json(shuffled).decode("utf-8") == canonical
    assert canonical_digest(shuffled) == CASES[name]["fields"][-1]
