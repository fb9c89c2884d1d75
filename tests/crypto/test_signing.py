"""Signatures: one text for each, any change refused, and libsodium's strict rule."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import BadSignature, public_key_of, sign, verify_signature
from crypto.signing import OUTCOMES_KEPT, _is_valid

from .curve import BASE, ORDER_EIGHT, add, encode, is_valid_to_lax_eyes, make_signature, multiply, secret_scalar
from .roles import ALICE, BOB, MALLORY

SEEDS = st.binary(min_size=32, max_size=32)
HELLO = b"hello"
NONCE = 12_345_678_901_234_567_890
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def flipped(content: bytes, bit: int) -> bytes:
    """The same bytes with one bit changed."""
    position = bit % (8 * len(content))
    changed = bytearray(content)
    changed[position // 8] ^= 1 << position % 8
    return bytes(changed)


@given(seed=SEEDS, message=st.binary())
def test_what_a_key_has_signed_verifies_under_it(seed: bytes, message: bytes) -> None:
    signature = sign(seed, message)

    assert len(signature) == 88
    verify_signature(public_key=public_key_of(seed), message=message, signature=signature)


@given(seed=SEEDS, message=st.binary(min_size=1), bit=st.integers(0, 1_000_000))
def test_a_flipped_bit_is_refused_wherever_it_is(seed: bytes, message: bytes, bit: int) -> None:
    public_key, signature = public_key_of(seed), sign(seed, message)
    other_signature = base64.b64encode(flipped(base64.b64decode(signature), bit)).decode()

    with pytest.raises(BadSignature):
        verify_signature(public_key=public_key, message=message, signature=other_signature)
    with pytest.raises(BadSignature):
        verify_signature(public_key=public_key, message=flipped(message, bit), signature=signature)
    with pytest.raises(BadSignature):
        verify_signature(public_key=flipped(public_key, bit), message=message, signature=signature)


def test_mallorys_signature_is_not_alices() -> None:
    signature = sign(MALLORY.secret_key, HELLO)

    with pytest.raises(BadSignature, match="does not verify") as refusal:
        verify_signature(public_key=ALICE.public_key, message=HELLO, signature=signature)

    assert refusal.value.reason == "invalid_signature"
    assert refusal.value.context == {}


def test_the_lax_eyes_of_these_tests_take_honest_signatures_and_no_others() -> None:
    signature = base64.b64decode(sign(ALICE.secret_key, HELLO))

    assert is_valid_to_lax_eyes(public_key=ALICE.public_key, message=HELLO, signature=signature)
    assert not is_valid_to_lax_eyes(public_key=ALICE.public_key, message=b"hullo", signature=signature)


@pytest.mark.parametrize("torsion", range(1, 8))
def test_a_signature_whose_r_has_a_part_of_small_order_is_refused(torsion: int) -> None:
    r = encode(add(multiply(NONCE, BASE), multiply(torsion, ORDER_EIGHT)))
    signature = make_signature(
        scalar=secret_scalar(ALICE.secret_key), public_key=ALICE.public_key, nonce=NONCE, r=r, message=HELLO
    )

    assert is_valid_to_lax_eyes(public_key=ALICE.public_key, message=HELLO, signature=signature)
    with pytest.raises(BadSignature, match="does not verify"):
        verify_signature(
            public_key=ALICE.public_key, message=HELLO, signature=base64.b64encode(signature).decode("ascii")
        )


@pytest.mark.parametrize("torsion", range(8))
def test_a_signature_whose_r_is_of_small_order_is_refused(torsion: int) -> None:
    r = encode(multiply(torsion, ORDER_EIGHT))
    signature = make_signature(
        scalar=secret_scalar(ALICE.secret_key), public_key=ALICE.public_key, nonce=0, r=r, message=HELLO
    )

    assert is_valid_to_lax_eyes(public_key=ALICE.public_key, message=HELLO, signature=signature)
    with pytest.raises(BadSignature, match="does not verify"):
        verify_signature(
            public_key=ALICE.public_key, message=HELLO, signature=base64.b64encode(signature).decode("ascii")
        )


@pytest.mark.parametrize("torsion", range(8))
def test_a_signature_that_anyone_can_make_under_a_key_of_small_order_is_refused(torsion: int) -> None:
    weak_key = encode(multiply(torsion, ORDER_EIGHT))
    signature = make_signature(
        scalar=0, public_key=weak_key, nonce=NONCE, r=encode(multiply(NONCE, BASE)), message=HELLO
    )

    assert is_valid_to_lax_eyes(public_key=weak_key, message=HELLO, signature=signature)
    with pytest.raises(BadSignature, match="does not verify"):
        verify_signature(public_key=weak_key, message=HELLO, signature=base64.b64encode(signature).decode("ascii"))


def test_every_other_text_of_the_same_signature_is_refused() -> None:
    signature = sign(BOB.secret_key, HELLO)
    last = ALPHABET.index(signature[85])
    others = [signature[:85] + ALPHABET[last + bits] + "==" for bits in range(1, 16)]

    assert all(base64.b64decode(other) == base64.b64decode(signature) for other in others)
    for other in (*others, f" {signature}", signature[:-1], signature + "=", signature + "\x00"):
        with pytest.raises(BadSignature, match="88 characters"):
            verify_signature(public_key=BOB.public_key, message=HELLO, signature=other)


@given(st.text())
def test_a_text_that_is_no_signature_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(BadSignature):
        verify_signature(public_key=ALICE.public_key, message=HELLO, signature=text)


@pytest.mark.parametrize("other", [None, 88, b"A" * 88, ["A"] * 88, {"signature": "A" * 88}])
def test_what_is_no_text_is_no_signature(other: object) -> None:
    with pytest.raises(BadSignature, match="88 characters"):
        verify_signature(public_key=ALICE.public_key, message=HELLO, signature=other)  # type: ignore[arg-type]  # JSON may.


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_public_key_of_another_size_is_a_mistake_of_the_program(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        verify_signature(public_key=bytes(size), message=HELLO, signature=sign(ALICE.secret_key, HELLO))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_secret_key_of_another_size_signs_nothing(size: int) -> None:
    with pytest.raises(ValueError, match="seed"):
        sign(bytes(size), HELLO)


# ------------------------------------------------------------------------------------------------------ kept outcomes


def kept() -> tuple[int, int]:
    """How many questions were answered from the store, and how many by libsodium."""
    counts = _is_valid.cache_info()
    return counts.hits, counts.misses


@pytest.fixture
def forgotten() -> None:
    """Nothing was ever asked."""
    _is_valid.cache_clear()


@pytest.mark.usefixtures("forgotten")
def test_a_good_signature_is_checked_once_and_stays_good() -> None:
    signature = sign(ALICE.secret_key, HELLO)

    for _ in range(3):
        verify_signature(public_key=ALICE.public_key, message=HELLO, signature=signature)

    assert kept() == (2, 1)


@pytest.mark.usefixtures("forgotten")
def test_a_bad_signature_is_checked_once_and_stays_bad() -> None:
    signature = sign(MALLORY.secret_key, HELLO)

    for _ in range(3):
        with pytest.raises(BadSignature, match="does not verify"):
            verify_signature(public_key=ALICE.public_key, message=HELLO, signature=signature)

    assert kept() == (2, 1)


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("bit", [0, 7, 100, 255, 256, 300, 511])
def test_what_differs_in_one_bit_is_another_question_and_leaves_the_first_answer_as_it_was(bit: int) -> None:
    public_key, message = ALICE.public_key, HELLO * 20
    signature = sign(ALICE.secret_key, message)
    raw = base64.b64decode(signature)
    others = [
        {"public_key": flipped(public_key, bit), "message": message, "signature": signature},
        {"public_key": public_key, "message": flipped(message, bit), "signature": signature},
        {
            "public_key": public_key,
            "message": message,
            "signature": base64.b64encode(flipped(raw, bit)).decode(),
        },
    ]
    verify_signature(public_key=public_key, message=message, signature=signature)

    for _ in range(2):
        for other in others:
            with pytest.raises(BadSignature):
                verify_signature(**other)  # type: ignore[arg-type]  # each member has its own type
        verify_signature(public_key=public_key, message=message, signature=signature)

    assert kept() == (5, 4)


@pytest.mark.usefixtures("forgotten")
def test_a_refused_signature_under_one_key_may_be_good_under_the_other() -> None:
    signature = sign(BOB.secret_key, HELLO)

    with pytest.raises(BadSignature):
        verify_signature(public_key=ALICE.public_key, message=HELLO, signature=signature)
    verify_signature(public_key=BOB.public_key, message=HELLO, signature=signature)


@pytest.mark.usefixtures("forgotten")
def test_a_shorter_or_longer_message_is_another_question() -> None:
    signature = sign(ALICE.secret_key, b"ab")
    verify_signature(public_key=ALICE.public_key, message=b"ab", signature=signature)

    with pytest.raises(BadSignature):
        verify_signature(public_key=ALICE.public_key, message=b"b", signature=signature)
    with pytest.raises(BadSignature):
        verify_signature(public_key=ALICE.public_key, message=b"abb", signature=signature)


def test_only_so_many_outcomes_are_kept() -> None:
    assert _is_valid.cache_info().maxsize == OUTCOMES_KEPT == 16_384


@pytest.mark.usefixtures("forgotten")
def test_what_is_no_signature_or_no_key_is_not_kept() -> None:
    for signature in ("", "A" * 88, " " * 88):
        with pytest.raises(BadSignature, match="88 characters"):
            verify_signature(public_key=ALICE.public_key, message=HELLO, signature=signature)
    with pytest.raises(ValueError, match="32 bytes"):
        verify_signature(public_key=b"short", message=HELLO, signature=sign(ALICE.secret_key, HELLO))

    assert kept() == (0, 0)
