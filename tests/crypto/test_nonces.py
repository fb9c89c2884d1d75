"""Nonces follow each other without gap and without repetition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import NonceGap, NonceOutOfOrder, NonceReplayed, require_next_nonce

NONCES = st.integers(0, 2**53 - 1)


@given(NONCES)
def test_the_last_nonce_plus_one_is_taken(last: int) -> None:
    require_next_nonce(last=last, offered=last + 1)


@given(last=NONCES, back=st.integers(0, 2**53))
def test_a_used_nonce_is_refused_as_replayed_and_the_expected_one_told(last: int, back: int) -> None:
    with pytest.raises(NonceReplayed, match="used up") as refusal:
        require_next_nonce(last=last, offered=last - back)

    assert refusal.value.reason == "nonce_replayed"
    assert refusal.value.context == {"expected_nonce": last + 1}


@given(last=NONCES, ahead=st.integers(2, 2**53))
def test_a_nonce_that_leaves_others_out_is_refused_as_a_gap_and_the_expected_one_told(last: int, ahead: int) -> None:
    with pytest.raises(NonceGap, match="gap") as refusal:
        require_next_nonce(last=last, offered=last + ahead)

    assert refusal.value.reason == "nonce_gap"
    assert refusal.value.context == {"expected_nonce": last + 1}


@pytest.mark.parametrize("offered", [0, 2])
def test_both_refusals_are_of_one_family(offered: int) -> None:
    with pytest.raises(NonceOutOfOrder) as refusal:
        require_next_nonce(last=0, offered=offered)

    assert refusal.value.expected_nonce == 1
