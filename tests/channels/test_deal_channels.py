"""A deal's own private channel: the client owns it, the provider needs no invitation, and a task takes it over."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from channels.changes import Insert, Mail, Save, Timer
from channels.deal_channels import deal_channel, lapses
from channels.handlers import Decision
from channels.hiring import OpenTask, TaskOpening, open_task
from channels.negotiation import NegotiationSession, OpenNegotiation, open_negotiation
from channels.negotiation_state import Phase as NegotiationPhase
from channels.opening import Opening
from channels.private_state import DEAL_LAPSES, PrivateChannel
from channels.task_state import Phase as TaskPhase
from channels.task_state import Task
from tests.channels.bargain import act, agreed_by_accept, offered, opened, signed_accept
from tests.channels.roles import ALICE, BOB, NOW, context

FACTS = Opening(client=ALICE.agent, provider=BOB.agent, open_count=0)
ASKED = OpenNegotiation(provider_agent_id=BOB.id, capability="translate", private_channel=True)


def inserted(decision: Decision, store: str) -> Any:
    """The one new state of a store; None where there is none."""
    found = [change.state for change in decision.changes if isinstance(change, Insert) and change.store == store]
    return found[0] if found else None


def mail_of(decision: Decision) -> Any:
    (mail,) = [change for change in decision.changes if isinstance(change, Mail)]
    return mail.payload


TALK = PrivateChannel(
    id="private:of-the-talk", owner_agent_id=ALICE.id, parties=(BOB.id,), deal="negotiation:1", created_at=NOW
)


def hired(
    agreement: NegotiationSession | None, *, private_channel: bool, talk: PrivateChannel | None = None
) -> Decision:
    price: dict[str, Any] = {"max_price": 5_000} if agreement is None else {"negotiation_session_id": agreement.id}
    request = OpenTask(provider_agent_id=BOB.id, capability="translate", private_channel=private_channel, **price)
    return open_task(TaskOpening(opening=FACTS, agreement=agreement, talk=talk), request, context(ALICE))


def test_nothing_is_made_unless_it_is_asked_for() -> None:
    made = deal_channel(
        is_wanted=False, client_agent_id="a", provider_agent_id="b", deal="task:1", context=context(ALICE)
    )

    assert made == (None, ())


def test_a_negotiation_that_asks_for_a_channel_has_one_that_both_may_enter() -> None:
    decision = open_negotiation(FACTS, ASKED, context(ALICE))

    channel: PrivateChannel = inserted(decision, "private")
    session: NegotiationSession = inserted(decision, "negotiation")
    assert channel.id.startswith("private:")
    assert (channel.owner_agent_id, channel.parties, channel.members) == (ALICE.id, (BOB.id,), ())
    assert channel.deal == f"negotiation:{session.id}"
    assert decision.reply["private_channel_id"] == session.private_channel_id == channel.id
    assert mail_of(decision)["private_channel_id"] == channel.id


def test_a_task_that_asks_for_a_channel_has_one() -> None:
    decision = hired(None, private_channel=True)

    channel, task = inserted(decision, "private"), inserted(decision, "task")
    assert channel.deal == task.topic
    assert decision.reply["private_channel_id"] == task.private_channel_id == channel.id
    assert mail_of(decision)["private_channel_id"] == channel.id


def test_a_task_that_asks_for_none_has_none() -> None:
    decision = hired(None, private_channel=False)

    assert inserted(decision, "private") is None
    assert decision.reply["private_channel_id"] is None


@pytest.mark.parametrize("is_asked", [True, False])
def test_a_task_takes_over_the_channel_of_its_negotiation(is_asked: bool) -> None:  # noqa: FBT001 - a parameter of a test
    decision = hired(agreed_by_accept(), private_channel=is_asked, talk=TALK)

    task = inserted(decision, "task")
    assert inserted(decision, "private") is None
    assert decision.reply["private_channel_id"] == TALK.id
    saved = [change for change in decision.changes if isinstance(change, Save) and change.store == "private"]
    assert saved == [Save("private", TALK.id, TALK, msgspec.structs.replace(TALK, deal=task.topic))]


@pytest.mark.parametrize("is_asked", [True, False])
def test_of_a_channel_that_was_closed_nothing_is_taken_over(is_asked: bool) -> None:  # noqa: FBT001 - a parameter of a test
    agreement = msgspec.structs.replace(agreed_by_accept(), private_channel_id=TALK.id)

    decision = hired(agreement, private_channel=is_asked)

    made = inserted(decision, "private")
    assert decision.reply["private_channel_id"] == (made.id if is_asked else None)


def test_an_agreement_without_a_channel_has_no_clock_for_one() -> None:
    assert lapses(None, NOW) == ()


def test_the_channel_of_an_agreement_ends_when_nobody_can_use_that_any_more() -> None:
    session = msgspec.structs.replace(opened(), private_channel_id="private:of-the-talk")
    standing = offered(session, (ALICE, 600), (BOB, 1001))

    decision = act(standing, "accept", signed_accept(standing, ALICE), ALICE)

    assert Timer(DEAL_LAPSES, "private:of-the-talk", NOW + timedelta(days=1)) in decision.changes


def test_a_task_that_takes_the_channel_over_stops_that_clock() -> None:
    decision = hired(agreed_by_accept(), private_channel=False, talk=TALK)

    assert Timer(DEAL_LAPSES, TALK.id, None) in decision.changes


@pytest.mark.parametrize("status", NegotiationPhase)
def test_the_channel_ends_with_a_negotiation_unless_that_goes_on_or_was_agreed(status: NegotiationPhase) -> None:
    session = msgspec.structs.replace(agreed_by_accept(), status=status)

    assert session.ends_channel is (status in {"rejected", "expired", "cancelled"})


@pytest.mark.parametrize("status", TaskPhase)
def test_the_channel_ends_with_a_task(status: TaskPhase) -> None:
    task: Task = msgspec.structs.replace(inserted(hired(None, private_channel=True), "task"), status=status)

    assert task.ends_channel is (status in {"completed", "failed", "cancelled"})
