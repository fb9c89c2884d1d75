"""Pay as you stream, as two agents play it, honest or not, and a witness that keeps books of its own.

A `StreamPlay` is one random schedule: Alice and Bob have two online payment channels and up to three jobs between them,
each paid over one of the channels. Providers send chunks in and out of order, twice, with other bytes, too large; both
pay, too little, too much, for another job, on the other channel; either ends the job, the channel or the contact at any
time, or says nothing while the clock goes on. After every move the witness, who adds up only what was answered, and the
signed steps of the channels, requires what neither side may ever lose.

Choices come from a `random.Random`, a seeded one or one of hypothesis, so that a schedule can be told by its seed.
"""

import random
from collections import Counter
from typing import Any, Final

import msgspec

from channels.agents import Capability
from channels.channel_steps import StepKind
from channels.errors import Refusal
from channels.ledger import EXTERNAL
from channels.payment_state import PaymentChannel
from channels.task_state import Task
from tests import paying
from tests.channels.roles import ALICE, BOB, Player
from tests.channels.twins import twin_of
from tests.channels.work import closing, topic_of
from tests.channels.world import Listener, World

PURSE: Final = 100_000
DAY_S: Final = 86_400
WEEK_S: Final = 7 * DAY_S
WINDOW: Final = 256
NOBODYS: Final = "99999999-9999-4999-8999-999999999999"
WAITS_S: Final = (1, 299, 300, 3_600, DAY_S, WEEK_S)

Json = dict[str, Any]

ENDS_OF_A_CHANNEL: Final = frozenset(("state_lost", "terminal_state", "channel_not_open", "contact_revoked"))
OF_A_PROPOSAL: Final = ENDS_OF_A_CHANNEL | {
    *("transfer_pending", "insufficient_channel_balance", "not_found"),
    "nonce_replayed",  # A proposal that was pending is over by the clock, and has used up its nonce.
}
OF_A_CLOSE: Final = ENDS_OF_A_CHANNEL | {"transfer_pending", "stale_state"}  # The latter for the same reason.
OF_AN_ANSWER: Final = ENDS_OF_A_CHANNEL | {"no_pending_transfer", "nonce_replayed"}
OF_AN_END: Final = frozenset(
    ("terminal_state", "expired", "stream_incomplete", "nothing_delivered", "missing_chunks", "stream_closed")
)


def two_channels(balance: int) -> World:
    """A marketplace where Alice and Bob have two online channels, one opened by each, with so much on each side."""
    world = World(ALICE, BOB)
    for who in (ALICE, BOB):
        world.deposit(who, PURSE)
        world.change_agent(who, capabilities=(Capability("translate", 1),))
    for opener, other in ((ALICE, BOB), (BOB, ALICE)):
        channel = world.open_channel(opener, counterparty_agent_id=other.id, deposit=balance)
        world.rest(other, f"payment:{channel['id']}", "accept", deposit=balance)
    return world


STAGES: Final = {balance: two_channels(balance) for balance in (30, 40_000)}
"""By what each side of each channel holds: little, so that it runs out, or much."""


class Job:
    """A task that is paid as it streams, and what the witness knows of it.

    Args:
        task: As it was opened.
        client: Who pays.
        provider: Who works.
        is_client_honest: It pays only for units that it has.
        heard: What the client hears.
    """

    def __init__(
        self, task: Task, client: Player, provider: Player, *, is_client_honest: bool, heard: Listener
    ) -> None:
        assert task.stream_price is not None
        assert task.channel_id is not None
        self.id, self.channel_id, self.price = task.id, task.channel_id, task.stream_price
        self.client, self.provider = client, provider
        self.is_client_honest = is_client_honest
        self.heard = heard
        self.stored: dict[int, str] = {}
        """Chunks whose sender was told that they are stored."""
        self.paid = 0
        """What was acknowledged of transfers by the client for it on its channel."""
        self.is_closed = False

    def units(self, chunks: dict[int, str]) -> int:
        """How many units some chunks are; a unit of bytes that has begun is one."""
        if self.price.unit_bytes is None:
            return len(chunks)
        size = sum(len(chunk) for chunk in chunks.values())
        whole, begun = divmod(size, self.price.unit_bytes)
        return whole + (begun > 0)

    @property
    def next_seq(self) -> int:
        """The first missing chunk."""
        return next(seq for seq in range(len(self.stored) + 1) if seq not in self.stored)

    @property
    def received(self) -> int:
        """Units that the client has got, as it has heard them."""
        return self.units({told["seq"]: told["chunk"] for told in self.heard.payloads("output_stream")})


class StreamPlay:
    """One schedule.

    Args:
        chance: Makes every choice.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.balance = chance.choice((30, 40_000))
        self.world = twin_of(STAGES[self.balance])
        self.channel_ids = [*self.world.states["payment"]]
        self.jobs: list[Job] = []
        self.gained = {ALICE.id: 0, BOB.id: 0}
        """By executed transfers, as they were answered."""
        self.answered: list[tuple[Player, str, str, Json]] = []
        """What was proposed and acknowledged, to be sent again."""
        self.done: Counter[str] = Counter()
        """How often each answer was given."""
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            self.hire()

    # What they do.

    def play(self, moves: int) -> None:
        """So many moves; what must always hold is required after each."""
        often = (self.send, self.send, self.send, self.pay, self.pay, self.answer, self.answer)
        seldom = (self.repeat, self.close_stream, self.wait, self.end_job, self.end_channel, self.close_evenly)
        for number in range(moves):
            chosen = often if self.chance.random() < 0.85 or number < 3 else seldom
            self.chance.choice(chosen)()
            self.require_bounds()

    def hire(self) -> None:
        """One of the two hires the other one, over one of the channels."""
        pick = self.chance.choice
        client, provider = pick(((ALICE, BOB), (ALICE, BOB), (BOB, ALICE)))
        per = pick(("chunk", "bytes"))
        price: Json = {"amount": pick((1, 2, 3, 7, 10)), "per": per, "credit": pick((1, 1, 1, 2, 3, 10))}
        if per == "bytes":
            price["unit_bytes"] = pick((1, 2, 5, 16))
        opened = self.world.open_task(
            client,
            provider_agent_id=provider.id,
            capability="translate",
            channel_id=pick(self.channel_ids),
            stream_price=price,
        )
        heard = self.world.listen(client, topic_of(opened["id"]))
        honest = pick((True, False))
        job = Job(self.world.task(opened["id"]), client, provider, is_client_honest=honest, heard=heard)
        self.jobs.append(job)

    def send(self) -> None:
        """The provider sends a chunk, mostly the next one, until the credit is used up and once more."""
        job = self.chance.choice(self.jobs)
        next_seq = job.next_seq
        near = next_seq + self.chance.randint(1, 4)
        far = next_seq + self.chance.choice((WINDOW - 1, WINDOW, WINDOW + 1))
        seq = self.chance.choice((next_seq, next_seq, next_seq, near, far, max(0, next_seq - 1)))
        chunk = self._chunk(job, seq)
        who = job.client if self.chance.random() < 0.03 else job.provider
        expected = self._refusals_of(job, who, seq, chunk)
        is_kept = seq in self.world.chunks[job.id, "output"]  # Some time after the end nobody knows what was sent.
        is_repeated = is_kept and job.stored[seq] == chunk and who is job.provider
        reply = self._push(who, topic_of(job.id), "output_stream", {"chunk": chunk, "seq": seq})
        if isinstance(reply, Refusal):
            assert not is_repeated, "a duplicate costs nothing and is never refused"
            assert reply.reason in expected, (reply.reason, expected)
            self._require_due(job, reply, seq, chunk)
            return
        assert reply.get("duplicate", False) is is_repeated
        assert is_repeated or not expected, expected
        job.stored[seq] = chunk
        assert (reply["units"], reply["paid_up_to"]) == (job.units(job.stored), job.paid // job.price.amount)

    def pay(self) -> None:
        """Somebody proposes a transfer; a client that is honest only for what it has, and not twice."""
        job = self.chance.choice(self.jobs)
        if job.is_client_honest:
            self._pay_honestly(job)
            return
        pick, amount = self.chance.choice, job.price.amount
        payer = pick((job.client, job.client, job.client, job.provider))
        if payer is not job.client and any(other.is_client_honest for other in self.jobs if other.client is payer):
            return  # It pays for its own jobs alone.
        sums = (amount, amount, 3 * amount, 1, max(1, amount - 1), amount + 1, self.balance + 1)
        channel_id = pick((job.channel_id, job.channel_id, job.channel_id, *self.channel_ids))
        task_id = pick((job.id, job.id, job.id, job.id, pick(self.jobs).id, None, NOBODYS))
        if any(other.is_client_honest and other.client is payer for other in self.jobs if other.id == task_id):
            return
        self._propose(payer, channel_id, pick(sums), task_id)

    def answer(self) -> None:
        """What is pending is acknowledged, mostly; or rejected, withdrawn, answered by the wrong one, or left."""
        channel = self._channel(self.chance.choice(self.channel_ids))
        proposal = channel.pending_proposal
        if proposal is None:
            return
        payer, payee = (ALICE, BOB) if proposal.from_agent_id == ALICE.id else (BOB, ALICE)
        what = self.chance.choice(("acknowledge", "acknowledge", "acknowledge", "reject", "withdraw", "own", "nothing"))
        if what == "nothing":
            return
        if what in {"reject", "withdraw"}:
            who = payee if what == "reject" else payer
            reply = self._push(who, channel.topic, "reject_transfer", {"reason": "no", "nonce": proposal.nonce})
            assert not isinstance(reply, Refusal) or reply.reason in OF_AN_ANSWER, reply
            return
        who = payer if what == "own" else payee
        payload = paying.acknowledgement(
            self._shown(channel), who.secret_key, msgspec.to_builtins(proposal, str_keys=True)
        )
        reply = self._push(who, channel.topic, "acknowledge_transfer", payload)
        if isinstance(reply, Refusal):
            assert reply.reason in (OF_AN_ANSWER | ({"forbidden_role"} if what == "own" else set())), reply
            return
        assert what == "acknowledge", "nobody acknowledges its own transfer"
        self.answered.append((who, channel.topic, "acknowledge_transfer", payload))
        self._note_transfer(channel.id, proposal.task_id, payer, payee, proposal.amount)

    def repeat(self) -> None:
        """A proposal or an acknowledgement comes once more, word for word: it pays nothing."""
        if not self.answered:
            return
        before = self.world.everything()
        who, topic, event, payload = self.chance.choice(self.answered)
        reply = self._push(who, topic, event, payload)
        if not isinstance(reply, Refusal):
            assert reply["duplicate"] is True
            assert self.world.everything() == before

    def close_stream(self) -> None:
        """The provider says that there is no more."""
        job = self.chance.choice(self.jobs)
        reply = self._push(job.provider, topic_of(job.id), "output_complete", closing(self.world, job.id, "output"))
        assert not isinstance(reply, Refusal) or reply.reason in OF_AN_END, reply
        job.is_closed = job.is_closed or not isinstance(reply, Refusal)

    def end_job(self) -> None:
        """Either side stops: by a word of its own, or by keeping the other one away."""
        job = self.chance.choice(self.jobs)
        who, event, payload = self.chance.choice(
            (
                (job.client, "cancel", {"reason": "enough"}),
                (job.provider, "cancel", {"reason": "enough"}),
                (job.provider, "error", {"type": "broken"}),
                (job.provider, "complete", {"result": "done"}),
                (job.provider, "complete", {}),
                (job.client, "release", {}),
                (job.client, "dispute", {"reason": "bad"}),
                (job.client, "block", {}),
            )
        )
        if event == "block":
            other = job.provider
            reply = self._try(lambda: self.world.call(who, "block", handle=other.agent.handle))
            assert not isinstance(reply, Refusal) or reply.reason in {"already_blocked", "not_found"}, reply
            return
        reply = self._push(who, topic_of(job.id), event, payload)
        refusals = {"release": {"not_completed", "not_held"}, "dispute": {"not_started", "not_held", "terminal_state"}}
        if event in refusals:
            assert isinstance(reply, Refusal), "nothing is held for it"
        elif event == "cancel" and not self.world.task(job.id).is_final:
            assert isinstance(reply, Refusal)
            assert reply.reason == "expired", "what is paid as it streams may be stopped at any time"
        assert not isinstance(reply, Refusal) or reply.reason in (refusals.get(event, OF_AN_END)), reply

    def end_channel(self) -> None:
        """One of the two closes the channel alone, or disputes it."""
        who, topic = self.chance.choice((ALICE, BOB)), f"payment:{self.chance.choice(self.channel_ids)}"
        if self.chance.choice((True, False)):
            reply = self._try(lambda: self.world.rest(who, topic, "force_close"))
        else:
            reply = self._push(who, topic, "dispute", {"reason": "bad"})
        assert not isinstance(reply, Refusal) or reply.reason in (ENDS_OF_A_CHANNEL | {"dispute_used"}), reply

    def close_evenly(self) -> None:
        """Both close a channel by its balances, unless a transfer is pending."""
        channel = self._channel(self.chance.choice(self.channel_ids))
        payload = paying.close(self._shown(channel), ALICE.secret_key, BOB.secret_key)
        if channel.agent_a_id != ALICE.id:
            payload = paying.close(self._shown(channel), BOB.secret_key, ALICE.secret_key)
        reply = self._push(ALICE, channel.topic, "close", payload)
        assert not isinstance(reply, Refusal) or reply.reason in OF_A_CLOSE, reply

    def wait(self) -> None:
        """The clock goes on; what is due happens, or is late."""
        seconds = self.chance.choice(WAITS_S)
        self.world.advance(seconds, run_timers=self.chance.choice((True, True, False)))

    def outlast(self) -> None:
        """Nobody does anything any more: every job ends, and every chunk goes, by the clock alone."""
        for _ in range(6):
            self.world.advance(WEEK_S)
        self.require_bounds(are_streams_kept=False)
        for job in self.jobs:
            assert self.world.task(job.id).is_final
            assert not self.world.chunks[job.id, "output"]
        assert not self.world.timers, "nothing waits for ever"

    # What must hold.

    def require_bounds(self, *, are_streams_kept: bool = True) -> None:
        """Neither side has lost more than it may, no money was made, and the marketplace says what has happened."""
        world = self.world
        world.require_balance()
        assert world.accounts[EXTERNAL] == -2 * PURSE
        for job in self.jobs:
            self._require_job(job, are_streams_kept=are_streams_kept)
        for who in (ALICE, BOB):
            assert self._wealth(who) == PURSE + self.gained[who.id], "only transfers that both have signed move money"

    def _require_job(self, job: Job, *, are_streams_kept: bool) -> None:
        task, amount, credit = self.world.task(job.id), job.price.amount, job.price.credit
        units = job.units(job.stored)
        transfers = [
            step.details["amount"]
            for step in self.world.steps[job.channel_id]
            if step.kind is StepKind.TRANSFER
            and (step.details["task_id"], step.details["from_agent_id"]) == (job.id, job.client.id)
        ]
        assert task.paid == sum(transfers) == job.paid, "what is paid is what both have signed for it"
        assert (task.units, task.paid_up_to) == (units, job.paid // amount)
        assert units <= task.paid // amount + credit, "no chunk beyond the credit is taken"
        assert units * amount - task.paid <= credit * amount, "so that is the most that the provider loses"
        assert (task.price, task.fee, task.escrow_status) == (0, 0, "none"), "and nothing is held"
        if are_streams_kept and task.kept_until is None:
            chunks = self.world.chunks[job.id, "output"]
            assert {seq: chunk.decode() for seq, chunk in chunks.items()} == job.stored
            assert job.received == units, "the client has got what is stored"
        if job.is_client_honest:
            assert self._signed(job) <= units * amount, "who pays for what it has never has paid for more"

    def _wealth(self, who: Player) -> int:
        channels = [self._channel(channel_id) for channel_id in self.channel_ids]
        locked = [
            channel.balance_a if who.id == channel.agent_a_id else channel.balance_b
            for channel in channels
            if not channel.is_final
        ]
        return self.world.available(who) + sum(locked)

    def _signed(self, job: Job) -> int:
        """What the client has paid, and what it has proposed to pay and could still be taken by its word."""
        pending = [self._channel(channel_id).pending_proposal for channel_id in self.channel_ids]
        asked = (job.id, job.client.id)
        proposed = [one.amount for one in pending if one is not None and (one.task_id, one.from_agent_id) == asked]
        return job.paid + sum(proposed)

    def _require_due(self, job: Job, refusal: Refusal, seq: int, chunk: str) -> None:
        """What is said to be due is just what is needed: with it the chunk is taken, with less it is not."""
        if refusal.reason != "payment_due":
            return
        said, amount, credit = refusal.context, job.price.amount, job.price.credit
        units = job.units({**job.stored, seq: chunk})
        assert {name: said[name] for name in ("units", "paid_up_to", "credit", "unit_price")} == {
            "units": units,
            "paid_up_to": job.paid // amount,
            "credit": credit,
            "unit_price": amount,
        }
        assert (job.paid + said["due"]) // amount + credit >= units > (job.paid + said["due"] - 1) // amount + credit

    # How it is done.

    def _pay_honestly(self, job: Job) -> None:
        owed = job.received * job.price.amount - self._signed(job)
        if owed > 0:
            part = self.chance.choice((owed, owed, min(owed, job.price.amount), self.chance.randint(1, owed)))
            self._propose(job.client, job.channel_id, part, job.id)

    def _propose(self, payer: Player, channel_id: str, amount: int, task_id: str | None) -> None:
        channel = self._channel(channel_id)
        terms: Json = {"from_agent_id": payer.id, "amount": amount, "task_id": task_id}
        after = paying.after(self._shown(channel), from_agent_id=payer.id, amount=amount)
        balances = (max(0, after[0]), max(0, after[1]))  # What is below zero cannot be signed, but can be asked for.
        signature = paying.transfer_signature(self._shown(channel), payer.secret_key, **terms, balances=balances)
        payload = {"amount": amount, "nonce": channel.last_nonce + 1, "signature": signature, "task_id": task_id}
        reply = self._push(payer, channel.topic, "propose_transfer", payload)
        if isinstance(reply, Refusal):
            assert reply.reason in OF_A_PROPOSAL, reply
            return
        assert task_id != NOBODYS
        self.answered.append((payer, channel.topic, "propose_transfer", payload))

    def _note_transfer(self, channel_id: str, task_id: str | None, payer: Player, payee: Player, amount: int) -> None:
        self.gained[payer.id] -= amount
        self.gained[payee.id] += amount
        for job in self.jobs:
            if (job.id, job.channel_id, job.client.id) == (task_id, channel_id, payer.id):
                job.paid += amount

    def _chunk(self, job: Job, seq: int) -> str:
        """The bytes that were sent there, or others; sometimes more than a unit has."""
        stored = job.stored.get(seq)
        if stored is not None and self.chance.choice((True, True, False)):
            return stored
        most = 3 if job.price.unit_bytes is None else job.price.unit_bytes
        sizes = (1, most, self.chance.randint(1, most), most, most, most + 1)
        return self.chance.choice("ab") * self.chance.choice(sizes)

    def _refusals_of(self, job: Job, who: Player, seq: int, chunk: str) -> set[str]:
        """Every reason that there is to refuse a chunk: by the words of the rules, of what the witness knows."""
        task, units = self.world.task(job.id), job.units({**job.stored, seq: chunk})
        reasons = {
            "forbidden_role": who is not job.provider,
            "terminal_state": task.is_final,
            "expired": not task.is_final and self.world.now >= task.deadline,
            "stream_closed": job.is_closed,
            "seq_conflict": job.stored.get(seq, chunk) != chunk,
            "seq_out_of_window": seq >= job.next_seq + WINDOW,
            "chunk_too_large": job.price.unit_bytes is not None and len(chunk) > job.price.unit_bytes,
            "payment_due": seq not in job.stored and units > job.paid // job.price.amount + job.price.credit,
        }
        if job.stored.get(seq) == chunk and seq in self.world.chunks[job.id, "output"]:
            return {"forbidden_role"} if reasons["forbidden_role"] else set()
        return {reason for reason, is_given in reasons.items() if is_given}

    def _channel(self, channel_id: str) -> PaymentChannel:
        found: PaymentChannel = self.world.states["payment"][channel_id]
        return found

    def _shown(self, channel: PaymentChannel) -> Json:
        fields: Json = msgspec.structs.asdict(channel)
        return {**fields, "channel_id": channel.id, "signing_domain": self.world.market.signing_domain}

    def _push(self, who: Player, topic: str, event: str, payload: Json) -> Any:
        return self._try(lambda: self.world.push(who, topic, event, payload))

    def _try(self, act: Any) -> Any:
        """What is answered; a refusal, which changes nothing, is an answer too."""
        before = self.world.everything()
        try:
            reply = act()
        except Refusal as refusal:
            assert self.world.everything() == before, "a refusal changes nothing"
            self.done[refusal.reason] += 1
            return refusal
        self.done["duplicate" if reply.get("duplicate") else "ok"] += 1
        return reply
