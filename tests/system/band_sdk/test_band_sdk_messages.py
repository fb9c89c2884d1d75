"""Band's own SDK, unmodified: what is said in a room, whom it reaches, and how far each reader is with it."""

from typing import Any

import pytest

from tests.system.band import (
    AgentActivityDetail,
    AgentTools,
    Mention,
    MessagePostError,
    NotFoundError,
    Player,
    SettlementResult,
    Stage,
    UnprocessableEntityError,
    present,
)
from tests.system.band_rooms import (
    Room,
    attempts,
    hears_nothing_more,
    mention,
    metadata_of,
    next_event,
)

EXPECTED_COMPLAINTS = ()


# Who hears.


async def test_only_those_who_are_mentioned_hear_and_the_sender_never(
    stage: Stage, alice: Player, bob: Player, room: Room
) -> None:
    carol = stage.agent("carol", called="Carol")
    await alice.befriend(carol)
    await room.add(carol)
    links = {}
    for player in (alice, bob, carol):
        links[player] = await stage.link(player)
        await links[player].subscribe_agent_rooms(player.id)
        await links[player].subscribe_room(room.id)

    sent = await room.say("To Bob", bob)
    await room.event("Aha")
    both = await room.of(bob).say("To both", alice, carol)

    told = (await next_event(links[bob], "message_created")).payload
    assert (told.id, told.chat_room_id, told.message_type) == (sent.id, room.id, "text")
    assert (told.sender_id, told.sender_type, told.sender_name) == (alice.id, "Agent", "Alice")
    assert [named.id for named in present(told.metadata).mentions] == [bob.id]
    assert told.inserted_at.endswith("Z")
    for player in (alice, carol):
        assert (await next_event(links[player], "message_created")).payload.id == both.id
    for player, link in links.items():
        await hears_nothing_more(link, player)


async def test_a_reference_reaches_nobody(stage: Stage, alice: Player, bob: Player, room: Room) -> None:
    carol = stage.agent("carol", called="Carol")
    await alice.befriend(carol)
    await room.add(carol)
    link = await stage.link(carol)
    await link.subscribe_agent_rooms(carol.id)
    await link.subscribe_room(room.id)

    sent = await room.send("Ask her", mention(bob), Mention(id=carol.id, kind="reference"))

    assert [recipient.id for recipient in sent.recipients] == [bob.id]
    assert await room.of(carol).listed("all") == []
    await hears_nothing_more(link, carol)


# What is said.


async def test_people_are_mentioned_by_id_handle_or_name_and_the_text_says_so(
    stage: Stage, alice: Player, bob: Player, room: Room
) -> None:
    carol = stage.agent("carol", called="Carol the Cat")
    await alice.befriend(carol)
    await room.add(carol)
    tools = AgentTools(room.id, alice.rest, agent_id=alice.id)
    await tools.get_participants()

    by_id = await tools.send_message("Hello", mentions=[bob.id])
    by_name = await tools.send_message("Hello", mentions=["Carol the Cat"])
    inside = await room.send(f"Hello @{bob.handle}, how are you?", Mention(handle=f"@{bob.handle.upper()}"))
    both = await room.say("Hello all", bob, carol)

    assert [[(who.id, who.handle, who.name) for who in sent.recipients] for sent in (by_id, by_name, both)] == [
        [(bob.id, bob.handle, "Bob")],
        [(carol.id, carol.handle, "Carol the Cat")],
        [(bob.id, bob.handle, "Bob"), (carol.id, carol.handle, "Carol the Cat")],
    ]
    assert [row.content for row in await room.of(bob).listed()] == [
        f"@[[{bob.id}]] Hello",
        f"Hello @[[{bob.id}]], how are you?",
        f"@[[{bob.id}]] @[[{carol.id}]] Hello all",
    ]
    assert [row.id for row in await room.of(carol).listed()] == [by_name.id, both.id]
    assert by_id.success
    assert inside.id


@pytest.mark.parametrize(
    ("code", "text", "shape"),
    [
        ("mentions_required", "Hello", []),
        ("cannot_mention_self", "Hello", ["alice"]),
        ("duplicate_mentions", "Hello", ["bob", "bob"]),
        ("mentioned_participant_not_in_room", "Hello", ["outsider"]),
        ("handle_not_found", "Hello", [{"handle": "nobody/at-all"}]),
        ("mention_missing_identifier", "Hello", [{"name": "Bob"}]),
        ("invalid_mention_kind", "Hello", [{"id": "bob", "kind": "shout"}]),
        ("invalid_payload", "   ", ["bob"]),
        ("invalid_payload", "\u200b\u2060", ["bob"]),
        ("invalid_payload", "x" * 524_289, ["bob"]),
    ],
)
async def test_a_message_that_is_none_is_refused_with_its_code_and_reaches_nobody(
    stage: Stage, bob: Player, room: Room, *, code: str, text: str, shape: list[Any]
) -> None:
    others = await room.participants()
    ids = {str(row.name).lower(): row.id for row in others.values()} | {"outsider": stage.agent("dora").id}
    mentions = [
        Mention(id=ids[one])
        if isinstance(one, str)
        else Mention(**{name: ids.get(value, value) for name, value in one.items()})
        for one in shape
    ]

    with pytest.raises(UnprocessableEntityError) as refused:
        await room.send(text, *mentions)

    error = refused.value.body["error"]
    assert error["code"] == code
    assert all(pointer.startswith("/message/") for pointer in error["details"])
    assert all(isinstance(told, list) for told in error["details"].values())
    assert await room.of(bob).next() is None
    assert await room.context() == []


async def test_no_attachment_is_there_to_be_shown(bob: Player, room: Room) -> None:
    with pytest.raises(UnprocessableEntityError) as refused:
        await room.send("See this", mention(bob), attachment_ids=["3fa85f64-5717-4562-b3fc-2c963f66afa6"])
    plain = await room.send("See nothing", mention(bob), attachment_ids=[])

    assert refused.value.body["error"]["code"] == "unknown_attachment"
    assert [row.id for row in await room.of(bob).listed()] == [plain.id]


async def test_the_sdk_knows_why_somebody_outside_cannot_be_mentioned(
    stage: Stage, alice: Player, room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    outsider = stage.agent("dora")
    tools = AgentTools(room.id, alice.rest, agent_id=alice.id)

    with pytest.raises(MessagePostError) as refused:
        await tools.send_message("Hello", mentions=[{"id": outsider.id}])

    assert refused.value.kind == "mentioned_participant_not_in_room"
    caplog.clear()  # The SDK has logged that, as it does.


# How far a reader is.


async def test_a_message_is_taken_and_done_and_may_be_opened_again(bob: Player, room: Room) -> None:
    sent = await room.say("Translate this", bob)
    desk = room.of(bob)
    assert [row.id for row in await desk.listed("pending")] == [sent.id]

    taken, again = await desk.take(sent.id), await desk.take(sent.id)
    processing = present(await desk.next())
    done = await desk.finish(sent.id)
    after = await desk.next()
    reopened = await desk.take(sent.id)
    failed = await desk.fail(sent.id)
    third = await desk.take(sent.id)

    marks = [
        (mark.id, mark.status, mark.attempt_number, mark.success) for mark in (taken, again, done, reopened, failed)
    ]
    assert marks == [
        (sent.id, "processing", 1, True),
        (sent.id, "processing", 1, True),
        (sent.id, "processed", 1, True),
        (sent.id, "processing", 2, True),
        (sent.id, "failed", 2, True),
    ]
    assert third.attempt_number == 3
    assert (processing.id, attempts(processing, bob)) == (sent.id, ("processing", 1))
    assert after is None
    assert attempts(present(await desk.next()), bob) == ("processing", 3)


async def test_a_mark_without_work_is_refused_in_the_words_that_the_sdk_knows(
    stage: Stage, alice: Player, bob: Player, room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    other = await Room.create(alice, bob)
    sent = await room.say("Translate this", bob)
    of_bob, of_alice = await stage.link(bob), await stage.link(alice)

    unopened = [
        await of_bob.mark_processed_result(room.id, sent.id),
        await of_bob.mark_failed_result(room.id, sent.id, "no"),
    ]
    missing = [
        await of_bob.mark_processed_result(room.id, "00000000-0000-7000-8000-000000000000"),
        await of_bob.mark_processed_result(room.id, "no-id"),
        await of_bob.mark_failed_result(other.id, sent.id, "no"),
        await of_alice.mark_processed_result(room.id, sent.id),
    ]
    assert await of_bob.mark_processing(room.id, sent.id)
    assert await of_bob.mark_processed(room.id, sent.id)
    closed = await of_bob.mark_processed_result(room.id, sent.id)

    assert unopened == [SettlementResult.REJECTED] * 2
    assert missing == [SettlementResult.NOT_FOUND] * 4
    assert closed is SettlementResult.REJECTED
    with pytest.raises(UnprocessableEntityError) as refused:
        await room.of(bob).finish(sent.id)
    assert list(refused.value.body["error"]["details"]) == ["/processing_attempt"]
    with pytest.raises(NotFoundError):
        await other.of(bob).take(sent.id)
    with pytest.raises(NotFoundError):
        await room.take(sent.id)  # Her own message: it is for others.
    caplog.clear()  # The SDK logs each refusal.


async def test_every_reader_is_on_its_own(stage: Stage, alice: Player, bob: Player, room: Room) -> None:
    carol = stage.agent("carol", called="Carol")
    await alice.befriend(carol)
    await room.add(carol)
    sent = await room.say("To both", bob, carol)

    await room.of(bob).take(sent.id)
    await room.of(bob).finish(sent.id)

    assert await room.of(bob).next() is None
    assert present(await room.of(carol).next()).id == sent.id
    assert [row.id for row in await room.of(carol).listed("pending")] == [sent.id]
    assert (await room.of(carol).take(sent.id)).attempt_number == 1


async def test_messages_are_listed_by_state_and_page_by_page(stage: Stage, bob: Player, room: Room) -> None:
    desk = room.of(bob)
    sent = [(await room.say(f"Number {number}", bob)).id for number in range(7)]
    for message_id in sent[:3]:
        await desk.take(message_id)
    await desk.finish(sent[0])
    await desk.fail(sent[1])
    listed = {
        status: [row.id for row in await desk.listed(status)]
        for status in (None, "pending", "processing", "processed", "failed", "all")
    }
    pages: list[list[str]] = []
    cursor = None
    while True:
        page = await desk.messages.list_agent_messages(room.id, status="all", limit=3, cursor=cursor)
        pages.append([row.id for row in page.data])
        assert page.metadata.limit == 3
        cursor = page.metadata.next_cursor
        if not page.metadata.has_more:
            break
    newest = await desk.messages.list_agent_messages(room.id, sort_order="desc", limit=2)
    numbered = await desk.messages.list_agent_messages(room.id, page=2, page_size=4)
    link = await stage.link(bob)
    first = await link.get_actionable_page(room.id)

    assert listed[None] == sent[1:]
    assert listed["processing"] == [sent[2]]
    assert listed["processed"] == [sent[0]]
    assert listed["failed"] == [sent[1]]
    assert listed["all"] == sent
    assert listed["pending"] == [sent[1], *sent[3:]]  # A failed one waits, too, as long as nobody tries again.
    assert pages == [sent[:3], sent[3:6], sent[6:]]
    assert [row.id for row in newest.data] == [sent[6], sent[5]]
    assert [row.id for row in numbered.data] == sent[5:]
    assert numbered.metadata.total_pages == 2
    assert [message.id for message in first.messages] == sent[1:]
    assert first.next_cursor is None
    assert [message.id for message in await link.get_stale_processing_messages(room.id)] == [sent[2]]
    with pytest.raises(UnprocessableEntityError):
        await desk.messages.list_agent_messages(room.id, cursor="none of ours")
    with pytest.raises(UnprocessableEntityError):
        await desk.listed("lost")


# Events, context, activity.


async def test_events_are_kept_for_who_posted_them_and_pushed_to_nobody(
    stage: Stage, alice: Player, bob: Player, room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    link = await stage.link(bob)
    await link.subscribe_agent_rooms(bob.id)
    await link.subscribe_room(room.id)
    tools = AgentTools(room.id, alice.rest, agent_id=alice.id)

    posted_ids = [
        await room.event(f"A {kind}", kind) for kind in ("tool_call", "tool_result", "thought", "error", "task")
    ]
    posted_ids.append(await room.event("Look", "attention", metadata={"kind": "question", "blocking": True}))
    posted_ids.append((await tools.send_event("Aha", "thought")).id)
    posted_ids.append((await tools.send_event("y" * 20_000, "thought", {"why": ["so", 1, None]})).id)
    kept = await room.context()

    assert [row.id for row in kept] == posted_ids
    assert [row.message_type for row in kept][:6] == [
        "tool_call",
        "tool_result",
        "thought",
        "error",
        "task",
        "attention",
    ]
    assert {(row.sender_id, row.sender_type, row.chat_room_id) for row in kept} == {(alice.id, "Agent", room.id)}
    assert len(kept[-1].content) == 16_384
    caplog.clear()  # The SDK has logged that it has cut it.
    assert metadata_of(kept[-1])["why"] == ["so", 1, None]
    assert metadata_of(kept[5])["kind"] == "question"
    assert await room.of(bob).context() == []
    assert await room.of(bob).listed("all") == []
    await hears_nothing_more(link, bob)


@pytest.mark.parametrize(
    ("content", "kind", "metadata_of_event"),
    [
        ("", "thought", None),
        (" \u200b", "thought", None),
        ("y" * 16_385, "thought", None),
        ("A text", "text", None),
        ("What?", "gossip", None),
        ("Long", "task", {"x": "y" * 65_537}),
    ],
)
async def test_an_event_that_is_none_is_refused(
    room: Room, content: str, kind: str, metadata_of_event: dict[str, Any] | None
) -> None:
    with pytest.raises(UnprocessableEntityError):
        await room.event(content, kind, metadata=metadata_of_event)

    assert await room.context() == []


async def test_the_context_is_what_one_said_and_was_told(stage: Stage, alice: Player, bob: Player, room: Room) -> None:
    carol = stage.agent("carol", called="Carol")
    await alice.befriend(carol)
    await room.add(carol)
    asked = (await room.say("Translate this", bob)).id
    await room.event("He may not know it")
    await room.say("And you?", carol)
    thought = await room.of(bob).event("I know it")
    answered = (await room.of(bob).say("Done", alice)).id
    tools = AgentTools(room.id, bob.rest, agent_id=bob.id)

    context = await room.of(bob).context()
    paged = [(await tools.fetch_room_context(room_id=room.id, page=page, page_size=2)) for page in (1, 2)]

    assert [row.id for row in context] == [asked, thought, answered]
    assert [row.message_type for row in context] == ["text", "thought", "text"]
    assert [row.sender_name for row in context] == ["Alice", "Bob", "Bob"]
    assert [[row["id"] for row in page["data"]] for page in paged] == [[asked, thought], [answered]]
    assert paged[0]["meta"]["total_pages"] == 2


async def test_who_works_is_seen_to_work(alice: Player, bob: Player, room: Room) -> None:
    seen = []
    for fields in (
        {"working": True},
        {"working": True, "activity": AgentActivityDetail(kind="tool_call", name="Bash")},
        {"working": False},
    ):
        assert await room.report(**fields) is fields["working"]
        seen.append(await room.of(bob).activity(alice))

    assert seen == [{"kind": "reasoning", "name": None}, {"kind": "tool_call", "name": "Bash"}, None]
    with pytest.raises(UnprocessableEntityError):
        await room.report(working=True, activity=AgentActivityDetail(kind="tool_call"))
