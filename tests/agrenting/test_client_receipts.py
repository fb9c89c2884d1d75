"""Receipts and histories, as the client verifies them: what proves nothing is not kept."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agrenting.client.channel_record import Record
from agrenting.client.channel_states import Opening, SignedState, Standing
from agrenting.client.errors import (
    BrokenRecord,
    ReplayedReceipt,
    RolledBack,
    WrongMarket,
    WrongReceipt,
)
from agrenting.client.known import KnownAgreement, KnownTask
from agrenting.client.receipts import agreement_receipt, channel_history, channel_receipt, task_receipt
from tests.agrenting.lie_desk import OTHER_ID, Change, Desk, Json, agreement_accepted, position, put, session_of
from tests.crypto.bargains import agreement, platform_signs
from tests.crypto.hires import CHANNEL_ID, INPUT, OUTPUT, PER_CHUNK, STREAMED, TASK_ID, task
from tests.crypto.payments import STORIES, paid_story, platform_chains
from tests.crypto.roles import ALICE, BOB, DOMAIN, MALLORY, SESSION_ID, Role


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "state")


KNOWN_TASK = KnownTask(
    client_agent_id=ALICE.agent_id,
    provider_agent_id=BOB.agent_id,
    capability="translate",
    negotiation_session_id=SESSION_ID,
    price=1250,
    paid=0,
    input={"languages": ["en", "de"]},
    result={"words": 2},
    input_stream=position(INPUT),
    output_stream=position(OUTPUT),
)


async def test_a_tasks_receipt_is_verified_and_kept(desk: Desk) -> None:
    desk.answer = task()

    receipt = await task_receipt(desk.context, TASK_ID, KNOWN_TASK)

    assert (receipt.status, receipt.price, receipt.to_client, receipt.to_provider, receipt.fee) == (
        "completed", 1250, 0, 1188, 62,
    )  # fmt: skip
    assert receipt.unproven == ()
    assert json.loads(receipt.path.read_bytes()) == desk.answer
    assert await task_receipt(desk.context, TASK_ID) == receipt


TASK_KNOWLEDGE: dict[str, Json] = {
    "price": {"price": 1251},
    "provider": {"provider_agent_id": MALLORY.agent_id},
    "agreement": {"negotiation_session_id": OTHER_ID},
    "input": {"input": {"languages": ["en", "fr"]}},
    "no input": {"input": None},
    "result": {"result": {"words": 3}},
    "what was sent": {"input_stream": position((b"hello ", b"World"))},
    "what came": {"output_stream": position((b"hallo welt",))},
    "what was paid": {"paid": 7},
}


@pytest.mark.parametrize("name", TASK_KNOWLEDGE)
async def test_a_tasks_receipt_that_says_something_else_than_is_known_is_not_kept(desk: Desk, name: str) -> None:
    desk.answer = task()
    known = msgspec.structs.replace(KNOWN_TASK, **TASK_KNOWLEDGE[name])

    with pytest.raises(WrongReceipt) as found:
        await task_receipt(desk.context, TASK_ID, known)

    assert found.value.check is None
    assert not desk.kept


def _document(**members: Any) -> Change:
    return lambda receipt: receipt["document"].update(members)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (_document(to_provider=1189), "sum"),
        (_document(capability="transcribe"), "platform_signature"),
        (put(id=OTHER_ID), "identity"),
        (put(signing_domain="another.test"), "platform_signature"),
        (put(platform={"public_key": MALLORY.public_key_text, "signature": "A" * 86 + "=="}), "pinned_key"),
        (put(kind="lottery"), "kind"),
    ],
)
async def test_a_receipt_that_does_not_verify_is_not_kept(desk: Desk, change: Change, check: str) -> None:
    desk.answer = task()
    change(desk.answer)

    with pytest.raises(WrongReceipt) as found:
        await task_receipt(desk.context, TASK_ID)

    assert found.value.check == check
    assert not desk.kept


async def test_what_is_no_json_is_no_receipt(desk: Desk) -> None:
    for answer in (b"<html>", b"[" * 100_000, b""):
        desk.answer = answer
        with pytest.raises(WrongReceipt) as found:
            await task_receipt(desk.context, TASK_ID)
        assert found.value.check == "shape"


async def test_a_receipt_of_another_task_is_a_replay(desk: Desk) -> None:
    desk.answer = task()

    with pytest.raises(ReplayedReceipt) as found:
        await task_receipt(desk.context, OTHER_ID)

    assert (found.value.expected, found.value.told) == (OTHER_ID, TASK_ID)
    assert not desk.kept


async def test_a_receipt_of_another_kind_or_of_others_is_a_replay(desk: Desk, tmp_path: Path) -> None:
    mallory = Desk(tmp_path / "other", MALLORY)
    mallory.answer = desk.answer = task()

    with pytest.raises(ReplayedReceipt):
        await agreement_receipt(desk.context, TASK_ID)
    with pytest.raises(ReplayedReceipt):
        await task_receipt(mallory.context, TASK_ID)


async def test_a_receipt_of_another_deployment_or_money_is_not_taken(desk: Desk, tmp_path: Path) -> None:
    elsewhere = Desk(tmp_path / "other", domain="another.test")
    elsewhere.answer = task()
    with pytest.raises(WrongMarket):
        await task_receipt(elsewhere.context, TASK_ID)

    desk.answer = task(currency="EUR")
    with pytest.raises(WrongMarket):
        await task_receipt(desk.context, TASK_ID)


async def test_a_later_receipt_says_the_same_as_the_copy(desk: Desk) -> None:
    desk.answer = task()
    await task_receipt(desk.context, TASK_ID)
    before = desk.kept
    desk.answer = task(capability="transcribe")

    with pytest.raises(WrongReceipt, match="the copy that was kept"):
        await task_receipt(desk.context, TASK_ID)

    assert desk.kept == before


async def test_what_is_paid_as_it_streams_may_grow_after_the_end_and_never_shrinks(desk: Desk) -> None:
    shape: Json = {**STREAMED, "stream_price": PER_CHUNK, "units": 2, "negotiation_session_id": None}
    desk.answer = task(**shape, paid=40, paid_up_to=1)
    await task_receipt(desk.context, TASK_ID)

    desk.answer = task(**shape, paid=80, paid_up_to=2)
    receipt = await task_receipt(desk.context, TASK_ID)
    assert receipt.document["paid"] == 80

    desk.answer = task(**shape, paid=40, paid_up_to=1)
    with pytest.raises(WrongReceipt):
        await task_receipt(desk.context, TASK_ID)


async def test_a_damaged_copy_is_told(desk: Desk) -> None:
    desk.answer = task()
    receipt = await task_receipt(desk.context, TASK_ID)
    receipt.path.write_text("{")

    with pytest.raises(BrokenRecord):
        await task_receipt(desk.context, TASK_ID)


KNOWN_AGREEMENT = KnownAgreement.of(session_of())


async def test_an_agreements_receipt_is_verified_and_kept(desk: Desk) -> None:
    desk.answer = agreement_accepted((600, 1001), ALICE)

    receipt = await agreement_receipt(desk.context, SESSION_ID, KNOWN_AGREEMENT)

    assert receipt.amount == 800
    assert receipt.unproven == ()


@pytest.mark.parametrize(
    ("known", "check"),
    [
        ({"amount": 801}, None),
        ({"terms": None}, None),
        ({"base_max": 999}, None),
        ({"provider_public_key": MALLORY.public_key_text}, "pinned_key"),
    ],
)
async def test_an_agreements_receipt_is_held_against_the_session(desk: Desk, known: Json, check: str | None) -> None:
    desk.answer = agreement_accepted((600, 1001), ALICE)

    with pytest.raises(WrongReceipt) as found:
        await agreement_receipt(desk.context, SESSION_ID, msgspec.structs.replace(KNOWN_AGREEMENT, **known))

    assert found.value.check == check
    assert not desk.kept


async def test_an_agreement_under_another_key_of_this_agent_is_refused(desk: Desk) -> None:
    impostor = Role(ALICE.agent_id, MALLORY.secret_key)
    desk.answer = agreement((700, 700), client=impostor)

    with pytest.raises(WrongReceipt, match="signs with another key"):
        await agreement_receipt(desk.context, SESSION_ID)


# Closed channels.


def record_of(**changed: Any) -> Record:
    """What Alice has written down of the channel of `paid_story`."""
    story = paid_story()
    last = story.last_transfer
    assert last is not None
    state = SignedState(**{name: last[name] for name in SignedState.__struct_fields__})
    fields: Json = {
        "agent_id": ALICE.agent_id,
        "public_key": ALICE.public_key_text,
        "opening": Opening(
            signing_domain=DOMAIN,
            channel_id=CHANNEL_ID,
            agent_a_id=ALICE.agent_id,
            agent_b_id=BOB.agent_id,
            public_key_a=ALICE.public_key_text,
            public_key_b=BOB.public_key_text,
        ),
        "last_nonce": story.nonce,
        "deposit_a": story.deposits[0],
        "deposit_b": story.deposits[1],
        "standing": Standing(state=state, deposit_a=story.deposits[0], deposit_b=story.deposits[1]),
    }
    return Record(**(fields | changed))


def closed() -> Json:
    story = paid_story()
    return platform_signs(story.closed("joint_close", by=BOB).receipt())


async def test_a_channels_receipt_is_verified_and_kept(desk: Desk) -> None:
    desk.answer = closed()

    receipt = await channel_receipt(desk.context, CHANNEL_ID, record_of())

    assert (receipt.cause, receipt.finals) == ("joint_close", tuple(paid_story().balances))
    assert receipt.unproven == ()
    assert (await channel_receipt(desk.context, CHANNEL_ID)).path == receipt.path


@pytest.mark.parametrize("name", ["last_nonce", "deposit_a", "deposit_b"])
async def test_a_channels_receipt_does_not_leave_out_what_was_written_down(desk: Desk, name: str) -> None:
    desk.answer = closed()
    record = record_of()

    with pytest.raises(WrongReceipt) as found:
        await channel_receipt(desk.context, CHANNEL_ID, record_of(**{name: getattr(record, name) + 1}))

    assert found.value.check is None
    assert not desk.kept


async def test_a_channels_receipt_has_the_newest_state_that_both_have_signed(desk: Desk) -> None:
    desk.answer = closed()
    record = record_of()
    state = record.standing.state
    assert state is not None
    for newer in (
        msgspec.structs.replace(state, nonce=state.nonce + 1),
        msgspec.structs.replace(state, amount=state.amount + 1),
    ):
        standing = msgspec.structs.replace(record.standing, state=newer)
        with pytest.raises(WrongReceipt) as found:
            await channel_receipt(desk.context, CHANNEL_ID, record_of(standing=standing))
        assert found.value.check is None


async def test_a_channels_receipt_under_other_keys_is_refused(desk: Desk) -> None:
    desk.answer = closed()
    opening = record_of().opening
    assert opening is not None
    other = msgspec.structs.replace(opening, public_key_b=MALLORY.public_key_text)

    with pytest.raises(WrongReceipt) as found:
        await channel_receipt(desk.context, CHANNEL_ID, record_of(opening=other))

    assert found.value.check == "pinned_key"


async def test_a_history_is_verified_and_kept_as_it_grows(desk: Desk) -> None:
    story = paid_story()
    desk.answer = story.lines()
    first = await channel_history(desk.context, CHANNEL_ID, record_of())

    desk.answer = story.closed("joint_close", by=BOB).lines()
    second = await channel_history(desk.context, CHANNEL_ID, record_of())

    assert second.steps[: len(first.steps)] == first.steps
    assert len(second.steps) == len(first.steps) + 1
    assert [json.loads(line) for line in second.path.read_bytes().splitlines()] == desk.answer


async def test_a_history_that_was_shortened_is_not_taken(desk: Desk) -> None:
    lines = paid_story().lines()
    desk.answer = lines
    await channel_history(desk.context, CHANNEL_ID)
    before = desk.kept

    desk.answer = platform_chains([*lines[:-2], {}])
    with pytest.raises(RolledBack):
        await channel_history(desk.context, CHANNEL_ID)
    with pytest.raises(WrongReceipt):
        await channel_history(desk.context, CHANNEL_ID, record_of())

    desk.answer = [*lines[:-2], lines[-1]]
    with pytest.raises(WrongReceipt):
        await channel_history(desk.context, CHANNEL_ID)
    assert desk.kept == before


async def test_a_history_of_another_channel_is_a_replay(desk: Desk) -> None:
    desk.answer = STORIES["joint_close"].lines()

    with pytest.raises(ReplayedReceipt):
        await channel_history(desk.context, OTHER_ID)
    assert not desk.kept
