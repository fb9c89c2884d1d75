"""What two do about each other at the same time: one of the two was first, and both sides agree on what came of it."""

import asyncio

import pytest

from tests.agrenting.api.friends import (
    ADD,
    BLOCK,
    DEPOSIT,
    DOORS,
    REMOVE,
    RESPOND,
    Strangers,
    contacts_of,
    opening,
    require_sound,
    rows,
    strangers,
)
from tests.agrenting.api.market import Caller, Marketplace, Player


@pytest.fixture
async def two(market: Marketplace) -> Strangers:
    return await strangers(market)


async def test_two_equal_requests_at_once_make_one(two: Strangers) -> None:
    body = {"handle": two.translator.handle}

    answers = await asyncio.gather(*(two.client.call("POST", ADD, json=body) for _ in range(2)))

    assert sorted(answer.status_code for answer in answers) == [201, 409]
    assert len((await rows(two.market))["contact_requests"]) == 1


async def test_crossing_requests_at_once_make_one_contact(two: Strangers) -> None:
    answers = await asyncio.gather(
        two.client.post(ADD, {"handle": two.translator.handle}),
        two.translator.post(ADD, {"handle": two.client.handle}),
    )

    assert sorted(answer["status"] for answer in answers) == ["approved", "pending"]
    assert answers[0]["id"] == answers[1]["id"]
    assert (await contacts_of(two.client), await contacts_of(two.translator)) == ({"bob/translator"}, {"alice/client"})
    await require_sound(two.market)


async def respond_at_once(two: Strangers, *actions: tuple[Player | Caller, str]) -> list[int]:
    id_ = await two.ask()
    calls = [who.call("POST", RESPOND, json={"action": action, "request_id": id_}) for who, action in actions]
    return [answer.status_code for answer in await asyncio.gather(*calls)]


@pytest.mark.parametrize("swapped", [False, True])
async def test_of_approving_and_cancelling_at_once_one_wins(two: Strangers, *, swapped: bool) -> None:
    actions = [(two.translator, "approve"), (two.client, "cancel")]
    statuses = await respond_at_once(two, *(actions[::-1] if swapped else actions))

    assert sorted(statuses) == [200, 409]
    has_approved = statuses[1 if swapped else 0] == 200
    assert await contacts_of(two.client) == ({"bob/translator"} if has_approved else set())
    assert await contacts_of(two.translator) == ({"alice/client"} if has_approved else set())
    await require_sound(two.market)


@pytest.mark.parametrize("swapped", [False, True])
async def test_of_approving_and_being_blocked_at_once_no_contact_remains(two: Strangers, *, swapped: bool) -> None:
    id_ = await two.ask()
    calls = [
        two.translator.call("POST", RESPOND, json={"action": "approve", "request_id": id_}),
        two.client.call("POST", BLOCK, json={"handle": two.translator.handle}),
    ]

    answers = await asyncio.gather(*(calls[::-1] if swapped else calls))

    assert 201 in {answer.status_code for answer in answers}  # The block always holds.
    assert (await contacts_of(two.client), await contacts_of(two.translator)) == (set(), set())
    await require_sound(two.market)


@pytest.mark.parametrize("removes_first", [True, False])
@pytest.mark.parametrize("path", DOORS)
async def test_nothing_is_open_after_a_removal_whatever_came_first(
    two: Strangers, path: str, *, removes_first: bool
) -> None:
    for _ in range(5):
        await two.befriend()
        removal = two.translator.call("POST", REMOVE, json={"handle": two.client.handle})
        openings = [two.client.call("POST", path, json=opening(path, two.translator)) for _ in range(4)]
        calls = [removal, *openings] if removes_first else [*openings, removal]

        answers = await asyncio.gather(*calls)

        for answer in answers:
            if answer.status_code == 201 and path in str(answer.request.url):
                after = await two.client.get(f"{path}/{answer.json()['data']['id']}")
                assert (after["status"], after["reason"]) == ("cancelled", "contact_revoked")
        assert {answer.status_code for answer in answers} <= {200, 201, 403}
        assert await two.client.get(path, params={"status": "open" if path == "/negotiations" else "pending"}) == []
        assert (await two.client.get("/ledger/balance"))["available"] == DEPOSIT
        await require_sound(two.market)
