"""Visibility is not contact: how one agent stands to another decides what it finds, sees, reaches and may open.

Alice's client looks at Bob's worker, through the real server: REST, and a socket for presence. Each row of the table is
a test; the last columns are the exact answers.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from agrenting import registry
from tests.agrenting.api.market import PRICE, marketplace, settings_of
from tests.agrenting.consent_stage import empty_database
from tests.agrenting.square import ORGANISATION, Row, Square

ASKED, OPENED = (201, "pending"), (201, "open")
NOT_FOUND, STRANGERS, OUT_OF_SCOPE = (404, "not_found"), (403, "contact_required"), (403, "contact_scope_exceeded")
BLOCKED_BY_YOU, CONTACTS = (409, "blocked_by_you"), (409, "already_contacts")
HIRED = (201, "pending")


KNOWN = Row(found=True, present=True, negotiation=OPENED, task=HIRED, request=ASKED)
CONTACT = msgspec.structs.replace(KNOWN, request=CONTACTS)
LISTED = Row(found=True, present=False, negotiation=STRANGERS, task=STRANGERS, request=ASKED)
HIDDEN = msgspec.structs.replace(LISTED, found=False)
NOBODY = Row(found=False, present=False, named=NOT_FOUND, negotiation=NOT_FOUND, task=NOT_FOUND, request=NOT_FOUND)
"""What is answered of an agent that does not exist."""
KEPT_AWAY = Row(
    found=False,
    present=False,
    named=(409, "already_blocked"),
    negotiation=BLOCKED_BY_YOU,
    task=BLOCKED_BY_YOU,
    request=BLOCKED_BY_YOU,
)
"""Whom one has blocked oneself."""

PERSONAL: Final[dict[str, Any]] = {"is_listed": False}
DIRECTORY: Final[dict[str, Any]] = {"is_listed": True, "tags": ("words",)}


@pytest.fixture
async def square(tmp_path: Path) -> AsyncIterator[Square]:
    settings_of(tmp_path).database_path.write_bytes(empty_database())
    async with marketplace(tmp_path) as market:
        alice, bob = await market.user("alice"), await market.user("bob")
        await market.server.database.write(
            lambda tx: registry.create_organisation(tx, ORGANISATION, now=market.clock())
        )
        square = Square(market, alice, bob, await market.agent("alice", "Client", deposit=100 * PRICE))
        yield square


Scene = Callable[[Square], Awaitable[None]]


async def listed(square: Square) -> None:
    await square.engage(**DIRECTORY)


async def unlisted(square: Square) -> None:
    await square.engage(is_listed=False, tags=("words",))


async def untagged(square: Square) -> None:
    await square.engage(is_listed=True)


async def personal(square: Square) -> None:
    await square.engage(**PERSONAL)


async def sibling(square: Square) -> None:
    await square.engage("alice", **PERSONAL)


async def of_one_organisation(square: Square) -> None:
    await square.join("alice")
    await square.engage(is_shared=True, **PERSONAL)


async def both_shared(square: Square) -> None:
    await square.share(square.client)
    await square.engage(is_shared=True, **PERSONAL)


async def of_a_fellow_member(square: Square) -> None:
    """Members are contacts of each other; their personal agents are not."""
    await square.join("alice", "bob")
    await square.engage(**PERSONAL)


async def shared_seen_from_outside(square: Square) -> None:
    await square.engage(is_shared=True, **PERSONAL)


async def personal_seen_from_a_shared_one(square: Square) -> None:
    """It does not work the other way round: who is shared may be hired, and hires nobody by that."""
    await square.join("bob")
    await square.share(square.client)
    await square.engage(**PERSONAL)


async def of_all(square: Square) -> None:
    await square.engage(is_global=True, **PERSONAL)


async def seen_by_one_for_all(square: Square) -> None:
    square.client = await square.agent("alice", "Everybody", is_global=True, deposit=PRICE)
    await square.engage(**PERSONAL)


async def contact_that_was_asked_for(square: Square) -> None:
    await square.engage(**PERSONAL)
    await square.befriend(square.client, square.worker)


async def contact_that_has_asked(square: Square) -> None:
    """A scope binds the one who asked, not the one who approved."""
    await square.engage(**PERSONAL)
    await square.befriend(square.worker, square.client, kinds=["message"], max_price=1)


async def contact_for_tasks_alone(square: Square) -> None:
    await square.engage(**PERSONAL)
    await square.befriend(square.client, square.worker, kinds=["task"])


async def contact_for_less_money(square: Square) -> None:
    await square.engage(**PERSONAL)
    await square.befriend(square.client, square.worker, max_price=PRICE - 1)


async def contact_for_one_at_once(square: Square) -> None:
    await square.engage(**PERSONAL)
    await square.befriend(square.client, square.worker, max_open=1)


async def contact_that_is_over(square: Square) -> None:
    """By the clock; its timer has not run."""
    await square.engage(**PERSONAL)
    await square.befriend(square.client, square.worker, expires_at=square.in_a_minute())
    square.market.clock.advance(minutes=1)


async def contact_that_was_ended(square: Square) -> None:
    await square.engage(**PERSONAL)
    await square.befriend(square.client, square.worker)
    await square.worker.post("/agent/contacts/remove", {"handle": square.client.handle})


async def narrow_contact_of_one_for_all(square: Square) -> None:
    """No scope binds where no contact is needed."""
    await square.engage(is_global=True, **PERSONAL)
    await square.befriend(square.client, square.worker, kinds=[])


async def contact_of_its_sibling(square: Square) -> None:
    await square.engage(**PERSONAL)
    await square.befriend(square.client, await square.agent("bob", "Brother", **PERSONAL))


async def contact_of_its_owner(square: Square) -> None:
    """The owners are contacts, and so are the client and the worker's owner."""
    await square.engage(**PERSONAL)
    for asker in (square.alice, square.client):
        path = "/agent/contacts/add" if asker is square.client else "/me/contacts/requests"
        body = {"handle": "bob"} if asker is square.client else {"contact_request": {"recipient_handle": "bob"}}
        request = await asker.post(path, body)
        await square.bob.post(f"/me/contacts/requests/{request['id']}/approve")


async def blocked(square: Square) -> None:
    await square.engage(**DIRECTORY)
    await square.block(square.worker, square.client)


async def contact_that_has_blocked(square: Square) -> None:
    await square.engage(**DIRECTORY)
    await square.befriend(square.client, square.worker)
    await square.block(square.worker, square.client)


async def blocked_by_one_for_all(square: Square) -> None:
    await square.engage(is_global=True, **DIRECTORY)
    await square.block(square.worker, square.client)


async def blocked_by_a_sibling(square: Square) -> None:
    await square.engage("alice", **DIRECTORY)
    await square.block(square.worker, square.client)


async def blocked_within_an_organisation(square: Square) -> None:
    await square.join("alice")
    await square.engage(is_shared=True, **DIRECTORY)
    await square.block(square.worker, square.client)


async def each_has_blocked_the_other(square: Square) -> None:
    """Who comes second can still block: it names somebody who has not blocked it yet."""
    await square.engage(**DIRECTORY)
    await square.block(square.client, square.worker)
    answer = await square.worker.call("POST", "/agent/contacts/block", json={"handle": square.client.handle})
    assert answer.status_code == 404  # To the worker there is no such agent.


async def blocker(square: Square) -> None:
    await square.engage(**DIRECTORY)
    await square.block(square.client, square.worker)


async def blocker_of_one_for_all(square: Square) -> None:
    await square.engage(is_global=True, **DIRECTORY)
    await square.block(square.client, square.worker)


async def blocker_of_a_sibling(square: Square) -> None:
    await square.engage("alice", **DIRECTORY)
    await square.block(square.client, square.worker)


async def block_of_an_owner(square: Square) -> None:
    """A user's block is its own: its agents are still there."""
    await square.engage(**DIRECTORY)
    await square.bob.post("/me/contacts/block", {"handle": square.client.handle})


async def block_that_is_over(square: Square) -> None:
    """By the clock; its timer has not run."""
    await square.engage(**DIRECTORY)
    await square.block(square.worker, square.client, expires_at=square.in_a_minute())
    square.market.clock.advance(minutes=1)


async def block_that_was_ended(square: Square) -> None:
    """The contact that it has ended does not come back."""
    await contact_that_has_blocked(square)
    await square.worker.post("/agent/contacts/unblock", {"handle": square.client.handle})


async def deleted(square: Square) -> None:
    await square.engage(**DIRECTORY)
    await square.bob.delete(f"/agents/{square.worker.id}")
    square.worker.api_key = ""


ROWS: list[tuple[Scene, Row]] = [
    (listed, LISTED),
    (unlisted, HIDDEN),
    (untagged, HIDDEN),
    (personal, HIDDEN),
    (sibling, KNOWN),
    (of_one_organisation, KNOWN),
    (both_shared, KNOWN),
    (of_a_fellow_member, HIDDEN),
    (shared_seen_from_outside, HIDDEN),
    (personal_seen_from_a_shared_one, HIDDEN),
    (of_all, KNOWN),
    (seen_by_one_for_all, HIDDEN),
    (contact_that_was_asked_for, CONTACT),
    (contact_that_has_asked, CONTACT),
    (contact_for_tasks_alone, msgspec.structs.replace(CONTACT, negotiation=OUT_OF_SCOPE)),
    (contact_for_less_money, msgspec.structs.replace(CONTACT, task=OUT_OF_SCOPE)),
    (contact_for_one_at_once, msgspec.structs.replace(CONTACT, task=OUT_OF_SCOPE)),
    (contact_that_is_over, HIDDEN),
    (contact_that_was_ended, HIDDEN),
    (narrow_contact_of_one_for_all, CONTACT),
    (contact_of_its_sibling, HIDDEN),
    (contact_of_its_owner, HIDDEN),
    (blocked, NOBODY),
    (contact_that_has_blocked, NOBODY),
    (blocked_by_one_for_all, NOBODY),
    (blocked_by_a_sibling, NOBODY),
    (blocked_within_an_organisation, NOBODY),
    (each_has_blocked_the_other, KEPT_AWAY),
    (blocker, KEPT_AWAY),
    (blocker_of_one_for_all, KEPT_AWAY),
    (blocker_of_a_sibling, KEPT_AWAY),
    (block_of_an_owner, LISTED),
    (block_that_is_over, LISTED),
    (block_that_was_ended, LISTED),
    (deleted, NOBODY),
]


@pytest.mark.parametrize(("scene", "row"), ROWS, ids=[scene.__name__ for scene, _ in ROWS])
async def test_how_one_stands_to_the_other_decides(square: Square, scene: Scene, row: Row) -> None:
    await scene(square)

    assert await square.row() == row


async def test_to_the_blocked_one_every_answer_is_that_of_an_agent_that_does_not_exist(square: Square) -> None:
    """To the letter, but for the ids of the requests."""
    await blocked(square)
    worker = square.worker

    def calls(handle: str, id_: str) -> list[tuple[str, str, dict[str, Any] | None]]:
        opened = {"provider_agent_id": id_, "capability": "translate"}
        return [
            ("GET", f"/agents/{id_}", None),
            ("POST", "/negotiations", opened),
            ("POST", "/tasks", {**opened, "max_price": PRICE}),
            ("POST", "/messages", {"to_agent_id": id_, "type": "text", "payload": {}}),
            ("POST", "/agent/contacts/add", {"handle": handle}),
            ("POST", "/agent/contacts/remove", {"handle": handle}),
            ("POST", "/agent/contacts/block", {"handle": handle}),
            ("POST", "/agent/contacts/unblock", {"handle": handle}),
            *(
                ("POST", "/agent/contacts/requests/respond", {"action": action, "handle": handle})
                for action in ("approve", "reject", "cancel")
            ),
        ]

    answers: list[list[Any]] = []
    for handle, id_ in ((worker.handle, worker.id), ("bob/nobody", worker.id[:-1] + "z")):
        told = []
        for method, path, body in calls(handle, id_):
            answer = await square.client.call(method, path, **({} if body is None else {"json": body}))
            error = {name: value for name, value in answer.json()["error"].items() if name != "request_id"}
            told.append((path.replace(id_, "it"), answer.status_code, error))
        answers.append(told)

    assert answers[0] == answers[1]


async def test_an_owner_and_its_agent_are_contacts_that_cannot_block_each_other(square: Square) -> None:
    asked = {"contact_request": {"recipient_handle": square.client.handle}}

    assert (await square.alice.refused("POST", "/me/contacts/requests", asked)).why == CONTACTS
    assert (await square.client.refused("POST", "/agent/contacts/add", {"handle": "alice"})).why == CONTACTS
    to_agent, to_owner = {"handle": square.client.handle}, {"handle": "alice"}
    assert (await square.alice.refused("POST", "/me/contacts/block", to_agent)).why == (403, "forbidden_role")
    assert (await square.client.refused("POST", "/agent/contacts/block", to_owner)).why == (403, "forbidden_role")


async def test_an_owner_and_its_agent_need_no_contact_with_each_other(square: Square) -> None:
    """Having ended it, they may ask again, and nothing else has changed."""
    await square.alice.post("/me/contacts/remove", {"handle": square.client.handle})

    answer = await square.client.call("POST", "/agent/contacts/add", json={"handle": "alice"})

    assert (answer.status_code, answer.json()["data"]["status"]) == ASKED


async def test_nobody_asks_or_blocks_or_hires_itself(square: Square) -> None:
    own, opened = {"handle": square.client.handle}, {"provider_agent_id": square.client.id, "capability": "translate"}

    assert (await square.client.refused("POST", "/agent/contacts/add", own)).why == (409, "self_contact")
    assert (await square.client.refused("POST", "/agent/contacts/block", own)).why == (409, "self_contact")
    assert (await square.client.refused("POST", "/negotiations", opened)).why == (422, "same_agent")
    assert (await square.client.refused("POST", "/tasks", {**opened, "max_price": PRICE})).why == (422, "same_agent")


@pytest.mark.parametrize(
    ("scene", "why"), [(personal, ASKED), (of_all, ASKED), (sibling, CONTACTS)], ids=["stranger", "global", "own"]
)
async def test_a_user_asks_by_exact_handle_whoever_is_not_listed(
    square: Square, scene: Scene, why: tuple[int, str]
) -> None:
    await scene(square)

    body = {"contact_request": {"recipient_handle": square.worker.handle}}
    answer = await square.alice.call("POST", "/me/contacts/requests", json=body)

    told = answer.json()
    assert (answer.status_code, told["error"]["code"] if "error" in told else told["data"]["status"]) == why


async def test_a_blocked_user_asks_nobody_and_its_agents_are_not_blocked(square: Square) -> None:
    await square.engage(**DIRECTORY)
    await square.worker.post("/agent/contacts/block", {"handle": "alice"})

    body = {"contact_request": {"recipient_handle": square.worker.handle}}

    assert (await square.alice.refused("POST", "/me/contacts/requests", body)).why == NOT_FOUND
    assert await square.row() == LISTED


async def test_a_pending_request_grants_nothing_and_an_approval_everything(square: Square) -> None:
    await square.engage(**PERSONAL)
    await square.client.post("/agent/contacts/add", {"handle": square.worker.handle})
    opened = {"provider_agent_id": square.worker.id, "capability": "translate"}

    before = await square.answer("/negotiations", opened)
    await square.worker.post("/agent/contacts/requests/respond", {"action": "approve", "handle": square.client.handle})

    assert (before, await square.row()) == (STRANGERS, CONTACT)
