"""Keys as text: one form each, only safe points, and no secret in any sentence."""

import base64
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import (
    BadKey,
    BadSecretKey,
    did_from_public_key,
    fingerprint,
    format_public_key,
    format_secret_key,
    generate_secret_key,
    parse_public_key,
    parse_secret_key,
    public_key_from_did,
    public_key_of,
)

from .roles import ALICE, BOB

SEEDS = st.binary(min_size=32, max_size=32)
ALICE_TEXT = ALICE.public_key_text
ALICE_DID = did_from_public_key(ALICE.public_key)
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

UNSAFE_POINTS = {
    "order 1": "0100000000000000000000000000000000000000000000000000000000000000",
    "order 2": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "order 4": "0000000000000000000000000000000000000000000000000000000000000000",
    "order 4, other sign": "0000000000000000000000000000000000000000000000000000000000000080",
    "order 8": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "order 8, other sign": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "order 8, other y": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "order 8, other y and sign": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "order 1, minus zero": "0100000000000000000000000000000000000000000000000000000000000080",
    "order 2, minus zero": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "order 1, y above the field": "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "order 1, y above the field, minus zero": "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "order 4, y above the field": "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "order 4, y above the field, other sign": "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "y above the field": "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "not on the curve": "0200000000000000000000000000000000000000000000000000000000000000",
    "Alice's key and a point of order 2": "16a567fe7d4ef5482ab4012c369bf8c5f11e8d0c2559dcda50fde59708f8aee5",
    "Alice's key and a point of order 4": "ad38a8f0b22ab7ca46ecee7bbef12b5f336c182652fac34392f859dbd9666a7d",
    "Alice's key and a point of order 8": "9158312a9a8d6e3b34c891d6d61444f8b8211c5117ebad15bdb0bd68b07e0245",
}


@given(SEEDS)
def test_a_public_key_comes_back_from_both_of_its_texts(seed: bytes) -> None:
    public_key = public_key_of(seed)

    assert parse_public_key(format_public_key(public_key)) == public_key
    assert parse_public_key(did_from_public_key(public_key)) == public_key
    assert public_key_from_did(did_from_public_key(public_key)) == public_key


@given(SEEDS)
def test_a_did_of_an_ed25519_key_has_56_characters_and_begins_alike(seed: bytes) -> None:
    did = did_from_public_key(public_key_of(seed))

    assert did.startswith("did:key:z6Mk")
    assert len(did) == 56


@given(SEEDS)
def test_a_secret_key_comes_back_from_its_text(seed: bytes) -> None:
    assert parse_secret_key(format_secret_key(seed)) == seed


def test_two_generated_secret_keys_differ_and_have_public_keys() -> None:
    first, second = generate_secret_key(), generate_secret_key()

    assert first != second
    assert len(first) == len(second) == 32
    assert parse_public_key(format_public_key(public_key_of(first))) == public_key_of(first)


@pytest.mark.parametrize("point", UNSAFE_POINTS)
def test_a_public_key_is_refused_that_is(point: str) -> None:
    content = bytes.fromhex(UNSAFE_POINTS[point])

    with pytest.raises(BadKey, match="no Ed25519 key") as refusal:
        parse_public_key(format_public_key(content))
    with pytest.raises(BadKey, match="no Ed25519 key"):
        parse_public_key(did_from_public_key(content))

    assert refusal.value.reason == "invalid_public_key"
    assert refusal.value.context == {}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(ALICE_TEXT[:-1], id="without padding"),
        pytest.param(ALICE_TEXT + "\n", id="line feed at the end"),
        pytest.param(" " + ALICE_TEXT[:-1], id="space in front"),
        pytest.param(ALICE_TEXT[:20] + "\n" + ALICE_TEXT[20:-1], id="line feed inside"),
        pytest.param(ALICE_TEXT.replace("/", "_"), id="url-safe alphabet"),
        pytest.param(ALICE_TEXT[:-2] + "p=", id="unused bits that are not zero"),
        pytest.param(ALICE_TEXT[:-1] + "é", id="not ASCII"),
        pytest.param("=" * 44, id="padding alone"),
        pytest.param(base64.b64encode(ALICE.public_key[:31]).decode(), id="31 bytes"),
        pytest.param(base64.b64encode(ALICE.public_key + b"\0").decode(), id="33 bytes"),
        pytest.param(ALICE.public_key.hex(), id="hex"),
        pytest.param(ALICE_TEXT * 100_000, id="very long"),
    ],
)
def test_a_text_is_no_public_key_and_no_secret_one_that_is(text: str) -> None:
    with pytest.raises(BadKey, match="32 bytes"):
        parse_public_key(text)
    with pytest.raises(BadSecretKey, match="32 bytes"):
        parse_secret_key(text)


@pytest.mark.parametrize(
    "did",
    [
        pytest.param("did:key:", id="nothing"),
        pytest.param(ALICE_DID[:-1], id="a digit less"),
        pytest.param(ALICE_DID + "1", id="a digit more"),
        pytest.param(ALICE_DID.replace("z6Mk", "z16Mk")[:56], id="a leading zero"),
        pytest.param(f"{ALICE_DID}#{ALICE_DID[8:]}", id="a fragment"),
        pytest.param(ALICE_DID + "\n", id="line feed at the end"),
        pytest.param(ALICE_DID.replace("did:key", "did:web"), id="another method"),
        pytest.param(ALICE_DID.replace(":z", ":u"), id="another multibase"),
        pytest.param(ALICE_DID[:-1] + "0", id="a character that is no digit"),
        pytest.param("did:key:z6LS" + ALICE_DID[12:], id="another kind of key (X25519)"),
        pytest.param("did:key:z" + "z" * 47, id="a number too large for its bytes"),
        pytest.param("did:key:z" + "1" * 47, id="zero"),
        pytest.param("did:key:z" + "6" * 1_000_000, id="very long"),
    ],
)
def test_a_did_is_refused_with(did: str) -> None:
    with pytest.raises(BadKey, match="did:key of an Ed25519 key"):
        public_key_from_did(did)
    with pytest.raises(BadKey, match="did:key of an Ed25519 key"):
        parse_public_key(did)


@given(st.text())
def test_no_text_at_all_raises_anything_but_a_refusal(text: str) -> None:
    for parse in (parse_public_key, public_key_from_did, parse_secret_key):
        with pytest.raises(BadKey):
            parse(text)


@given(seed=SEEDS, position=st.integers(9, 55), digit=st.sampled_from(BASE58))
def test_two_dids_never_stand_for_one_key(seed: bytes, position: int, digit: str) -> None:
    did = did_from_public_key(public_key_of(seed))
    other = did[:position] + digit + did[position + 1 :]

    try:
        public_key = public_key_from_did(other)
    except BadKey:
        assert other != did
    else:
        assert (public_key == public_key_of(seed)) is (other == did)


def test_a_refused_secret_key_is_not_repeated_in_the_sentence_nor_in_the_traceback() -> None:
    secret = format_secret_key(ALICE.secret_key)[:-1]

    with pytest.raises(BadSecretKey) as refusal:
        parse_secret_key(secret)

    told = "".join(traceback.format_exception(refusal.value))
    assert secret not in told
    assert refusal.value.reason == "invalid_secret_key"


def test_a_fingerprint_is_short_and_differs_between_alice_and_bob() -> None:
    assert fingerprint(ALICE.public_key) == "21fe31dfa154a261"
    assert fingerprint(BOB.public_key) == "39f713d0a644253f"


@pytest.mark.parametrize("use", [format_public_key, did_from_public_key, fingerprint, format_secret_key, public_key_of])
@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_key_of_another_size_is_a_mistake_of_the_program(use: object, size: int) -> None:
    assert callable(use)

    with pytest.raises(ValueError, match="32 bytes"):
        use(bytes(size))
