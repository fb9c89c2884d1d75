"""Mailboxes: what Alice writes to Bob, and what he makes of it. Mallory looks into mailboxes that are not hers."""

from datetime import timedelta
from typing import Any

import pytest

from channels.handlers import FollowMail
from channels.messages import DUE_AT_ONCE, FORGOTTEN_EVERY, HANDLERS, JOIN, MAILBOX, Phase, StoredMessage
from tests.channels.roles import ALICE, BOB, CAROL, MALLORY, NOW, Player, context, identity_of, market_with, refused
from tests.channels.work import OLGA, hired, world_of
from tests.channels.world import Listener, World

MAILBOX_OF_BOB = f"messages:{BOB.id}"
UNKNOWN = "99999999-0000-4000-8000-000000000000"
WEEK_S = 604_800


@pytest.fixture
def world() -> World:
    return world_of()


@pytest.fixture
def alice(world: World) -> Listener:
    """Alice's own mailbox, where she hears what becomes of what she sends."""
    return world.listen(ALICE, f"messages:{ALICE.id}")


@pytest.fixture
def message(world: World) -> StoredMessage:
    """What Alice has written to Bob."""
    return written(world)


def written(world: World, who: Player = ALICE, whom: Player = BOB, **fields: Any) -> StoredMessage:
    """A message of one to another, as it is stored."""
    told = world.write(who, **{"to_agent_id": whom.id, "type": "status_update", "payload": {"done": 3}, **fields})
    return stored(world, told["id"])


def stored(world: World, message_id: str) -> StoredMessage:
    """A message as it is now."""
    found: StoredMessage = world.states["message"][message_id]
    return found


def answer(world: World, event: str, message: StoredMessage, who: Player = BOB, reason: str = "not mine") -> Any:
    """What a receiver says of a message."""
    payload = {"message_id": message.id} | ({"reason": reason} if event == "reject" else {})
    return world.push(who, f"messages:{who.id}", event, payload)


class TestJoining:
    def test_says_how_many_messages_wait_and_follows_the_mailbox(self, world: World) -> None:
        written(world)
        hired(world)

        assert world.join(BOB, MAILBOX_OF_BOB) == {"undelivered": 2}
        assert world.follows == [FollowMail(BOB.id)]

    def test_counts_what_was_pushed_and_not_answered_and_nothing_else(self, world: World) -> None:
        pushed, taken, refused_, _queued = (written(world) for _ in range(4))
        written(world, BOB, ALICE)
        world.mark_pushed(BOB.id, pushed.id, taken.id)
        answer(world, "acknowledge", taken)
        answer(world, "reject", refused_)

        assert world.join(BOB, MAILBOX_OF_BOB) == {"undelivered": 2}

    def test_does_not_count_what_is_over_by_the_clock_alone(self, world: World) -> None:
        written(world)
        world.advance(1)
        written(world)
        world.advance(WEEK_S - 1, run_timers=False)

        assert world.join(BOB, MAILBOX_OF_BOB) == {"undelivered": 1}

    def test_is_for_the_agent_itself(self, world: World, message: StoredMessage) -> None:
        for act in (
            lambda: world.join(MALLORY, MAILBOX_OF_BOB),
            lambda: JOIN.decide(None, None, context(MALLORY, topic=MAILBOX_OF_BOB)),
            lambda: world.push(MALLORY, MAILBOX_OF_BOB, "acknowledge", {"message_id": message.id}),
            lambda: world.push(MALLORY, MAILBOX_OF_BOB, "reject", {"message_id": message.id, "reason": "mine"}),
        ):
            refusal = refused(act)
            assert (refusal.kind, refusal.reason) == ("forbidden", "unauthorized")
        assert world.mail(BOB) == [message]

    def test_needs_the_scope(self, world: World, message: StoredMessage) -> None:
        scopeless = Player(
            agent=BOB.agent, secret_key=BOB.secret_key, identity=identity_of(BOB.agent, scopes=frozenset(("tasks",)))
        )

        assert refused(world.join, scopeless, MAILBOX_OF_BOB).reason == "missing_scope"
        for event in ("acknowledge", "reject"):
            assert refused(answer, world, event, message, scopeless).reason == "missing_scope"
        assert world.mail(BOB) == [message]


class TestNewMessages:
    def test_say_what_they_are_who_sent_them_and_when(self, world: World) -> None:
        bob = world.listen(BOB, MAILBOX_OF_BOB)

        message = written(world)

        assert [heard.event for heard in bob.heard] == ["new_message"]
        assert bob.heard[0].payload == {
            "id": message.id,
            "type": "status_update",
            "payload": {"done": 3},
            "from_agent_id": ALICE.id,
            "protocol_version": "1.0",
            "inserted_at": "2026-03-01T12:00:00Z",
            "from_market": False,
        }

    def test_are_told_to_nobody_else(self, world: World, alice: Listener) -> None:
        mallory = world.listen(MALLORY, f"messages:{MALLORY.id}")

        written(world)

        assert mallory.heard == alice.heard == []

    def test_that_the_marketplace_announces_are_told_apart_from_what_agents_write(self, world: World) -> None:
        bob = world.listen(BOB, MAILBOX_OF_BOB)

        hired(world)
        written(world, type="task_handoff", payload={"task_id": "a lie"})

        announced, claimed = bob.payloads("new_message")
        assert (announced["from_market"], claimed["from_market"]) == (True, False)
        assert announced["type"] == claimed["type"] == "task_handoff"
        assert announced["from_agent_id"] == claimed["from_agent_id"] == ALICE.id


class TestPushed:
    def test_messages_are_delivered_and_their_sender_is_told(
        self, world: World, alice: Listener, message: StoredMessage
    ) -> None:
        world.advance(5)
        world.mark_pushed(BOB.id, message.id)

        assert stored(world, message.id).status is Phase.DELIVERED
        assert alice.payloads("message_updated") == [
            {
                "id": message.id,
                "to_agent_id": BOB.id,
                "type": "status_update",
                "status": "delivered",
                "reason": None,
                "updated_at": "2026-03-01T12:00:05Z",
            }
        ]

    def test_a_second_push_changes_nothing(self, world: World, alice: Listener, message: StoredMessage) -> None:
        world.mark_pushed(BOB.id, message.id)
        before = world.everything()

        world.advance(1)
        world.mark_pushed(BOB.id, message.id)

        assert world.everything() == before
        assert len(alice.heard) == 1

    @pytest.mark.parametrize("event", ["acknowledge", "reject"])
    def test_what_was_answered_meanwhile_stays_answered(self, world: World, message: StoredMessage, event: str) -> None:
        answer(world, event, message)
        before = world.everything()

        world.mark_pushed(BOB.id, message.id)

        assert world.everything() == before

    def test_what_was_over_by_the_clock_is_not_delivered_any_more(self, world: World, message: StoredMessage) -> None:
        world.advance(WEEK_S, run_timers=False)

        world.mark_pushed(BOB.id, message.id)

        assert stored(world, message.id).status is Phase.QUEUED

    def test_several_at_once_are_each_told_to_their_sender(self, world: World, alice: Listener) -> None:
        carol = world.listen(CAROL, f"messages:{CAROL.id}")
        mine, hers = written(world), written(world, CAROL)

        world.mark_pushed(BOB.id, mine.id, hers.id, UNKNOWN)

        assert [told["id"] for told in alice.payloads("message_updated")] == [mine.id]
        assert [told["id"] for told in carol.payloads("message_updated")] == [hers.id]

    def test_nobody_is_told_of_what_nobody_sent(self, world: World, alice: Listener) -> None:
        world.write(OLGA, to_agent_id=BOB.id, type="system", payload="hello")
        (message,) = world.mail(BOB)

        world.mark_pushed(BOB.id, message.id)

        assert stored(world, message.id).status is Phase.DELIVERED
        assert alice.heard == []


class TestAnswering:
    @pytest.mark.parametrize("was_pushed", [False, True])
    def test_an_acknowledged_message_waits_no_more_and_its_sender_is_told(
        self, world: World, alice: Listener, message: StoredMessage, *, was_pushed: bool
    ) -> None:
        if was_pushed:
            world.mark_pushed(BOB.id, message.id)

        reply = answer(world, "acknowledge", message)

        assert reply == {"message_id": message.id, "status": "acknowledged"}
        assert world.join(BOB, MAILBOX_OF_BOB) == {"undelivered": 0}
        told = alice.payloads("message_updated")[-1]
        assert (told["status"], told["reason"]) == ("acknowledged", None)

    @pytest.mark.parametrize("was_pushed", [False, True])
    def test_a_rejected_message_waits_no_more_and_its_sender_is_told_why(
        self, world: World, alice: Listener, message: StoredMessage, *, was_pushed: bool
    ) -> None:
        if was_pushed:
            world.mark_pushed(BOB.id, message.id)

        reply = answer(world, "reject", message, reason="  I do not do that. ")

        assert reply == {"message_id": message.id, "status": "rejected", "reason": "I do not do that."}
        assert world.join(BOB, MAILBOX_OF_BOB) == {"undelivered": 0}
        told = alice.payloads("message_updated")[-1]
        assert (told["status"], told["reason"]) == ("rejected", "I do not do that.")

    @pytest.mark.parametrize("event", ["acknowledge", "reject"])
    def test_the_same_again_is_a_duplicate_and_changes_nothing(
        self, world: World, alice: Listener, message: StoredMessage, event: str
    ) -> None:
        first = answer(world, event, message)
        before = world.everything()

        again = answer(world, event, message, reason="another reason")

        assert again == {**first, "duplicate": True}
        assert world.everything() == before
        assert len(alice.heard) == 1

    def test_the_first_answer_stands(self, world: World) -> None:
        taken, left = written(world), written(world)
        answer(world, "acknowledge", taken)
        answer(world, "reject", left, reason="busy")
        before = world.everything()

        rejecting = refused(answer, world, "reject", taken)
        assert (rejecting.kind, rejecting.reason) == ("conflict", "already_acknowledged")
        acknowledging = refused(answer, world, "acknowledge", left)
        assert (acknowledging.kind, acknowledging.reason) == ("conflict", "already_rejected")
        assert acknowledging.context == {"rejection": "busy"}
        assert world.everything() == before

    @pytest.mark.parametrize("event", ["acknowledge", "reject"])
    @pytest.mark.parametrize("run_timers", [False, True])
    def test_what_is_over_is_answered_no_more(
        self, world: World, message: StoredMessage, event: str, *, run_timers: bool
    ) -> None:
        world.advance(WEEK_S, run_timers=run_timers)
        before = world.everything()

        refusal = refused(answer, world, event, message)

        assert (refusal.kind, refusal.reason) == ("expired", "expired")
        assert refusal.context == {"expired_at": NOW + timedelta(days=7)}
        assert world.everything() == before

    @pytest.mark.parametrize(("event", "status"), [("acknowledge", "acknowledged"), ("reject", "rejected")])
    def test_a_moment_before_it_can_be_answered(
        self, world: World, message: StoredMessage, event: str, status: str
    ) -> None:
        world.advance(WEEK_S - 1)

        assert answer(world, event, message)["status"] == status

    @pytest.mark.parametrize("event", ["acknowledge", "reject"])
    def test_the_same_answer_is_a_duplicate_also_after_its_time(
        self, world: World, message: StoredMessage, event: str
    ) -> None:
        answer(world, event, message)
        world.advance(WEEK_S)

        assert answer(world, event, message)["duplicate"] is True

    @pytest.mark.parametrize("event", ["acknowledge", "reject"])
    def test_an_unknown_or_foreign_message_is_not_found(self, world: World, message: StoredMessage, event: str) -> None:
        unknown = {"message_id": UNKNOWN, "reason": "mine"}
        assert refused(world.push, BOB, MAILBOX_OF_BOB, event, unknown).reason == "not_found"
        assert refused(answer, world, event, message, MALLORY).reason == "not_found"
        assert refused(answer, world, event, message, ALICE).reason == "not_found"
        assert world.mail(BOB) == [message]

    @pytest.mark.parametrize("event", ["acknowledge", "reject"])
    def test_were_the_loader_to_find_a_foreign_message_the_rule_would_not(
        self, message: StoredMessage, event: str
    ) -> None:
        handler = HANDLERS[event]
        request = handler.request(message_id=message.id, **({"reason": "mine"} if event == "reject" else {}))

        misled = refused(handler.decide, message, request, context(MALLORY, topic=f"messages:{MALLORY.id}"))

        assert misled.reason == "not_found"

    @pytest.mark.parametrize("reason", ["", "   ", "x" * 501, "a\x00b"])
    def test_a_reason_has_up_to_500_characters(self, world: World, message: StoredMessage, reason: str) -> None:
        refusal = refused(answer, world, "reject", message, reason=reason)

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "reason"})
        assert world.mail(BOB) == [message]

    def test_the_longest_reason_is_taken(self, world: World, message: StoredMessage) -> None:
        assert answer(world, "reject", message, reason="x" * 500)["reason"] == "x" * 500


class TestTheClock:
    def test_ends_what_nobody_has_answered_in_a_week_and_tells_its_sender(self, world: World, alice: Listener) -> None:
        queued, pushed = written(world), written(world)
        world.mark_pushed(BOB.id, pushed.id)
        world.advance(WEEK_S)

        for message in (queued, pushed):
            over = stored(world, message.id)
            assert (over.status, over.ended_at) == (Phase.EXPIRED, NOW + timedelta(days=7))
        told = [one for one in alice.payloads("message_updated") if one["status"] == "expired"]
        assert [one["id"] for one in told] == [queued.id, pushed.id]
        assert {one["updated_at"] for one in told} == {"2026-03-08T12:00:00Z"}

    def test_leaves_what_was_answered_as_it_is(self, world: World, message: StoredMessage) -> None:
        answer(world, "acknowledge", message)
        world.advance(WEEK_S)

        assert stored(world, message.id).status is Phase.ACKNOWLEDGED

    def test_comes_for_the_first_that_is_due_and_then_for_the_next(self, world: World, message: StoredMessage) -> None:
        world.advance(60)
        later = written(world)
        assert world.mailbox_timers == {(MAILBOX_OF_BOB, MAILBOX): message.expires_at}

        world.advance(WEEK_S - 60)

        assert world.mailbox_timers == {(MAILBOX_OF_BOB, MAILBOX): later.expires_at}
        assert stored(world, later.id).status is Phase.QUEUED

    def test_forgets_what_has_ended_a_week_after_its_time(self, world: World, message: StoredMessage) -> None:
        answer(world, "reject", message)
        world.advance(WEEK_S)
        world.advance(WEEK_S - 1)
        assert [one.id for one in world.mail(BOB)] == [message.id]

        world.advance(1)

        assert world.mail(BOB) == []
        assert world.mailbox_timers == {}

    def test_forgets_what_expired_as_late(self, world: World, message: StoredMessage) -> None:
        world.advance(WEEK_S)
        assert world.mailbox_timers == {(MAILBOX_OF_BOB, MAILBOX): message.expires_at + timedelta(days=7)}

        world.advance(WEEK_S)

        assert world.mail(BOB) == []

    def test_after_a_long_stop_does_it_all_and_no_more_than_some_at_once(self, world: World, alice: Listener) -> None:
        count = 2 * DUE_AT_ONCE + 1
        for _ in range(count):
            written(world)
        world.advance(WEEK_S)

        assert [one.status for one in world.mail(BOB)] == [Phase.EXPIRED] * count
        assert len(alice.payloads("message_updated")) == count

        world.advance(WEEK_S)

        assert world.mail(BOB) == []
        assert world.mailbox_timers == {}

    def test_ends_and_forgets_in_one_run_after_two_weeks(self, world: World) -> None:
        old = written(world)
        answer(world, "acknowledge", old)
        written(world)
        world.advance(2 * WEEK_S)

        assert world.mail(BOB) == []
        assert world.mailbox_timers == {}

    def test_keeps_a_message_at_least_as_long_as_its_dedup_key_counts(self) -> None:
        short = {"message_ttl_s": 60, "message_retention_s": 60, "dedup_ttl_s": 600}
        world = world_of(market=market_with(**short))
        first = written(world, dedup_key="once")
        world.advance(599)
        assert written(world, dedup_key="once") == stored(world, first.id)

        world.advance(1)
        assert refused(answer, world, "acknowledge", first).reason == "expired"
        world.advance(FORGOTTEN_EVERY.total_seconds())

        assert world.mail(BOB) == []

    def test_comes_to_forget_no_more_than_every_five_minutes(self, world: World) -> None:
        for _ in range(10):
            answer(world, "acknowledge", written(world))
            world.advance(60)

        world.advance(2 * WEEK_S - 600)  # The first may be forgotten, and another one each minute.

        left = [len(world.mail(BOB))]
        for _ in range(10):
            world.advance(60)
            left.append(len(world.mail(BOB)))
        assert left == [9] * 5 + [4] * 5 + [0]

    def test_ends_in_time_what_is_over_before_it_comes_to_forget(self, world: World) -> None:
        for _ in range(2):
            answer(world, "acknowledge", written(world))
            world.advance(60)
        world.advance(WEEK_S - 60)
        waiting = written(world)
        world.advance(WEEK_S - 60)
        assert world.mailbox_timers == {(MAILBOX_OF_BOB, MAILBOX): waiting.expires_at}

        world.advance(60)

        assert [(one.id, one.status) for one in world.mail(BOB)] == [(waiting.id, Phase.EXPIRED)]

    def test_comes_earlier_for_what_is_over_before_anything_is_to_be_forgotten(
        self, world: World, message: StoredMessage
    ) -> None:
        world.advance(2 * WEEK_S - 1)
        fresh = written(world)
        answer(world, "acknowledge", fresh)
        world.advance(FORGOTTEN_EVERY.total_seconds())
        assert world.mailbox_timers == {(MAILBOX_OF_BOB, MAILBOX): fresh.expires_at + timedelta(days=7)}

        waiting = written(world)

        assert message not in world.mail(BOB)
        assert world.mailbox_timers == {(MAILBOX_OF_BOB, MAILBOX): waiting.expires_at}

    def test_forgets_as_it_comes_to_end_something(self, world: World, message: StoredMessage) -> None:
        answer(world, "acknowledge", message)
        world.advance(WEEK_S + 60)
        later = written(world)
        world.advance(WEEK_S)

        assert [one.id for one in world.mail(BOB)] == [later.id]
        assert stored(world, later.id).status is Phase.EXPIRED
        assert world.mailbox_timers == {(MAILBOX_OF_BOB, MAILBOX): later.expires_at + timedelta(days=7)}

    def test_comes_back_for_what_is_stored_after_everything_was_forgotten(
        self, world: World, message: StoredMessage
    ) -> None:
        world.advance(2 * WEEK_S)
        assert message not in world.mail(BOB)

        fresh = written(world)

        assert world.mailbox_timers == {(MAILBOX_OF_BOB, MAILBOX): fresh.expires_at}
