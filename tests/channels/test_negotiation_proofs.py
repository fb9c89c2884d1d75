from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from channels.agents import Capability
from channels.handlers import Decision, Empty
from channels.negotiation import (
    EXPIRES,
    JOIN,
    TIMERS,
    Accept,
    NegotiationSession,
    Phase,
    Reject,
    agreement_document,
)
from crypto import (
    ReceiptError,
    canonical_digest,
    format_public_key,
    public_key_of,
    receipt_message,
    sign,
    verify_receipt,
)
from tests.channels.bargain import (
    Mirror,
    act,
    agreed_by_accept,
    ended,
    offered,
    opened,
    signed_accept,
    signed_offer,
    state_after,
    topic_of,
)
from tests.channels.roles import (
    ALICE,
    BOB,
    CAROL,
    FRESH_ID,
    MALLORY,
    MARKET,
    NOW,
    OTHER_ID,
    Player,
    as_told,
    capped,
    context,
    identity_of,
    player,
    refused,
)

ELSEWHERE = msgspec.structs.replace(MARKET, signing_domain="other.test")


class TestMallory:
    def test_she_cannot_bid_one_and_accept_the_midpoint_herself(self) -> None:
        session = offered(opened(MALLORY), (BOB, 1001), (MALLORY, 1))

        refusal = refused(act, session, "accept", signed_accept(session, MALLORY), MALLORY)

        assert refusal.reason == "not_your_turn"

    def test_she_cannot_offer_twice_in_a_row(self) -> None:
        session = offered(opened(MALLORY), (MALLORY, 600))

        refusal = refused(act, session, "offer", signed_offer(session, MALLORY, 1), MALLORY)

        assert refusal.reason == "not_your_turn"

    def test_she_cannot_offer_or_accept_beyond_the_cap_of_her_key(self) -> None:
        mallory = capped(MALLORY, 800)
        session = offered(opened(mallory), (mallory, 800), (BOB, 1003))

        over = refused(act, session, "offer", signed_offer(session, mallory, 801), mallory)
        accepted = refused(act, session, "accept", signed_accept(session, mallory), mallory)

        assert (over.reason, accepted.reason) == ("spend_cap_exceeded", "spend_cap_exceeded")
        assert act(session, "offer", signed_offer(session, mallory, 800), mallory).reply["next_round"] == 4

    def test_her_signature_does_not_pass_for_alices(self) -> None:
        session = opened()
        forger = msgspec.structs.replace(ALICE, secret_key=MALLORY.secret_key)

        refusal = refused(act, session, "offer", signed_offer(session, forger, 600), ALICE)

        assert refusal.reason == "invalid_signature"

    def test_she_cannot_use_a_signature_for_another_amount(self) -> None:
        session = opened(MALLORY)

        refusal = refused(act, session, "offer", signed_offer(session, MALLORY, 1, signed_amount=2), MALLORY)

        assert refusal.reason == "invalid_signature"

    @pytest.mark.parametrize(
        "elsewhere",
        [
            lambda: opened(session_id=OTHER_ID),
            lambda: opened(market=ELSEWHERE),
            lambda: opened(terms={"pages": 1}),
            lambda: opened(
                provider=player("bob", number=0xB, capabilities=(Capability("summarise", 1000),)),
                capability="summarise",
            ),
            lambda: opened(provider=CAROL),
        ],
        ids=["session", "deployment", "terms", "capability", "provider"],
    )
    def test_an_offer_cannot_be_moved_to_another_session_deployment_terms_capability_or_provider(
        self, elsewhere: Callable[[], NegotiationSession]
    ) -> None:
        other = elsewhere()
        market = ELSEWHERE if other == opened(market=ELSEWHERE) else MARKET
        moved = signed_offer(other, ALICE, 600, market=market)

        refusal = refused(act, opened(), "offer", moved, ALICE)

        assert refusal.reason == "invalid_signature"
        assert act(other, "offer", moved, ALICE, market=market).reply["next_round"] == 2

    def test_an_acceptance_cannot_be_moved_to_another_session_or_deployment(self) -> None:
        here = offered(opened(), (ALICE, 600), (BOB, 1001))
        there = offered(opened(session_id=OTHER_ID), (ALICE, 600), (BOB, 1001))

        for moved in (signed_accept(there, ALICE), signed_accept(here, ALICE, market=ELSEWHERE)):
            refusal = refused(act, here, "accept", moved, ALICE)
            assert refusal.reason == "invalid_signature"

    def test_an_offers_signature_is_no_acceptance(self) -> None:
        session = offered(opened(), (ALICE, 600), (BOB, 1001))
        disguised = Accept(amount=800, signature=signed_offer(session, ALICE, 800).signature)

        assert refused(act, session, "accept", disguised, ALICE).reason == "invalid_signature"


class TestTheSnapshotRule:
    """A join reply and the broadcasts since are what a fresh join reply is."""

    def _follow(self, *moves: Callable[[NegotiationSession], tuple[Decision, Player | None]]) -> None:
        session = opened()
        mirrors = [Mirror(who, JOIN.decide(session, Empty(), context(who)).reply) for who in (ALICE, BOB)]
        for move in moves:
            decision, sender = move(session)
            session = state_after(decision)
            for mirror in mirrors:
                mirror.hear(decision, sender=sender)
                assert mirror.known == as_told(JOIN.decide(session, Empty(), context(mirror.who)).reply)

    @staticmethod
    def _offer(who: Player, amount: int) -> Callable[[NegotiationSession], tuple[Decision, Player]]:
        return lambda session: (act(session, "offer", signed_offer(session, who, amount), who), who)

    def test_it_holds_up_to_an_acceptance(self) -> None:
        self._follow(
            self._offer(ALICE, 600),
            self._offer(BOB, 1001),
            self._offer(ALICE, 700),
            lambda session: (act(session, "accept", signed_accept(session, BOB), BOB), BOB),
        )

    def test_it_holds_up_to_equal_offers(self) -> None:
        self._follow(self._offer(BOB, 1001), self._offer(ALICE, 700), self._offer(BOB, 700))

    def test_it_holds_up_to_a_rejection(self) -> None:
        self._follow(self._offer(ALICE, 600), lambda session: (act(session, "reject", Reject(reason="no"), BOB), BOB))

    def test_it_holds_up_to_the_expiry(self) -> None:
        late = NOW + timedelta(minutes=31)
        self._follow(
            self._offer(ALICE, 600),
            lambda session: (TIMERS[EXPIRES](session, context(ALICE, now=late, topic=topic_of(session))), None),
        )


class TestTheReceipt:
    PLATFORM = bytes([7]) * 32

    def _receipt(self, document: dict[str, Any]) -> dict[str, Any]:
        told = as_told(document)
        message = receipt_message(
            signing_domain=MARKET.signing_domain,
            kind="agreement",
            document_id=FRESH_ID,
            document_digest=canonical_digest(told),
        )
        return {
            "kind": "agreement",
            "id": FRESH_ID,
            "signing_domain": MARKET.signing_domain,
            "document": told,
            "platform": {
                "public_key": format_public_key(public_key_of(self.PLATFORM)),
                "signature": sign(self.PLATFORM, message),
            },
        }

    @pytest.mark.parametrize("terms", [None, {"due": "2026-12-01", "pages": 3}])
    def test_an_accepted_agreement_verifies_offline(self, terms: dict[str, Any] | None) -> None:
        session = agreed_by_accept(offered(opened(terms=terms)))

        report = verify_receipt(self._receipt(agreement_document(session, MARKET)))

        assert (report.kind, report.id) == ("agreement", FRESH_ID)

    def test_an_agreement_by_equal_offers_verifies_offline(self) -> None:
        session = offered(opened(), (ALICE, 600), (BOB, 1001), (ALICE, 1001))

        assert verify_receipt(self._receipt(agreement_document(session, MARKET))).id == FRESH_ID

    @pytest.mark.parametrize(
        "change",
        [
            {"amount": 801},
            {"capability": "summarise"},
            {"terms": {"pages": 9}},
            {"base_max": 999, "max_offer": 1998},
            {"provider_agent_id": CAROL.id},
            {"accepted_by": BOB.id},
            {"session_id": OTHER_ID},
            {"client_public_key": MALLORY.agent.public_key},
        ],
        ids=",".join,
    )
    def test_whatever_is_changed_in_it_even_by_the_platform_it_no_longer_verifies(self, change: dict[str, Any]) -> None:
        document = agreement_document(agreed_by_accept(), MARKET) | change

        with pytest.raises(ReceiptError):
            verify_receipt(self._receipt(document))

    @pytest.mark.parametrize("status", [phase for phase in Phase if phase is not Phase.AGREED])
    def test_there_is_none_without_an_agreement(self, status: Phase) -> None:
        session = opened() if status is Phase.OPEN else ended(status)

        refusal = refused(agreement_document, session, MARKET)

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "not_agreed", {"status": status})


class TestThePublishedVectors:
    """The same fields as in the signing vectors: the bytes that other languages sign are the ones that are checked."""

    A = player("a", number=0xA, id="aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa")
    B = player("b", number=0xB, id="bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb")
    SEEDS = (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
    )

    def _parties(self) -> tuple[Player, Player]:
        parties: list[Player] = []
        for who, seed in zip((self.A, self.B), self.SEEDS, strict=True):
            secret_key = bytes.fromhex(seed)
            agent = msgspec.structs.replace(who.agent, public_key=format_public_key(public_key_of(secret_key)))
            parties.append(Player(agent=agent, secret_key=secret_key, identity=identity_of(agent)))
        return parties[0], parties[1]

    def test_the_deal_of_the_vectors_comes_out_with_their_digests_and_signatures(self) -> None:
        a, b = self._parties()
        session = opened(a, b, terms={"due": "2026-12-01", "languages": ["de", "en"]})
        assert session.session_digest == "0d0829831adfffe519db4fcb5f89bd18ffa6a99f3b34ff36761ce7a984499573"

        session = offered(session, (a, 1000), (b, 1501))
        assert [made.signature for made in session.offers] == [
            "UgjbJsB0KqcYOEkCkwI5038Mc7idvqs6osGWPP1AQj+7rsa/5b7L+KoDCHiiMEP83vcG5t9ewjy9Et8IAyIqAw==",
            "qYsVdnHVNQtmj/aXE9/TRpoLxqPMNLRWBsTGRI2kev2S76AqSDHFO8RtTHzGPWkqJzpwaWy5XWgowB9A6RvtAA==",
        ]
        assert [made.digest for made in session.offers] == [
            "7003d0452f97ce60ca7d4380b4cafe0636c5c8f57b3e3433b65c1459a8f1c412",
            "6755f18524f215f7187c2aac1542db7af3ee5cfa49109a221c252c9e96bfb82a",
        ]

        agreed = state_after(act(session, "accept", signed_accept(session, a), a))
        assert agreed.amount == 1250
        assert agreed.accept_signature is not None
        assert agreed.accept_signature.startswith("CQZ8P1AT14+HWTfTroXSHznrWgPIpBAYWCObhUfJVNvkr32A8egV1/MPlscU6VuzB4")
