"""What the end of a contact, a block and a ban make of the payment channels of the two."""

import pytest

from channels.channel_steps import StepKind
from channels.ledger import available, channel_lock
from channels.payment_state import Cause, Mode
from channels.told import Audience
from tests import paying
from tests.channels.channel_play import OFFLINE, Play, in_phase, payload_of
from tests.channels.payment_stage import DAY_S
from tests.channels.roles import ALICE, BOB, FRESH_ID, refused
from tests.channels.strangers import ALICE as LONE_ALICE
from tests.channels.strangers import BOB as LONE_BOB
from tests.channels.strangers import befriended, strangers
from tests.channels.world import World

TOPIC = f"payment:{FRESH_ID}"
CAUSES = pytest.mark.parametrize("cause", [Cause.CONTACT_REVOKED, Cause.BANNED])
LIVE = pytest.mark.parametrize("phase", ["open", "closing", "disputed"])


class TestPending:
    @CAUSES
    def test_one_that_nobody_has_accepted_is_declined_and_refunded(self, cause: Cause) -> None:
        play = in_phase("pending")

        play.revoke(cause)

        assert play.snapshot == play.snapshot | {
            "status": "declined",
            "cause": cause,
            "reason": None,
            "final_balance_a": 1_000,
            "final_balance_b": 0,
            "closed_at": "2026-03-01T12:00:00Z",
        }
        assert play.entries() == [("unlock", {channel_lock(FRESH_ID): -1_000, available(ALICE.id): 1_000})]
        assert (play.step.kind, play.step.agent_id, play.step.details) == ("declined", None, {"reason": cause})
        told = play.told_once()
        assert (told.topic, told.event, told.audience) == (TOPIC, "channel_updated", Audience.ALL)
        assert payload_of(told) == {"channel_id": FRESH_ID, "change": "declined", "channel": play.snapshot}
        assert (play.mail(), play.spent()) == ([], [])
        play.wait(DAY_S)
        assert (play.timer, play.snapshot["status"]) == (None, "declined")

    @CAUSES
    def test_one_that_is_over_by_the_clock_has_expired(self, cause: Cause) -> None:
        play = in_phase("pending")
        play.wait(DAY_S, is_timer_late=True)

        play.revoke(cause)

        assert play.snapshot["cause"] == "expired"

    @CAUSES
    def test_one_that_states_were_lost_of_still_waits_for_an_agreement_or_an_operator(self, cause: Cause) -> None:
        """Mallory blocks Bob, so that it has back what it has paid him before the server lost it."""
        play = in_phase("pending")
        play.freeze()
        before = play.everything()

        play.revoke(cause)

        assert (play.everything(), play.last.state, play.lock) == (before, None, 1_000)
        assert play.close((700, 300))["final_balance_b"] == 300
        assert play.verify().checks


class TestRestricted:
    @LIVE
    @pytest.mark.parametrize("mode", Mode)
    def test_a_live_one_goes_on_for_what_there_is(self, phase: str, mode: Mode) -> None:
        play = in_phase(phase, mode=mode)
        before = play.snapshot

        play.revoke()

        assert play.snapshot == before | {"is_revoked": True}
        told = play.told_once()
        assert (told.topic, told.event, told.audience) == (TOPIC, "channel_updated", Audience.ALL)
        assert payload_of(told) == {"channel_id": FRESH_ID, "change": "revoked", "channel": play.snapshot}
        assert (play.step.kind, play.step.agent_id, play.step.details) == ("revoked", None, {})
        assert play.entries() == []

    @CAUSES
    def test_what_is_pending_is_voided(self, cause: Cause) -> None:
        play = Play()
        play.propose()
        answer = play.acknowledgement()

        play.revoke(cause)

        assert (play.snapshot["pending_proposal"], play.snapshot["last_nonce"]) == (None, 1)
        voided = play.told_last()[0]
        assert (voided.event, voided.audience) == ("transfer_voided", Audience.ALL)
        assert payload_of(voided) == payload_of(voided) | {"reason": cause, "agent_id": None, "text": None}
        assert play.refused(BOB, "acknowledge_transfer", **answer).reason == "nonce_replayed"

    def test_only_the_first_time_counts(self) -> None:
        play = in_phase("revoked")
        before = play.everything()

        play.revoke()

        assert (play.everything(), play.last.state, play.told_last()) == (before, None, [])

    def test_it_can_be_handed_in_to_disputed_and_closed(self) -> None:
        play = in_phase("revoked", mode=OFFLINE)

        assert play.hand_in(5)["applied"] == 1
        play.dispute(BOB)
        play.send(BOB, "withdraw_dispute")
        play.send(ALICE, "force_close")
        assert play.close((1, 1_999))["cause"] == "joint_close"

    @CAUSES
    @pytest.mark.parametrize("phase", ["closed", "declined", "expired"])
    def test_what_has_ended_stays_as_it_ended(self, phase: str, cause: Cause) -> None:
        play = in_phase(phase)
        before = play.everything()

        play.revoke(cause)

        assert (play.everything(), play.last.state, play.last.changes) == (before, None, ())

    def test_a_window_that_has_run_out_meanwhile_pays(self) -> None:
        play = in_phase("closing")
        play.wait(DAY_S, is_timer_late=True)

        play.revoke()

        assert (play.snapshot["status"], play.snapshot["is_revoked"]) == ("closed", False)


class TestBanned:
    def test_an_open_one_is_closed_by_force_at_once(self) -> None:
        play = Play()

        play.revoke(Cause.BANNED)

        assert play.snapshot["status"] == "closing"
        assert play.snapshot["closing"] == {
            "by": None,
            "began_at": "2026-03-01T12:00:00Z",
            "ends_at": "2026-03-02T12:00:00Z",
        }
        assert [payload_of(told)["change"] for told in play.told_last()] == ["revoked", "force_close"]
        assert payload_of(play.told_last()[-1])["channel"] == play.snapshot
        assert play.kinds()[-2:] == ["revoked", "force_close"]
        assert play.step.agent_id is None
        play.wait(DAY_S)
        assert (play.snapshot["cause"], play.lock) == ("force_close", 0)

    def test_also_where_the_contact_had_ended_before(self) -> None:
        play = in_phase("revoked")

        play.revoke(Cause.BANNED)

        assert play.snapshot["status"] == "closing"
        assert [payload_of(told)["change"] for told in play.told_last()] == ["force_close"]

    def test_a_disputed_one_is_closed_by_force_beside_the_dispute(self) -> None:
        """Else whoever withdraws it would leave it open with one who can never answer again."""
        play = Play()
        play.dispute(BOB)

        play.revoke(Cause.BANNED)
        assert (play.snapshot["status"], play.kinds()[-2:]) == ("disputed", ["revoked", "force_close"])
        play.wait(DAY_S - 1)
        play.send(BOB, "withdraw_dispute")
        assert play.snapshot["status"] == "closing"
        play.wait(1)
        assert (play.snapshot["cause"], play.lock) == ("force_close", 0)

    @pytest.mark.parametrize("phase", ["closing", "frozen"])
    def test_what_ends_otherwise_goes_on_as_it_does(self, phase: str) -> None:
        play = in_phase(phase)
        before = play.snapshot

        play.revoke(Cause.BANNED)

        assert play.snapshot == before | {"is_revoked": True}


class TestTheEndOfAContact:
    """By a removal or a block, in the transaction that ends the contact."""

    @pytest.fixture
    def world(self) -> World:
        world = strangers()
        befriended(world)
        return world

    def opened(self, world: World, *, accepted: bool = True) -> str:
        channel_id: str = world.open_channel(LONE_ALICE, counterparty_agent_id=LONE_BOB.id, deposit=1_000)["id"]
        if accepted:
            world.rest(LONE_BOB, f"payment:{channel_id}", "accept")
        return channel_id

    def end(self, world: World, how: str) -> None:
        world.call(LONE_BOB, how, handle=LONE_ALICE.agent.handle)

    @pytest.mark.parametrize("how", ["remove", "block"])
    def test_every_channel_of_the_two_is_cut_at_once(self, world: World, how: str) -> None:
        pending, opened = self.opened(world, accepted=False), self.opened(world)
        joined = world.join(LONE_ALICE, f"payment:{opened}")
        sent = paying.proposal(joined, LONE_ALICE.secret_key, from_agent_id=LONE_ALICE.id, amount=10)
        world.push(LONE_ALICE, f"payment:{opened}", "propose_transfer", sent)
        ear = world.listen(LONE_ALICE, f"payment:{opened}")

        self.end(world, how)

        declined, restricted = (world.states["payment"][id_] for id_ in (pending, opened))
        assert (declined.status, declined.cause) == ("declined", "contact_revoked")
        assert (restricted.status, restricted.is_revoked, restricted.last_nonce) == ("open", True, 1)
        assert ear.events() == ["transfer_voided", "channel_updated"]
        assert [step.kind for step in world.steps[opened]][-2:] == ["voided", "revoked"]
        world.require_balance()

    @pytest.mark.parametrize("how", ["remove", "block"])
    def test_nothing_new_is_opened(self, world: World, how: str) -> None:
        self.end(world, how)

        assert refused(self.opened, world).reason == ("not_found" if how == "block" else "contact_required")

    def test_what_is_revoked_already_is_not_saved_again(self, world: World) -> None:
        channel_id = self.opened(world)
        self.end(world, "remove")
        before = world.states["payment"][channel_id]

        self.end(world, "block")

        assert world.states["payment"][channel_id] == before
        assert [step.kind for step in world.steps[channel_id]].count(StepKind.REVOKED) == 1
