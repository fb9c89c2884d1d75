"""What there is to see: each step of a deal once, in order, to those who take part."""

from typing import Any, get_args

import pytest

from channels.activity import Kind, scopes_of, seen, shown
from channels.changes import Changed, Stepped
from channels.handlers import Decision
from channels.identity import Identity
from channels.told import Activity
from tests.channels.played import Played
from tests.channels.roles import ALICE, BOB, MARKET, NOW
from tests.channels.work import OLGA, PURSE, hired

STORES = ("negotiation", "task", "payment")
NAMES = {who.id: (who.agent.owner_id, who.agent.handle) for who in (ALICE, BOB)}


class Watched(Played):
    """A marketplace that is watched: what one decision changes is looked at together, as the server does."""

    def __init__(self) -> None:
        super().__init__()
        self.happened: list[Activity] = []
        self.deposit(ALICE, PURSE)
        self.deposit(BOB, PURSE)

    def _carry_out(self, decision: Decision, sender: Identity, store: str) -> None:
        states = {(store, id_): state for store in STORES for id_, state in self.states[store].items()}
        steps = {channel: len(own) for channel, own in self.steps.items()}
        super()._carry_out(decision, sender, store)
        changed = [
            Changed(store, states.get((store, id_)), state)
            for store in STORES
            for id_, state in self.states[store].items()
            if states.get((store, id_)) is not state
        ]
        stepped = [
            Stepped(channel, step) for channel, own in self.steps.items() for step in own[steps.get(channel, 0) :]
        ]
        self.happened += seen((*stepped, *changed), NAMES.get, self.new_id)

    def kinds(self) -> list[str]:
        """What has happened since this was last asked."""
        kinds = [one.kind for one in self.happened]
        self.happened = []
        return kinds


@pytest.fixture
def world() -> Watched:
    return Watched()


def ended(world: Watched, event: str, payload: Any = None) -> None:
    world.push(ALICE if event == "cancel" else BOB, f"task:{hired(world)}", event, payload)


def test_a_negotiation_is_seen_offer_by_offer_to_its_end(world: Watched) -> None:
    world.bargain(600, 1_001, accepted=True)
    amounts = [one.amount for one in world.happened]

    assert world.kinds() == ["negotiation_opened", "offer", "offer", "negotiation_agreed"]
    assert amounts == [1_000, 600, 1_001, 800]


def test_an_offer_that_meets_another_is_an_offer_and_an_agreement(world: Watched) -> None:
    world.bargain(600, 600)

    assert world.kinds()[-2:] == ["offer", "negotiation_agreed"]


def test_every_other_end_of_a_negotiation_is_an_end(world: Watched) -> None:
    world.push(BOB, f"negotiation:{world.bargain(600)}", "reject", {"reason": "too low"})
    world.ban("negotiation", world.bargain())
    world.bargain()
    world.advance(MARKET.limits.negotiation_ttl_s)

    assert world.kinds().count("negotiation_ended") == 3


@pytest.mark.parametrize(
    ("event", "payload", "kind"),
    [
        ("complete", {"result": 1}, "task_completed"),
        ("error", {"type": "broken"}, "task_failed"),
        ("cancel", {"reason": "late"}, "task_cancelled"),
    ],
)
def test_a_task_is_seen_to_begin_and_to_end(world: Watched, event: str, payload: Any, kind: str) -> None:
    topic = f"task:{hired(world)}"
    world.push(BOB, topic, "progress", {"percent": 1})
    world.push(BOB, topic, "progress", {"percent": 2})
    world.push(ALICE if event == "cancel" else BOB, topic, event, payload)
    (amount,) = {one.amount for one in world.happened}

    assert world.kinds() == ["task_opened", "task_started", kind]
    assert amount == 1_000


def test_a_dispute_and_its_settlement_are_seen(world: Watched) -> None:
    topic = f"task:{hired(world, hold_seconds=60)}"
    world.push(BOB, topic, "complete", {"result": "done"})
    world.push(ALICE, topic, "dispute", {"reason": "it is wrong"})
    world.rest(OLGA, topic, "decide_task", decision="client", reason="it is")

    assert world.kinds() == ["task_opened", "task_completed", "task_disputed", "task_settled"]


def test_a_dispute_that_the_rules_settle_at_once_is_both(world: Watched) -> None:
    topic = f"task:{hired(world)}"
    world.push(BOB, topic, "progress", {"percent": 1})
    world.push(ALICE, topic, "dispute", {"reason": "nothing comes"})

    assert world.kinds()[-1] == "task_settled"


def test_of_a_task_that_is_paid_as_it_streams_the_amount_is_what_was_paid(world: Watched) -> None:
    channel = world.open_channel(ALICE, counterparty_agent_id=BOB.id, deposit=5_000)["id"]
    world.rest(BOB, f"payment:{channel}", "accept", deposit=0)
    task_id = hired(world, stream_price={"amount": 1_000, "per": "chunk"}, channel_id=channel)
    world.push(BOB, f"task:{task_id}", "output_stream", {"chunk": "a", "seq": 0})
    world.pay(f"payment:{channel}", amount=1_000, task_id=task_id)
    world.push(BOB, f"task:{task_id}", "error", {"type": "broken"})

    assert [(one.kind, one.amount) for one in world.happened if one.kind != "task_started"] == [
        ("channel_opened", None),
        ("task_opened", 0),
        ("transfer", 1_000),
        ("task_failed", 1_000),
    ]


def test_a_channel_is_seen_with_its_transfers_the_payer_first(world: Watched) -> None:
    topic = world.channel(deposit=500)
    world.pay(topic)
    world.pay(topic, BOB, 20)
    world.push(ALICE, topic, "dispute", {"reason": "nothing came"})
    world.push(ALICE, topic, "withdraw_dispute")
    world.close_channel(topic)
    payers = [one.agents[0].id for one in world.happened]

    assert [one.amount for one in world.happened if one.kind == "transfer"] == [10, 20]
    assert payers == [ALICE.id, ALICE.id, BOB.id, ALICE.id, ALICE.id]
    assert world.kinds() == ["channel_opened", "transfer", "transfer", "channel_disputed", "channel_closed"]


def test_a_channel_that_never_opens_is_closed_too(world: Watched) -> None:
    world.rest(BOB, world.channel(accepted=False), "decline", reason="no")
    world.rest(ALICE, world.channel(accepted=False), "cancel")
    world.channel(accepted=False)
    world.advance(MARKET.limits.channel_ttl_s)

    assert world.kinds().count("channel_closed") == 3


def test_every_kind_can_be_seen(world: Watched) -> None:
    world.bargain(600, 600)
    world.push(BOB, f"negotiation:{world.bargain(600)}", "reject", {"reason": "too low"})
    ended(world, "complete", {"result": 1})
    ended(world, "error", {"type": "broken"})
    ended(world, "cancel", {"reason": "late"})
    begun = f"task:{hired(world)}"
    world.push(BOB, begun, "progress", {"percent": 1})
    held = f"task:{hired(world, hold_seconds=60)}"
    world.push(BOB, held, "complete", {"result": "done"})
    world.push(ALICE, held, "dispute", {"reason": "it is wrong"})
    world.rest(OLGA, held, "decide_task", decision="client", reason="it is")
    topic = world.channel(deposit=500)
    world.pay(topic)
    world.push(ALICE, topic, "dispute", {"reason": "nothing came"})
    world.push(ALICE, topic, "withdraw_dispute")
    world.close_channel(topic)

    assert {*world.kinds()} == {*get_args(Kind)}


def test_each_is_told_by_an_id_of_its_own_with_both_agents_and_without_their_owners(world: Watched) -> None:
    world.bargain(600, 900)
    first = world.happened[0]

    assert len({one.id for one in world.happened}) == len(world.happened)
    assert first.at == NOW
    assert shown(first).keys() == {"id", "at", "kind", "topic", "agents", "capability", "amount"}
    assert [one.handle for one in first.agents] == [ALICE.agent.handle, BOB.agent.handle]
    assert scopes_of(first) == {
        "global",
        *(f"agent:{who.id}" for who in (ALICE, BOB)),
        *(f"user:{who.agent.owner_id}" for who in (ALICE, BOB)),
    }


def test_an_agent_that_never_was_has_neither_a_handle_nor_an_owner(world: Watched) -> None:
    world.bargain()
    session = next(iter(world.states["negotiation"].values()))
    (told,) = seen((Changed("negotiation", None, session),), lambda _agent_id: None, world.new_id)

    assert [one.handle for one in told.agents] == [None, None]
    assert scopes_of(told) == {"global", f"agent:{ALICE.id}", f"agent:{BOB.id}"}


def test_what_is_no_deal_is_not_shown(world: Watched) -> None:
    world.channel()
    step = next(iter(world.steps.values()))[0]

    assert seen((Changed("agent", None, ALICE.agent),), NAMES.get, world.new_id) == ()
    assert seen((Stepped("another", step),), NAMES.get, world.new_id) == ()
