"""The client's signer: it signs what the marketplace's own rules take, and nothing for a server that lies."""

from typing import Any

import msgspec
import pytest

from agrenting.client import LyingServer, Signer, negotiation_after
from channels.handlers import Decision
from channels.limits import Market
from channels.negotiation import Accept, MakeOffer, NegotiationSession, Phase, Reject, expire, snapshot
from crypto import key_proof_message, parse_public_key, verify_signature
from tests.channels.bargain import act, opened, state_after, topic_of
from tests.channels.roles import ALICE, BOB, CAROL, MARKET, Player, broadcasts_of, context

DOMAIN = MARKET.signing_domain
SIGNERS = {who.id: Signer(who.secret_key, DOMAIN) for who in (ALICE, BOB, CAROL)}


def told(session: NegotiationSession, market: Market = MARKET) -> dict[str, Any]:
    """The session as the server tells it."""
    fields: dict[str, Any] = as_json(snapshot(session, market))
    return fields


def as_json(fields: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(fields))


def offer(session: NegotiationSession, who: Player, amount: int) -> Decision:
    """What the marketplace makes of an offer that the client signed."""
    payload = SIGNERS[who.id].offer(told(session), agent_id=who.id, amount=amount)
    return act(session, "offer", msgspec.convert(payload, MakeOffer), who)


def accept(session: NegotiationSession, who: Player) -> Decision:
    """What the marketplace makes of an acceptance that the client signed."""
    payload = SIGNERS[who.id].accept(told(session), agent_id=who.id)
    return act(session, "accept", msgspec.convert(payload, Accept), who)


@pytest.fixture
def standing() -> NegotiationSession:
    """Alice has bid 600 and Bob has asked 1001."""
    session = opened(terms={"words": 300})
    session = state_after(offer(session, ALICE, 600))
    return state_after(offer(session, BOB, 1001))


def test_what_the_client_signs_the_marketplace_takes(standing: NegotiationSession) -> None:
    agreed = state_after(accept(standing, ALICE))

    assert (agreed.status, agreed.amount) == (Phase.AGREED, 800)


def test_the_provider_may_accept_as_well(standing: NegotiationSession) -> None:
    agreed = state_after(accept(state_after(offer(standing, ALICE, 700)), BOB))

    assert (agreed.status, agreed.amount, agreed.accepted_by) == (Phase.AGREED, 850, BOB.id)


@pytest.mark.parametrize("agent_id", [None, ALICE.id])
def test_a_key_proof_holds_for_its_owner_agent_and_challenge(agent_id: str | None) -> None:
    signer = SIGNERS[ALICE.id]

    proof = signer.key_proof(owner_id=ALICE.identity.user_id, challenge="c-1", agent_id=agent_id)

    message = key_proof_message(
        signing_domain=DOMAIN, owner_id=ALICE.identity.user_id, agent_id=agent_id, challenge="c-1"
    )
    assert proof["challenge"] == "c-1"
    verify_signature(public_key=parse_public_key(signer.public_key), message=message, signature=proof["signature"])


def test_the_secret_key_is_never_shown() -> None:
    assert ALICE.secret_key.hex() not in repr(SIGNERS[ALICE.id]) + str(SIGNERS[ALICE.id])


LIES: dict[str, dict[str, Any]] = {
    "another session": {"id": "33333333-3333-4333-8333-333333333333"},
    "another provider": {"provider_agent_id": CAROL.id},
    "a key that is not the provider's": {"provider_public_key": SIGNERS[CAROL.id].public_key},
    "a key that is not the client's": {"client_public_key": SIGNERS[CAROL.id].public_key},
    "another capability": {"capability": "transcribe"},
    "another price": {"base_max": 900},
    "other terms": {"terms": {"words": 30_000}},
    "no terms": {"terms": None},
    "terms that cannot be signed": {"terms": {"words": 0.5}},
    "another digest": {"session_digest": "0" * 64},
    "a digest that is none": {"session_digest": "so it is"},
    "another midpoint": {"midpoint": 999},
    "no midpoint": {"midpoint": None},
    "a price that is no integer": {"base_max": "1000"},
    "a name that would be two lines": {"capability": "translate\nwell"},
    "a key that is none": {"client_public_key": "none"},
    "no offers at all": {"offers": None},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_nothing_is_accepted_from_a_server_that_tells_something_else(
    standing: NegotiationSession, lie: dict[str, Any]
) -> None:
    with pytest.raises(LyingServer):
        SIGNERS[ALICE.id].accept(told(standing) | lie, agent_id=ALICE.id)


OFFER_LIES: dict[str, dict[str, Any]] = {
    "another amount": {"amount": 1003},
    "another signature": {"signature": "A" * 86 + "=="},
    "another digest": {"digest": "0" * 64},
    "another round": {"round": 3},
    "another agent": {"agent_id": CAROL.id},
    "the same agent twice": {"agent_id": ALICE.id},
}


@pytest.mark.parametrize("lie", OFFER_LIES.values(), ids=OFFER_LIES.keys())
def test_nothing_is_signed_after_an_offer_that_was_not_made(standing: NegotiationSession, lie: dict[str, Any]) -> None:
    session = told(standing)
    session["offers"][-1] |= lie

    for sign in (SIGNERS[ALICE.id].accept, lambda *a, **k: SIGNERS[ALICE.id].offer(*a, **k, amount=700)):
        with pytest.raises(LyingServer):
            sign(session, agent_id=ALICE.id)


def test_an_offer_that_was_left_out_is_noticed(standing: NegotiationSession) -> None:
    session = told(standing)
    del session["offers"][0]

    with pytest.raises(LyingServer, match="offer 1 is out of turn"):
        SIGNERS[ALICE.id].offer(session, agent_id=ALICE.id, amount=700)


def test_another_deployments_session_is_not_signed(standing: NegotiationSession) -> None:
    elsewhere = Signer(ALICE.secret_key, "another.test")

    with pytest.raises(LyingServer, match="digest does not fit domain"):
        elsewhere.accept(told(standing), agent_id=ALICE.id)


def test_nobody_signs_for_another_agent(standing: NegotiationSession) -> None:
    for agent_id in (BOB.id, CAROL.id):
        with pytest.raises(LyingServer, match="does not sign with this key"):
            SIGNERS[ALICE.id].accept(told(standing), agent_id=agent_id)


def test_there_is_nothing_to_accept_before_both_have_offered() -> None:
    session = state_after(offer(opened(), ALICE, 600))

    with pytest.raises(LyingServer, match="no two standing offers"):
        SIGNERS[BOB.id].accept(told(session), agent_id=BOB.id)


def test_an_amount_that_is_none_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="-1"):
        SIGNERS[ALICE.id].offer(told(opened()), agent_id=ALICE.id, amount=-1)


# What a session is after an event.


def heard(session: dict[str, Any], decision: Decision) -> dict[str, Any]:
    """The session as who did not act knows it, after what was told of the decision."""
    for broadcast in broadcasts_of(decision):
        session = negotiation_after(session, broadcast.event, as_json(broadcast.payload))
    return session


def test_who_only_listens_knows_what_a_fresh_join_would_tell() -> None:
    session = opened()
    known = told(session)
    moves = ((ALICE, 600), (BOB, 1001), (ALICE, None))

    for who, amount in moves:
        decision = accept(session, who) if amount is None else offer(session, who, amount)
        session = state_after(decision)
        known = heard(known, decision)
        assert known == told(session)

    assert known["status"] == "agreed"


def test_a_matching_offer_is_known_to_have_agreed() -> None:
    session = state_after(offer(opened(), ALICE, 600))
    decision = offer(session, BOB, 600)

    assert heard(told(session), decision) == told(state_after(decision))


def test_a_rejected_and_an_expired_session_are_known_to_have_ended(standing: NegotiationSession) -> None:
    rejected = act(standing, "reject", Reject(reason="too dear"), BOB)
    expired = expire(standing, context(BOB, now=standing.expires_at, topic=topic_of(standing)))

    for decision in (rejected, expired):
        assert heard(told(standing), decision) == told(state_after(decision))


def test_what_is_no_event_of_a_negotiation_changes_nothing(standing: NegotiationSession) -> None:
    session = told(standing)

    assert negotiation_after(session, "presence_diff", {}) == session
