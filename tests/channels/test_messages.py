import pytest

from channels.messages import HANDLERS, JOIN, StoredMessage
from tests.channels.roles import ALICE, BOB, MALLORY, Player, context, identity_of, refused
from tests.channels.work import hired, world_of
from tests.channels.world import World

MAILBOX = f"messages:{BOB.id}"
UNKNOWN = "99999999-0000-4000-8000-000000000000"


@pytest.fixture
def world() -> World:
    return world_of()


@pytest.fixture
def message(world: World) -> StoredMessage:
    """What Bob was left when Alice hired him."""
    hired(world)
    (stored,) = world.mail(BOB)
    return stored


def test_joining_pushes_every_undelivered_message_oldest_first(world: World) -> None:
    tasks = [hired(world), hired(world)]

    reply = world.join(BOB, MAILBOX)

    assert reply == {"undelivered": 2}
    assert [pushed.event for pushed in world.pushed] == ["new_message"] * 2
    assert [pushed.payload["payload"]["task_id"] for pushed in world.pushed] == tasks


def test_a_message_says_what_it_is_who_sent_it_and_when(world: World, message: StoredMessage) -> None:
    world.join(BOB, MAILBOX)

    (pushed,) = world.pushed
    assert pushed.payload == {
        "id": message.id,
        "type": "task_handoff",
        "payload": message.payload,
        "from_agent_id": ALICE.id,
        "protocol_version": "1.0",
        "inserted_at": "2026-03-01T12:00:00Z",
    }


def test_what_is_stored_while_the_agent_listens_comes_at_once_and_is_the_same(world: World) -> None:
    bob, mallory = world.listen(BOB, MAILBOX), world.listen(MALLORY, f"messages:{MALLORY.id}")

    hired(world)
    world.join(BOB, MAILBOX)

    assert bob.events() == ["new_message"]
    assert bob.heard[0].payload == world.pushed[0].payload
    assert mallory.heard == []


def test_an_acknowledged_message_is_not_delivered_again(world: World, message: StoredMessage) -> None:
    reply = world.push(BOB, MAILBOX, "acknowledge", {"message_id": message.id})

    assert reply == {"message_id": message.id, "status": "acknowledged"}
    assert world.join(BOB, MAILBOX) == {"undelivered": 0}
    assert world.pushed == []


def test_a_message_stays_until_it_is_acknowledged(world: World, message: StoredMessage) -> None:
    world.join(BOB, MAILBOX)

    assert world.join(BOB, MAILBOX) == {"undelivered": 1}
    assert [pushed.payload["id"] for pushed in world.pushed] == [message.id] * 2


def test_acknowledging_twice_is_a_duplicate_and_changes_nothing(world: World, message: StoredMessage) -> None:
    first = world.push(BOB, MAILBOX, "acknowledge", {"message_id": message.id})
    before = world.everything()

    again = world.push(BOB, MAILBOX, "acknowledge", {"message_id": message.id})

    assert again == {**first, "duplicate": True}
    assert world.everything() == before


def test_an_unknown_message_is_not_found(world: World) -> None:
    assert refused(world.push, BOB, MAILBOX, "acknowledge", {"message_id": UNKNOWN}).reason == "not_found"


def test_another_agents_message_is_not_found_in_ones_own_mailbox(world: World, message: StoredMessage) -> None:
    own = f"messages:{MALLORY.id}"

    assert refused(world.push, MALLORY, own, "acknowledge", {"message_id": message.id}).reason == "not_found"
    misled = HANDLERS["acknowledge"].decide  # Were the loader to find it all the same, the rule would not.
    assert refused(misled, message, None, context(MALLORY, topic=own)).reason == "not_found"
    assert world.mail(BOB) == [message]


def test_nobody_else_joins_a_mailbox_or_acknowledges_in_it(world: World, message: StoredMessage) -> None:
    for act in (
        lambda: world.join(MALLORY, MAILBOX),
        lambda: JOIN.decide((message,), None, context(MALLORY, topic=MAILBOX)),
        lambda: world.push(MALLORY, MAILBOX, "acknowledge", {"message_id": message.id}),
    ):
        refusal = refused(act)
        assert (refusal.kind, refusal.reason) == ("forbidden", "unauthorized")
    assert world.mail(BOB) == [message]


def test_a_key_without_the_scope_reads_no_messages(world: World, message: StoredMessage) -> None:
    scopeless = Player(
        agent=BOB.agent, secret_key=BOB.secret_key, identity=identity_of(BOB.agent, scopes=frozenset(("tasks",)))
    )

    assert refused(world.join, scopeless, MAILBOX).reason == "missing_scope"
    acknowledging = refused(world.push, scopeless, MAILBOX, "acknowledge", {"message_id": message.id})
    assert acknowledging.reason == "missing_scope"
    assert world.mail(BOB) == [message]
