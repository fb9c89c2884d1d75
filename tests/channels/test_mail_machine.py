"""One mailbox in any order of sending, pushing, answering and waiting, beside a model that knows nothing of the rules.

Alice, another agent of her owner, and Carol write to Bob; Olga tells him something now and then. After every step what
is stored is what the model says, and each sender has been told of every change of its messages, once and in order.
"""

from datetime import datetime, timedelta
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from channels.errors import Refusal
from channels.messages import FORGOTTEN_EVERY, MAILBOX, StoredMessage
from tests.channels.roles import ALICE, BOB, CAROL, MALLORY, Player, market_with, player
from tests.channels.work import OLGA, world_of
from tests.channels.world import Who

PAIR_MAX, HOUSE_MAX, MAILBOX_MAX = 3, 4, 6
TTL_S, RETENTION_S, DEDUP_S = 100, 50, 120
TOPIC = f"messages:{BOB.id}"
SISTER = player("sister", number=0x7, owner_id=ALICE.agent.owner_id)
"""Another agent of Alice's owner."""

SENDERS = st.sampled_from([ALICE, SISTER, CAROL])
ENDED = {"acknowledged", "rejected", "expired"}
WAITING = {"queued", "delivered"}


class Letter(msgspec.Struct):
    """What the model knows of a message."""

    id: str
    sender: Who
    payload: int
    key: str | None
    written_at: datetime
    status: str = "queued"
    reason: str | None = None

    @property
    def expires_at(self) -> datetime:
        return self.written_at + timedelta(seconds=TTL_S)


class Mailing(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        limits = {"message_ttl_s": TTL_S, "message_retention_s": RETENTION_S, "dedup_ttl_s": DEDUP_S}
        self.world = world_of(
            market=market_with(
                messages_per_sender_max=PAIR_MAX,
                messages_per_house_max=HOUSE_MAX,
                mailbox_max=MAILBOX_MAX,
                **limits,
            ),
        )
        self.world.states["agent"][SISTER.id] = SISTER.agent
        self.letters: list[Letter] = []
        self.told: dict[str, list[tuple[str, str]]] = {who.id: [] for who in (ALICE, SISTER, CAROL)}
        self.ears = {who.id: self.world.listen(who, f"messages:{who.id}") for who in (ALICE, SISTER, CAROL)}
        self.ears_of_bob = self.world.listen(BOB, TOPIC)

    # What the model knows.

    def waiting(self, sender: Who | None = None) -> list[Letter]:
        """What waits, or is over and has not been looked at."""
        return [one for one in self.letters if one.status in WAITING and (sender is None or one.sender is sender)]

    def is_over(self, letter: Letter) -> bool:
        return letter.status == "expired" or (letter.status in WAITING and self.world.now >= letter.expires_at)

    def moved(self, letter: Letter, status: str) -> None:
        letter.status = status
        if isinstance(letter.sender, Player):
            self.told[letter.sender.id].append((letter.id, status))

    def expected_of_sending(self, sender: Player, payload: int, key: str | None) -> tuple[str, Letter | None]:
        """The refusal or `ok`, and the letter that is answered again."""
        before = [one for one in self.letters if key is not None and (one.sender, one.key) == (sender, key)]
        if before and self.world.now < before[-1].written_at + timedelta(seconds=DEDUP_S):
            return ("ok", before[-1]) if before[-1].payload == payload else ("dedup_mismatch", None)
        house = sum(len(self.waiting(who)) for who in ((ALICE, SISTER) if sender is not CAROL else (CAROL,)))
        if len(self.waiting(sender)) >= PAIR_MAX or house >= HOUSE_MAX or len(self.waiting()) >= MAILBOX_MAX:
            return "mailbox_full", None
        return "ok", None

    # What happens.

    @rule(sender=SENDERS, payload=st.integers(0, 1), key=st.sampled_from([None, "a", "b"]))
    def send(self, sender: Player, payload: int, key: str | None) -> None:
        expected, again = self.expected_of_sending(sender, payload, key)
        outcome, answer = self.outcome(
            lambda: self.world.write(sender, to_agent_id=BOB.id, type="x_a", payload=payload, dedup_key=key)
        )

        assert outcome == expected
        if answer is None:
            return
        assert answer.get("duplicate", False) is (again is not None)
        if again is not None:
            assert answer["id"] == again.id
            return
        self.letters.append(Letter(answer["id"], sender, payload, key, self.world.now))

    @rule()
    def tell_from_the_house(self) -> None:
        answer = self.world.write(OLGA, to_agent_id=BOB.id, type="system", payload=0)
        self.letters.append(Letter(answer["id"], OLGA, 0, None, self.world.now))

    @rule(which=st.sets(st.integers(0, 7)))
    def push(self, which: set[int]) -> None:
        pushed = [one for number, one in enumerate(self.letters) if number in which]
        self.world.mark_pushed(BOB.id, *(one.id for one in pushed))
        for one in pushed:
            if one.status == "queued" and not self.is_over(one):
                self.moved(one, "delivered")

    @rule(event=st.sampled_from(["acknowledge", "reject"]), which=st.integers(0, 7), reason=st.sampled_from("xyz"))
    def answer(self, event: str, which: int, reason: str) -> None:
        if which >= len(self.letters):
            return
        letter, wanted = self.letters[which], "acknowledged" if event == "acknowledge" else "rejected"
        payload = {"message_id": letter.id, "reason": reason}
        outcome, reply = self.outcome(lambda: self.world.push(BOB, TOPIC, event, payload))
        if letter.status in {"acknowledged", "rejected"}:
            assert outcome == ("ok" if letter.status == wanted else f"already_{letter.status}")
            assert reply is None or reply["duplicate"] is True
        elif self.is_over(letter):
            assert outcome == "expired"
        else:
            assert outcome == "ok"
            assert "duplicate" not in reply
            letter.reason = reason if event == "reject" else None
            self.moved(letter, wanted)
        if reply is not None and event == "reject":
            assert reply["reason"] == letter.reason

    @rule(which=st.integers(0, 7), event=st.sampled_from(["acknowledge", "reject"]))
    def mallory_answers(self, which: int, event: str) -> None:
        if which < len(self.letters):
            payload = {"message_id": self.letters[which].id, "reason": "mine"}
            own = f"messages:{MALLORY.id}"
            assert self.outcome(lambda: self.world.push(MALLORY, own, event, payload))[0] == "not_found"
            assert self.outcome(lambda: self.world.push(MALLORY, TOPIC, event, payload))[0] == "unauthorized"

    @rule(seconds=st.sampled_from([1, 49, 50, 100, 300]))
    def wait(self, seconds: int) -> None:
        self.world.advance(seconds, run_timers=False)

    @rule()
    def run_timers(self) -> None:
        self.world.run_timers()
        for letter in self.letters:
            if letter.status in WAITING and self.is_over(letter):
                self.moved(letter, "expired")
        kept = timedelta(seconds=max(RETENTION_S, DEDUP_S - TTL_S))
        left = {one.id for one in self.world.mail(BOB)}
        for letter in self.letters:
            is_long_over = letter.status in ENDED and letter.expires_at + kept <= self.world.now
            assert letter.id in left or is_long_over, "nothing is forgotten before its time"
            assert letter.id not in left or self.world.now < letter.expires_at + kept + FORGOTTEN_EVERY
        self.letters = [one for one in self.letters if one.id in left]

    def outcome(self, act: Any) -> tuple[str, Any]:
        before = self.world.everything()
        try:
            return "ok", act()
        except Refusal as refusal:
            assert self.world.everything() == before, "a refusal changes nothing"
            return refusal.reason, None

    # What always holds.

    @invariant()
    def what_is_stored_is_what_the_model_says(self) -> None:
        stored: list[StoredMessage] = self.world.mail(BOB)
        assert [(one.id, one.status, one.reason) for one in stored] == [
            (one.id, one.status, one.reason) for one in self.letters
        ]

    @invariant()
    def each_sender_is_told_of_each_change_of_its_messages_once(self) -> None:
        for id_, ears in self.ears.items():
            told = ears.payloads("message_updated")
            assert sorted((one["id"], one["status"]) for one in told) == sorted(self.told[id_])
            for one in self.letters:
                heard = [said["status"] for said in told if said["id"] == one.id]
                assert "delivered" not in heard[1:], "that comes first"

    @invariant()
    def each_message_is_announced_once(self) -> None:
        announced = [one["id"] for one in self.ears_of_bob.payloads("new_message")]
        assert announced == sorted({*announced})
        assert {one.id for one in self.letters} <= {*announced}

    @invariant()
    def a_join_counts_what_waits_by_the_clock(self) -> None:
        counted = sum(one.status in WAITING and not self.is_over(one) for one in self.letters)
        assert self.world.join(BOB, TOPIC) == {"undelivered": counted}

    @invariant()
    def no_mailbox_is_without_a_timer_that_comes_in_time(self) -> None:
        due_at = self.world.mailbox_timers.get((TOPIC, MAILBOX))
        assert not self.letters or due_at is not None
        for one in self.letters:
            if one.status in WAITING:
                assert due_at is not None
                assert due_at <= one.expires_at


TestMailing = Mailing.TestCase
TestMailing.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
