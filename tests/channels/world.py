"""The marketplace in memory: events run through the handlers' tables, and what is decided is carried out at once.

It does what the server does between a frame and its reply, without any I/O: decode, check the scope, load, decide,
store, tell. A refusal changes nothing. Payloads, replies, broadcasts and states go through JSON, as they do in the
server, so what could not be sent or stored fails here. The clock stands still until `advance`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import msgspec

from channels import messages, negotiation, payment, task
from channels.agents import Agent
from channels.changes import (
    DropMessages,
    DropStreams,
    Insert,
    Mail,
    NoteStep,
    Outcome,
    Save,
    Spend,
    StoreCheckpoint,
    StoreChunk,
    Timer,
)
from channels.channel_steps import ChannelStep
from channels.contact_requests import ADD, RESPOND
from channels.contacts import Tie
from channels.errors import Conflict, Invalid
from channels.handlers import Access, Context, Decision, Follow, FollowChannel, FollowMail, Handler, Push
from channels.hiring import OpenTask, TaskOpening, open_task
from channels.identity import Identity
from channels.ledger import EXTERNAL, Entry, available, deposit
from channels.limits import Market
from channels.mail_sending import SEND
from channels.messages import MAILBOX, PUSHED, StoredMessage, announced
from channels.negotiation import NegotiationSession, OpenNegotiation, open_negotiation
from channels.opening import Opening
from channels.payment_disputes import DecideChannel, decide_channel
from channels.payment_opening import ACCEPT, CANCEL, DECLINE, DEPOSIT, AcceptanceFacts
from channels.payment_opening import OPEN as OPEN_CHANNEL
from channels.payment_state import ChannelFacts, PaymentChannel
from channels.revocation import BLOCK, REMOVE, UNBLOCK
from channels.routes import CLOCKS
from channels.streams import Checkpoint, TaskFacts
from channels.task import Task
from channels.task_disputes import DecideTask, decide_task
from channels.task_state import StreamState
from channels.told import Audience, Broadcast, Retied, Told
from crypto import NO_CHUNKS, StreamChecksum, checksum_of, next_digest
from tests.channels import mailroom
from tests.channels.book import Book, owner_entity
from tests.channels.roles import MARKET, NOW, Player, as_told

THE_HOUSE = Identity(kind="user", user_id="", handle="system", key_id="", scopes=frozenset())
"""Who acts where the clock alone does."""

MODULES: tuple[ModuleType, ...] = (negotiation, task, payment, messages)
OPEN_NEGOTIATION = Handler(OpenNegotiation, open_negotiation, "opening", Access.WRITE, "negotiate")
OPEN_TASK = Handler(OpenTask, open_task, "task_opening", Access.WRITE, "tasks")
CALLS = {"add": ADD, "respond": RESPOND, "remove": REMOVE, "block": BLOCK, "unblock": UNBLOCK}
"""What is asked of the contact book, which has no topic."""

BY_REST = {
    "accept": ACCEPT,
    "decline": DECLINE,
    "cancel": CANCEL,
    "deposit": DEPOSIT,
    "force_close": payment.FORCE_CLOSE,
    "decide": Handler(DecideChannel, decide_channel, "payment", Access.WRITE),
    "decide_task": Handler(DecideTask, decide_task, "task", Access.WRITE),
}
"""What is done with a payment channel, or by an operator with a task, by REST alone."""

STORES = {
    "task": "task",
    "task_facts": "task",
    "negotiation": "negotiation",
    "message": "message",
    **dict.fromkeys(
        ("payment", "payment_at_nonce", "payment_proposing", "payment_join", "payment_handing_in"), "payment"
    ),
    **dict.fromkeys(("payment_disputing", "payment_accepting", "payment_acknowledging"), "payment"),
}
"""Where a decided state goes, by the loader that its handler names."""

Who = Player | Identity
"""An agent, or a user by what its credential proves."""

Loader = Callable[["World", str, Any, Identity], Any]


class Heard(msgspec.Struct, frozen=True):
    """An event as it came to a listener."""

    event: str
    payload: Any


class Listener:
    """A socket that has joined a topic; it keeps what comes."""

    def __init__(self, who: Who, topic: str) -> None:
        self.who = who
        self.topic = topic
        self.heard: list[Heard] = []

    def events(self) -> list[str]:
        """The names of what came, in order."""
        return [heard.event for heard in self.heard]

    def payloads(self, event: str) -> list[Any]:
        """What came with that name, in order."""
        return [heard.payload for heard in self.heard if heard.event == event]

    def hear(self, broadcast: Broadcast, sender: Identity) -> None:
        """Take a broadcast that is for this socket. It is never the sending one: that would be the sender's own."""
        is_own = broadcast.audience is not Audience.ALL and self.who.id == sender.agent_id
        if broadcast.topic == self.topic and not is_own:
            self.heard.append(Heard(broadcast.event, as_told(broadcast.payload)))


class World:
    """Every state of a marketplace.

    Args:
        players: The agents that there are, each with its owner.
        market: Its fee and limits.
        modules: Topic modules whose topics work here.
    """

    def __init__(self, *players: Player, market: Market = MARKET, modules: tuple[ModuleType, ...] = MODULES) -> None:
        self.market = market
        self.now = NOW
        self.modules = {module.TOPIC.removesuffix(":*"): module for module in modules}
        self.states: dict[str, dict[str, Any]] = defaultdict(dict)
        self.accounts: dict[str, int] = defaultdict(int)
        self.entries: list[Entry] = []
        self.chunks: dict[tuple[str, str], dict[int, bytes]] = defaultdict(dict)
        self.checkpoints: dict[str, Checkpoint] = {}
        self.follows: list[Follow | FollowMail | FollowChannel] = []
        self.timers: dict[tuple[str, str], datetime] = {}
        self.mailbox_timers: dict[tuple[str, str], datetime] = {}
        self.steps: dict[str, list[ChannelStep]] = defaultdict(list)
        self.outcomes: list[Outcome] = []
        self.spent: Counter[str] = Counter()
        self.pushed: list[Push] = []
        self.listeners: list[Listener] = []
        self.retied: list[Retied] = []
        self.book = Book(self.states, lambda: self.now)
        self._ids = 0
        for player in players:
            self.states["agent"][player.id] = player.agent
            self.states["user"][player.agent.owner_id] = owner_entity(player.agent)

    # What players do.

    def join(self, who: Player, topic: str, payload: Any = None) -> Any:
        """Join a topic; its reply as JSON. What is pushed after it stands in `pushed`."""
        module, topic_id = self._route(topic)
        module.ACCESS(who.identity, topic_id)
        return as_told(self._run(module.JOIN, who.identity, topic, payload or {}).reply)

    def listen(self, who: Who, topic: str) -> Listener:
        """A socket that hears the topic from now on."""
        listener = Listener(who, topic)
        self.listeners.append(listener)
        return listener

    def push(self, who: Player, topic: str, event: str, payload: Any = None) -> Any:
        """Send an event to a topic; its reply as JSON.

        Raises:
            Refusal: The event was refused, and nothing has changed.
        """
        module, _ = self._route(topic)
        return as_told(self._run(module.HANDLERS[event], who.identity, topic, payload or {}).reply)

    def open_negotiation(self, who: Player, **payload: Any) -> Any:
        """Open a negotiation as `agents:discovery` would; its reply as JSON."""
        return as_told(self._run(OPEN_NEGOTIATION, who.identity, "agents:discovery", payload).reply)

    def open_task(self, who: Player, **payload: Any) -> Any:
        """Open a task as `agents:discovery` would; its reply as JSON."""
        return as_told(self._run(OPEN_TASK, who.identity, "agents:discovery", payload).reply)

    def open_channel(self, who: Player, **payload: Any) -> Any:
        """Open a payment channel as REST does; the answer as JSON."""
        return as_told(self._run(OPEN_CHANNEL, who.identity, "agents:discovery", payload).reply)

    def rest(self, who: Who, topic: str, name: str, **payload: Any) -> Any:
        """Do with a payment channel or a task what only REST does; the answer as JSON."""
        return as_told(self._run(BY_REST[name], identity_behind(who), topic, payload).reply)

    def write(self, who: Who, **payload: Any) -> Any:
        """Send a message, as REST does; the answer as JSON."""
        identity = identity_behind(who)
        return as_told(self._run(SEND, identity, f"messages:{identity.id}", payload).reply)

    def mark_pushed(self, agent_id: str, *message_ids: str) -> None:
        """What the server does once it has pushed messages to a socket of the agent."""
        self._run(PUSHED, THE_HOUSE, f"messages:{agent_id}", {"message_ids": message_ids})

    def call(self, who: Who, name: str, **payload: Any) -> Any:
        """Ask something of the contact book, as REST does; the answer as JSON."""
        return as_told(self._run(CALLS[name], identity_behind(who), "", payload).reply)

    def deposit(self, who: Player, amount: int) -> None:
        """Money from outside."""
        self._post([deposit(agent_id=who.id, amount=amount)])

    def change_agent(self, who: Player, **fields: Any) -> None:
        """Change what an agent is, as its owner or an operator would."""
        self.states["agent"][who.id] = msgspec.structs.replace(self.agent(who.id), **fields)

    # What the clock does.

    def advance(self, seconds: float, *, run_timers: bool = True) -> None:
        """Let time pass. Without timers, what is due waits, as after a restart."""
        self.now += timedelta(seconds=seconds)
        if run_timers:
            self.run_timers()

    def run_timers(self) -> None:
        """Run every timer that is due, the earliest first."""
        while due := sorted((at, key) for key, at in (self.timers | self.mailbox_timers).items() if at <= self.now):
            _, (topic, kind) = due[0]
            del self._timers_of(kind)[topic, kind]
            self._run_timer(topic, kind)

    # What can be seen.

    def agent(self, agent_id: str) -> Agent:
        """An agent as it is now."""
        found: Agent = self.states["agent"][agent_id]
        return found

    def task(self, task_id: str) -> Task:
        """A task as it is now."""
        found: Task = self.states["task"][task_id]
        return found

    def available(self, who: Player) -> int:
        """What an agent can spend."""
        return self.accounts[available(who.id)]

    def mail(self, who: Player) -> list[StoredMessage]:
        """An agent's messages, oldest first."""
        return self.mail_to(who.id)

    def mail_to(self, agent_id: str) -> list[StoredMessage]:
        """The messages to an agent of that id, oldest first."""
        return [message for message in self.states["message"].values() if message.to_agent_id == agent_id]

    def everything(self) -> Any:
        """All that a refusal must leave as it was, for comparison."""
        return (
            {store: dict(states) for store, states in self.states.items() if states},
            {account: amount for account, amount in self.accounts.items() if amount},
            {stream: dict(chunks) for stream, chunks in self.chunks.items() if chunks},
            dict(self.checkpoints),
            self.timers | self.mailbox_timers,
            {channel: list(steps) for channel, steps in self.steps.items() if steps},
            list(self.outcomes),
            +self.spent,
            [list(listener.heard) for listener in self.listeners],
        )

    def require_balance(self) -> None:
        """The rule of conservation: nothing is made or lost, and only the outside is owed."""
        assert sum(self.accounts.values()) == 0
        assert not {name: amount for name, amount in self.accounts.items() if amount < 0 and name != EXTERNAL}

    # How it is done.

    def new_id(self) -> str:
        """A fresh id; each is larger than the one before."""
        self._ids += 1
        return f"00000000-0000-7000-8000-{self._ids:012x}"

    def new_token(self) -> str:
        """A fresh secret."""
        return f"token-{self.new_id()}"

    def context(self, sender: Identity, topic: str) -> Context:
        """What a handler may know, now."""
        return Context(
            sender=sender,
            now=self.now,
            market=self.market,
            new_id=self.new_id,
            new_token=self.new_token,
            topic=topic,
        )

    def _timers_of(self, kind: str) -> dict[tuple[str, str], datetime]:
        """Those of mailboxes stand apart: nearly everything leaves somebody a message."""
        return self.mailbox_timers if kind == MAILBOX else self.timers

    def _route(self, topic: str) -> tuple[ModuleType, str]:
        prefix, _, topic_id = topic.partition(":")
        return self.modules[prefix], topic_id

    def _run(self, handler: Handler, sender: Identity, topic: str, payload: Any) -> Decision:
        sender.require_scope(handler.scope)
        request = _read(payload, handler)
        topic_id = topic.partition(":")[2]
        loaded = LOADERS[handler.loads](self, topic_id, request, sender)
        decision = handler.decide(loaded, request, self.context(sender, topic))
        self._carry_out(decision, sender, STORES.get(handler.loads, ""))
        return decision

    def _run_timer(self, topic: str, kind: str) -> None:
        if kind in CLOCKS:
            self._run(CLOCKS[kind], THE_HOUSE, topic, {})
            return
        module, topic_id = self._route(topic)
        store = STORES.get(module.JOIN.loads, "")
        loaded = LOADERS[module.JOIN.loads](self, topic_id, None, THE_HOUSE)
        decision = module.TIMERS[kind](loaded, self.context(THE_HOUSE, topic))
        self._carry_out(decision, THE_HOUSE, store)

    def _carry_out(self, decision: Decision, sender: Identity, store: str) -> None:
        ties = self.book.ties()
        mailroom.require_room(self, decision.changes, sender)  # This alone may refuse, and the next.
        self._post([change for change in decision.changes if isinstance(change, Entry)])
        if decision.state is not None:
            self._keep(store, decision.state.id, decision.state)
        mail = [self._change(change, sender) for change in decision.changes]
        self.follows += [decision.follow] if decision.follow is not None else []
        self.pushed.extend(Push(push.event, as_told(push.payload)) for push in decision.pushes)
        self._require_ties_told(decision.broadcasts, before=ties)
        for broadcast in (*decision.broadcasts, *(letter for letter in mail if letter is not None)):
            self._tell(broadcast, sender)

    def _tell(self, told: Told, sender: Identity) -> None:
        if isinstance(told, Retied):
            self.retied.append(told)
            return
        assert isinstance(told, Broadcast), "a pure decision tells nothing else"
        for listener in self.listeners:
            listener.hear(told, sender)

    def _require_ties_told(self, told: Iterable[Told], *, before: dict[tuple[str, str], Tie]) -> None:
        """The rule of ties: every tie that a decision has changed is told as it is; a scope alone shows nothing."""
        last = {frozenset((one.a_id, one.b_id)): one for one in told if isinstance(one, Retied)}
        for one in last.values():
            assert one.tie == self.book.tie(one.a_id, one.b_id), "a tie is told as it is"
        seen, after = ({two: tie.mirrored for two, tie in ties.items()} for ties in (before, self.book.ties()))
        changed = {frozenset(two) for two in {*seen, *after} if seen.get(two) != after.get(two)}
        assert changed <= last.keys(), "a changed tie is told"

    def _change(self, change: Any, sender: Identity) -> Broadcast | None:
        match change:
            case Entry():
                pass  # It went first.
            case Timer(kind, topic, None):
                self._timers_of(kind).pop((topic, kind), None)
            case Timer(kind, topic, due_at):
                assert due_at is not None, "the case before this one has those"
                self._timers_of(kind)[topic, kind] = due_at
            case Mail():
                return self._deliver(change, sender)
            case Spend(amount):
                self.spent[sender.key_id] += amount
            case Insert(store, id_, state):
                assert id_ not in self.states[store], "a new state has a new id"
                self._keep(store, id_, state)
            case Save(store, id_, before, state):
                assert self.states[store][id_] == before, "a save rests on what is stored"
                self._keep(store, id_, state)
            case StoreChunk() | StoreCheckpoint() | DropStreams() | NoteStep() | DropMessages():
                self._append(change)
            case Outcome():
                self.outcomes.append(change)
            case _:
                message = f"an unknown change: {change!r}"
                raise AssertionError(message)
        return None

    def _append(self, change: StoreChunk | StoreCheckpoint | DropStreams | NoteStep | DropMessages) -> None:
        match change:
            case StoreChunk():
                chunks = self.chunks[change.task_id, change.direction]
                assert change.seq not in chunks, "a chunk is stored once"
                chunks[change.seq] = change.chunk
                self._require_in_order(change, chunks)
            case StoreCheckpoint():
                state = msgspec.json.decode(msgspec.json.encode(change.state))
                self.checkpoints[change.task_id] = Checkpoint(seq=change.seq, state=state)
            case DropStreams(task_id):
                self.checkpoints.pop(task_id, None)
                for direction in ("input", "output"):
                    self.chunks.pop((task_id, direction), None)
            case NoteStep():
                steps = self.steps[change.channel_id]
                assert change.step.number == len(steps) + 1, "steps are appended in order"
                steps.append(change.step)
            case DropMessages():
                mailroom.drop(self, change)

    def _require_in_order(self, change: StoreChunk, chunks: dict[int, bytes]) -> None:
        """What a chunk says that is in order now is so, and the stream's digest is over just that."""
        stream = self.task(change.task_id).input_stream
        if change.direction == "output":
            stream = self.task(change.task_id).output_stream
        digest = NO_CHUNKS
        for seq in range(stream.next_seq):
            digest = next_digest(digest, seq=seq, chunk=chunks[seq])
        assert stream.digest == digest, "the digest is over all before the first missing chunk"
        if change.in_order is None:
            assert change.seq > stream.next_seq, "a chunk ahead is in no order yet"
            return
        first, data = change.in_order
        assert (first, first + len(data)) == (change.seq, stream.next_seq), "the order goes on from the chunk"
        assert data == tuple(chunks[seq] for seq in range(first, stream.next_seq)), "with the bytes that are stored"

    def _keep(self, store: str, id_: str, state: Any) -> None:
        stored = msgspec.json.decode(msgspec.json.encode(state), type=type(state))
        assert stored == state, "a state is read as it was written"
        self.states[store][id_] = stored

    def _post(self, entries: Iterable[Entry]) -> None:
        after = defaultdict(int, self.accounts)
        entries = list(entries)
        for posting in (posting for entry in entries for posting in entry.postings):
            after[posting.account] += posting.amount
            if after[posting.account] < 0 and posting.account != EXTERNAL:
                raise Conflict("insufficient_balance", "There is not enough money there.", account=posting.account)
        self.accounts = after
        self.entries.extend(entries)

    def _deliver(self, mail: Mail, sender: Identity) -> Broadcast:
        message = mailroom.deliver(self, mail, sender)
        self._keep("message", message.id, message)
        timer = (f"messages:{mail.to_agent_id}", MAILBOX)
        self.mailbox_timers[timer] = min(self.mailbox_timers.get(timer, message.expires_at), message.expires_at)
        return announced(message)


def identity_behind(who: Who) -> Identity:
    """What the credential of an agent or a user proves."""
    return who.identity if isinstance(who, Player) else who


def _read(payload: Any, handler: Handler) -> Any:
    """The payload as the handler's struct, read from a binary frame or from JSON as the hub does."""
    if isinstance(payload, bytes):
        assert handler.binary is not None, "it takes no binary frames"
        return handler.binary(payload)
    try:
        return msgspec.json.decode(msgspec.json.encode(payload), type=handler.request)
    except msgspec.ValidationError as error:
        raise Invalid("invalid_payload", str(error)) from error


def _state(store: str) -> Loader:
    return lambda world, topic_id, _request, _sender: world.states[store].get(topic_id)


def _opening(store: str) -> Loader:
    def load(world: World, _topic_id: str, request: Any, sender: Identity) -> Opening:
        pair = (sender.require_agent(), request.provider_agent_id)
        return Opening(
            client=world.agent(pair[0]),
            provider=world.states["agent"].get(pair[1]),
            open_count=world.book.open_count(*pair, store),
            tie=world.book.tie(*pair),
            open_of_all_kinds=world.book.open_count(*pair, "negotiation", "task"),
        )

    return load


def _task_opening(world: World, topic_id: str, request: Any, sender: Identity) -> TaskOpening:
    session: NegotiationSession | None = world.states["negotiation"].get(request.negotiation_session_id)
    is_of_it = session is not None and sender.agent_id in {session.client_agent_id, session.provider_agent_id}
    opening = _opening("task")(world, topic_id, request, sender)
    channel = world.states["payment"].get(request.channel_id)
    return TaskOpening(opening=opening, agreement=session if is_of_it else None, channel=channel)


class StoredStreams:
    """What is stored of a task beside its state."""

    def __init__(self, world: World, task_id: str) -> None:
        self._world = world
        self._task_id = task_id

    def chunk(self, direction: str, seq: int) -> bytes | None:
        """One chunk."""
        return self._world.chunks[self._task_id, direction].get(seq)

    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint."""
        return self._world.checkpoints.get(self._task_id)

    def checksum(self, direction: str, stream: StreamState) -> StreamChecksum:
        """Over the chunks before the first missing one."""
        chunks = self._world.chunks[self._task_id, direction]
        return checksum_of(chunks[seq] for seq in range(stream.next_seq))


def _task_facts(world: World, topic_id: str, _request: Any, _sender: Identity) -> TaskFacts:
    return TaskFacts(task=world.states["task"].get(topic_id), stored=StoredStreams(world, topic_id))


def _channel_opening(world: World, _topic_id: str, request: Any, sender: Identity) -> Opening:
    a_id, b_id = sender.require_agent(), request.counterparty_agent_id
    return Opening(
        client=world.agent(a_id),
        provider=world.states["agent"].get(b_id),
        open_count=world.book.open_count(a_id, b_id, "payment") + world.book.open_count(b_id, a_id, "payment"),
        tie=world.book.tie(a_id, b_id),
        open_of_all_kinds=world.book.open_count(a_id, b_id, "negotiation", "task", "payment"),
    )


def _channel(world: World, topic_id: str, request: Any, _sender: Identity) -> ChannelFacts:
    """The channel, all its used nonces, and the task that a transfer names."""
    channel: PaymentChannel | None = world.states["payment"].get(topic_id)
    used = tuple(step for step in world.steps[topic_id] if step.nonce is not None)
    proposal = None if channel is None else channel.pending_proposal
    task_id = getattr(request, "task_id", None if proposal is None else proposal.task_id) or ""
    return ChannelFacts(channel=channel, used=used, task=world.states["task"].get(task_id))


def _accepting(world: World, topic_id: str, _request: Any, _sender: Identity) -> AcceptanceFacts:
    channel: PaymentChannel | None = world.states["payment"].get(topic_id)
    agents = () if channel is None else (world.agent(channel.agent_a_id), world.agent(channel.agent_b_id))
    return AcceptanceFacts(channel=channel, agents=agents)


LOADERS: dict[str, Loader] = {
    "task": _state("task"),
    "task_facts": _task_facts,
    "task_opening": _task_opening,
    "negotiation": _state("negotiation"),
    "opening": _opening("negotiation"),
    "channel_opening": _channel_opening,
    "payment_accepting": _accepting,
    **{name: _channel for name in STORES if name.startswith("payment") and name != "payment_accepting"},
    **mailroom.LOADERS,
    "contact_asking": lambda world, _topic_id, request, sender: world.book.asking(request, sender),
    "contact_answering": lambda world, _topic_id, request, sender: world.book.answering(request, sender),
    "contact_removing": lambda world, _topic_id, request, sender: world.book.removing(request, sender),
    "blocking": lambda world, _topic_id, request, sender: world.book.named(request, sender),
    "contact_request": _state("contact_request"),
    "contact_pair": lambda world, topic_id, _request, _sender: world.book.of_contact(topic_id),
    "block_pair": lambda world, topic_id, _request, _sender: world.book.of_block(topic_id),
}
"""What the server's loaders of the same names answer."""
