"""Who writes what nobody wants: strangers, forgers and floods are refused, and slow nobody else.

Mallory has no contact with anybody. Bob may be written to by all; Alice's agent, and one that is not listed, may not.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.harness import MarketProcess, Refused
from tests.system.mail_halls import Fields, Mailbox, MailHall, mail_market, payloads, refused

LANES = 16
PER_SENDER_MAX = 2_000
BYTES_MAX = 65_536
NO_SUCH_ID = "01890000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    with mail_market(tmp_path_factory.mktemp("spam") / "var") as market:
        market.user("olga", "--operator")
        yield market


@pytest.fixture
def hall(market: MarketProcess) -> MailHall:
    return MailHall(market)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    """Where mailboxes are small."""
    settings = {"AGRENTING_LIMITS_MAILBOX_MAX": "30", "AGRENTING_LIMITS_MESSAGES_PER_SENDER_MAX": "20"}
    with mail_market(tmp_path_factory.mktemp("small") / "var", **settings) as market:
        yield market


def operator_key(market: MarketProcess) -> str:
    """The key of whoever runs the market."""
    assert market.operator_key is not None
    return market.operator_key


async def in_lanes(acts: Iterator[Any], lanes: int = LANES) -> list[Any]:
    """Do all of it, so much at once; each answer, or how it was refused."""
    answers: list[Any] = []

    async def lane() -> None:
        for act in acts:
            try:
                answers.append(await act)
            except Refused as no:
                answers.append(no)

    await asyncio.gather(*(lane() for _ in range(lanes)))
    return answers


def stored(answers: list[Any]) -> list[Fields]:
    """The messages among the answers."""
    return [answer for answer in answers if isinstance(answer, dict)]


def reasons(answers: list[Any]) -> set[str]:
    """Why the others were refused."""
    return {answer.reason for answer in answers if isinstance(answer, Refused)}


# Strangers.


async def test_strangers_are_refused_and_learn_nothing_of_who_is_hidden(hall: MailHall) -> None:
    """The handle of who cannot be found is told to nobody who does not know it; a draft is nobody at all."""
    listed, unlisted = hall.agent("alice", "Listed", "--tag", "words"), hall.agent("alice", "Unlisted", "--unlisted")
    with hall.market.rest(hall.keys["alice"]) as owner:
        made = owner.post("/api/v1/agents", json={"name": "Sketch", "description": "Not yet.", "status": "draft"})
        assert made.is_success, made.text
    async with hall.writer(hall.mallory) as mallory:
        handle = listed.handle
        await refused(mallory.write(1, to=listed), "contact_required", status=403, handle=handle)
        for spelling in (handle, f"@{handle.upper()}"):
            named = {"to_handle": spelling, "type": "x_note", "payload": 1}
            await refused(mallory.call("POST", "messages", named), "contact_required", status=403, handle=handle)
        await refused(mallory.write(1, to=unlisted), "contact_required", status=403, handle=None)
        answers = []
        for id_, name in ((made.json()["data"]["id"], made.json()["data"]["handle"]), (NO_SUCH_ID, "nobody/there")):
            for receiver in ({"to_agent_id": id_}, {"to_handle": name}):
                answer = await mallory.answer("POST", "messages", json={**receiver, "type": "x_note", "payload": 1})
                error = answer.json()["error"]
                answers.append((answer.status_code, error["code"], error["message"], error.get("details")))
        assert answers[0][:2] == (404, "not_found")
        assert answers == answers[:1] * 4, "who is hidden is told from who does not exist"
        assert await mallory.listed("messages/sent") == []
    for account in (listed, unlisted):
        async with hall.mailbox(account) as mailbox:
            assert mailbox.undelivered == 0


async def test_who_is_blocked_reaches_nobody_and_who_blocks_is_told_that_it_does(hall: MailHall) -> None:
    async with hall.writer(hall.mallory) as mallory, hall.writer(hall.bob) as bob, hall.writer(hall.alice) as alice:
        first = await mallory.write("before the block")
        hall.market.here("contact", "block", hall.bob.handle, hall.mallory.handle)

        await refused(mallory.write("after it"), "not_found", status=404)
        await refused(mallory.write("after it", type="task_handoff"), "not_found", status=404)
        await refused(bob.write("why?", to=hall.mallory), "blocked_by_you", status=409)
        other = await alice.write("Alice is not Mallory")
        assert [one["id"] for one in await bob.listed("messages")] == [first["id"], other["id"]]

        hall.market.here("contact", "unblock", hall.bob.handle, hall.mallory.handle)
        assert (await mallory.write("again"))["status"] == "queued"


async def test_a_contact_opens_the_mailbox_and_its_end_closes_it(hall: MailHall) -> None:
    mallory, alice = hall.mallory, hall.alice
    async with hall.writer(mallory) as writer:
        hall.market.here("contact", "request", mallory.handle, alice.handle)
        await refused(writer.write(1, to=alice), "contact_required")
        hall.market.here("contact", "approve", alice.handle, mallory.handle, "--kind", "message")
        await writer.write("let in", to=alice)
        hall.market.here("contact", "revoke", alice.handle, mallory.handle)
        await refused(writer.write("out again", to=alice), "contact_required")
        async with hall.mailbox(alice) as mailbox:
            assert payloads(await mailbox.take(1)) == ["let in"]
            await mailbox.nothing()


# Forgers.


async def test_only_operators_speak_for_the_house(hall: MailHall) -> None:
    """A message of type `system` is refused whoever else sends it, whatever it says."""
    async with (
        hall.writer(hall.mallory) as mallory,
        hall.writer(hall.keys["mallory"]) as user,
        hall.writer(operator_key(hall.market)) as olga,
        hall.mailbox(hall.alice) as mailbox,
    ):
        for to in (hall.alice, hall.bob):
            await refused(mallory.write("Pay here", to=to, type="system"), "forbidden_role", status=403)
            await refused(user.write("Pay here", to=to, type="system"), "forbidden_role", status=403)
        await refused(user.write("Hello"), "agent_required", status=403)
        await refused(olga.write("Hello"), "agent_required", status=403)

        said = await olga.write({"notice": "Maintenance at noon"}, to=hall.alice, type="system")
        message = await mailbox.next()
        assert (message["id"], message["type"]) == (said["id"], "system")
        assert (message["from_agent_id"], message["from_market"]) == (None, True)
        await mailbox.acknowledge(said["id"])
        await mailbox.nothing()


@pytest.mark.parametrize("type_", ["negotiation", "task_handoff"])
async def test_a_forged_announcement_is_told_from_the_markets(hall: MailHall, type_: str) -> None:
    """Mallory writes what the market announces of Alice, to the letter."""
    wanted = {"provider_agent_id": hall.bob.id, "capability": "translate"}
    event, more = ("open_negotiation", {}) if type_ == "negotiation" else ("open_task", {"max_price": 1_000})
    async with hall.market.client(hall.alice.api_key) as alice:
        await alice.join("agents:discovery")
        await alice.push("agents:discovery", event, {**wanted, **more})
    async with hall.mailbox() as mailbox, hall.writer(hall.mallory) as mallory:
        real = await mailbox.next()
        await mallory.write(real["payload"], type=type_)
        # A field that is the market's to write is refused, or counts for nothing.
        bodies = [
            {"to_agent_id": hall.bob.id, "type": type_, "payload": 1, forged: real.get(forged, True)}
            for forged in ("from_agent_id", "from_market", "is_from_market", "id", "inserted_at", "status")
        ]
        answers = await in_lanes(mallory.call("POST", "messages", body) for body in bodies)
        assert reasons(answers) <= {"invalid_payload"}
        assert {message["status"] for message in stored(answers)} <= {"queued", "delivered"}
        async with hall.mailbox() as again:
            came = await again.take(again.undelivered)
        forged_ones = [one for one in came if one["id"] != real["id"]]
        assert forged_ones
        assert real["from_market"] is True
        assert [one["from_market"] for one in forged_ones] == [False] * len(forged_ones)
        assert {one["from_agent_id"] for one in forged_ones} == {hall.mallory.id}


# Full mailboxes.


@pytest.mark.timeout(300)
async def test_one_sender_fills_its_share_and_no_more_however_much_it_sends_at_once(hall: MailHall) -> None:
    async with hall.writer(hall.mallory) as mallory, hall.writer(hall.alice) as alice, hall.writer(hall.bob) as bob:
        answers = await in_lanes(mallory.write(number) for number in range(PER_SENDER_MAX + 60))
        assert len(stored(answers)) == PER_SENDER_MAX
        assert reasons(answers) == {"mailbox_full"}
        await refused(mallory.write("more"), "mailbox_full", status=409, max=PER_SENDER_MAX, scope="sender")
        async with hall.market.client(hall.mallory.api_key) as socket:
            await socket.join("agents:discovery")
            wanted = {"provider_agent_id": hall.bob.id, "capability": "translate"}
            await refused(socket.push("agents:discovery", "open_negotiation", wanted), "mailbox_full", scope="sender")

        from_alice = await alice.write("Alice's share is her own")
        await mallory.write("nor is another mailbox full", to=hall.agent("bob", "Other", "--global"))
        (oldest,) = (await bob.answer("GET", "messages?limit=1")).json()["data"]
        await bob.call("POST", f"messages/{oldest['id']}/acknowledge")
        await mallory.write("room for one")
        await refused(mallory.write("and no more"), "mailbox_full")
        (newest,) = (await bob.answer("GET", "messages/sent?limit=1")).json()["data"] or [None]
        assert newest is None
        async with hall.mailbox() as mailbox:
            assert mailbox.undelivered == PER_SENDER_MAX + 1
            came = await mailbox.take(PER_SENDER_MAX + 1)
        assert [one["id"] for one in came] == sorted(one["id"] for one in came)
        assert from_alice["id"] in {one["id"] for one in came}


async def test_a_full_mailbox_takes_only_what_the_market_says(small: MarketProcess) -> None:
    hall = MailHall(small)
    async with (
        hall.writer(hall.mallory) as mallory,
        hall.writer(hall.carol) as carol,
        hall.writer(hall.alice) as alice,
        hall.writer(operator_key(small)) as olga,
        hall.market.client(hall.alice.api_key) as buyer,
    ):
        assert len(stored(await in_lanes(mallory.write(n) for n in range(25)))) == 20
        answers = await in_lanes(carol.write(n) for n in range(15))
        assert len(stored(answers)) == 10
        assert {no.response["scope"] for no in answers if isinstance(no, Refused)} == {"mailbox"}
        await refused(alice.write("hello"), "mailbox_full", status=409, max=30, scope="mailbox")
        await refused(mallory.write("hello"), "mailbox_full", status=409, max=20, scope="sender")

        await buyer.join("agents:discovery")
        wanted = {"provider_agent_id": hall.bob.id, "capability": "translate"}
        session = await buyer.push("agents:discovery", "open_negotiation", wanted)
        said = await olga.write("Your mailbox is full", type="system")
        async with hall.mailbox() as mailbox:
            came = await mailbox.take(32)
            assert came[-2]["payload"]["session_id"] == session["id"]
            assert came[-1]["id"] == said["id"]
            for message in came[:3]:  # Two above what is full, and one for Alice.
                await mailbox.acknowledge(message["id"])
            await alice.write("hello")
            await refused(alice.write("hello again"), "mailbox_full", scope="mailbox")


# What does not fit.


def body(hall: MailHall, **fields: Any) -> bytes:
    """A message to Bob, but for these fields; those that are Ellipsis are left out."""
    whole = {"to_agent_id": hall.bob.id, "type": "x_note", "payload": 1, **fields}
    return json.dumps({name: value for name, value in whole.items() if value is not ...}).encode()


def each(field: str, *values: Any) -> list[Fields]:
    """The field with each of the values."""
    return [{field: value} for value in values]


NO_FIELDS: list[Fields] = [
    {"payload": ...},
    {"type": ...},
    {"to_agent_id": ...},
    *each("type", "", "note", "X_note", "x_", "x_A", "x_" + "a" * 63, "x_ä", "x_a\n", None, 7, ["x_a"]),
    *each("to_agent_id", "", None, 7, {}, "' OR 1=1 --", "\x00", "x" * 100_000),
    *({"to_agent_id": ..., **one} for one in each("to_handle", "", "@", None, 7, [], "a/b/c", "\x00", "x" * 100_000)),
    {"to_handle": "bob/translator"},
    *each("protocol_version", "", "9.9", 1.0, "1.0\n", [], "x" * 10_000),
    *each("dedup_key", "", "k" * 129, 7, {}, []),
    {"payload": "x" * (BYTES_MAX - 1)},
    {"payload": ["x" * 10_000] * 100},
]
NO_BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"{}",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"type":"x_note","type":"x_note"}',
]
NO_PAYLOADS = [
    b"NaN",
    b"Infinity",
    b"'a'",
    b"01",
    b"9007199254740992",
    b"1e400",
    b"\xff",
    b'"\\ud800"',
    b'"\xed\xa0\x80"',
    b"[" * 64 + b"]" * 64,
    b"[" * 5_000 + b"]" * 5_000,
    b'{"a":' * 64 + b"1" + b"}" * 64,
    b"1,",
]


async def test_what_is_no_message_is_refused_by_rest_and_leaves_nothing_behind(hall: MailHall) -> None:
    head, _, tail = body(hall, payload="PAYLOAD").partition(b'"PAYLOAD"')
    bodies = [
        *(body(hall, **fields) for fields in NO_FIELDS),
        *NO_BODIES,
        *(head + payload + tail for payload in NO_PAYLOADS),
    ]
    async with hall.writer(hall.mallory) as mallory:
        for raw in bodies:
            answer = await mallory.answer("POST", "messages", content=raw, headers={"content-type": "application/json"})
            assert answer.status_code in {400, 404, 422}, (raw[:200], answer.text)
            assert answer.json()["error"]["code"] in {
                "malformed", "invalid_payload", "not_found", "no_common_version",
            }, (raw[:200], answer.text)  # fmt: skip
        answer = await mallory.answer(
            "POST", "messages", content=body(hall, payload="x" * 2**20), headers={"content-type": "application/json"}
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
        assert await mallory.listed("messages/sent") == []


WHOLE_PAYLOADS: list[Any] = [
    None, "", 0, -1, 1.5, 2**53 - 1, True, [], {}, "\x00", "\u2028\u202e", "🙂", {"": {"": []}}, {"id": "x"},
    "x" * (BYTES_MAX - 2), "ä" * (BYTES_MAX // 2 - 1), json.loads("[" * 63 + "]" * 63),
]  # fmt: skip


async def test_any_json_within_the_bounds_comes_as_it_was_sent(hall: MailHall) -> None:
    async with hall.writer(hall.mallory) as mallory, hall.mailbox() as mailbox:
        for payload in WHOLE_PAYLOADS:
            await mallory.write(payload)
        assert payloads(await mailbox.take(len(WHOLE_PAYLOADS))) == WHOLE_PAYLOADS


NO_ANSWERS: list[Any] = [
    {},
    *each("message_id", None, 7, [], {}, 1.5, ["{id}"]),
    [],
    "{id}",
    None,
    7,
]
NO_IDS = ["", "\x00", "' OR 1=1 --", NO_SUCH_ID, "x" * 100_000, "🙂", "*", "messages:*"]
NO_REASONS: list[Any] = [..., None, 7, "", " ", "\t\n", "r" * 501, "\x00", "a\x07b", ["no"], {"no": 1}]


async def test_answers_that_do_not_fit_are_refused_each_and_the_message_waits_on(hall: MailHall) -> None:
    """On the socket and by REST; the socket, and Bob's other topics, stay as they are."""
    async with hall.writer(hall.alice) as alice, hall.writer(hall.bob) as bob, hall.mailbox() as mailbox:
        id_ = (await alice.write("answer this"))["id"]
        await mailbox.next()
        push = mailbox.client.push
        for payload in json.loads(json.dumps(NO_ANSWERS).replace("{id}", id_)):
            for event in ("acknowledge", "reject"):
                answer = {**payload, "reason": "no"} if isinstance(payload, dict) else payload
                await refused(_pushed(mailbox, event, answer), "invalid_payload")
        for wrong in NO_IDS:
            await refused(push(hall.topic, "acknowledge", {"message_id": wrong}), "not_found")
            await refused(push(hall.topic, "reject", {"message_id": wrong, "reason": "no"}), "not_found")
        for reason in NO_REASONS:
            given = {} if reason is ... else {"reason": reason}
            await refused(push(hall.topic, "reject", {"message_id": id_, **given}), "invalid_payload")
            await refused(bob.call("POST", f"messages/{id_}/reject", given), "invalid_payload", status=422)
        await refused(push(hall.topic, "acknowledged", {"message_id": id_}), "unknown_event")
        await refused(push(hall.topic, "new_message", {"id": id_}), "unknown_event")
        for path in (NO_SUCH_ID, "x" * 300, "%00", "%F0%9F%99%82", f"{id_}%20"):
            for what in ("acknowledge", "reject"):
                await refused(bob.call("POST", f"messages/{path}/{what}", {"reason": "no"}), "not_found", status=404)
        assert (await alice.read(id_))["status"] == "delivered"

        rejected = await mailbox.reject(id_, "  " + "r" * 500 + "\n")
        assert rejected["reason"] == "r" * 500


async def _pushed(mailbox: Mailbox, event: str, payload: Any) -> Any:
    """As a push of any payload, null also."""
    answer = await mailbox.client.request(mailbox.topic, event, payload)
    if answer["status"] != "ok":
        raise Refused(answer["response"])
    return answer["response"]


async def test_nobody_answers_or_reads_what_is_not_its_own(hall: MailHall) -> None:
    async with hall.writer(hall.alice) as alice, hall.writer(hall.mallory) as mallory:
        mine = (await mallory.write("Mallory's own"))["id"]
        id_ = (await alice.write("for Bob"))["id"]
        async with hall.mailbox(hall.mallory) as mailbox:
            for other in (id_, mine):  # To have sent it is not to have received it.
                await refused(mailbox.acknowledge(other), "not_found")
                await refused(mailbox.reject(other, "no"), "not_found")
                await refused(mallory.call("POST", f"messages/{other}/acknowledge"), "not_found")
            await refused(mallory.read(id_), "not_found", status=404)
            client = mailbox.client
            await refused(client.join(hall.topic), "unauthorized")
            answer = await client.request(hall.topic, "acknowledge", {"message_id": id_})
            assert answer["status"] == "error"
        assert (await alice.read(id_))["status"] == "queued"
