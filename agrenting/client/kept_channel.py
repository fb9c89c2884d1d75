"""KeptChannel: a payment channel that is read, and kept up over losses.

One task reads the channel's topic; nobody else does. What comes, and what is answered, goes to the channel's keeper,
which checks it and has written down what was signed. Answers and events overtake each other, so an answer that is
behind what was heard meanwhile is passed over; one that is behind what was known before it was asked for is a lie.

Once something does not hold the channel signs nothing more, and says why wherever somebody waits or asks.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import msgspec

from . import asking
from .backoff import NOT_NOW, Attempts
from .channel_record import ENDED, Record
from .channel_states import SignedState
from .errors import CannotSign, ClientError, Disconnected, NoAnswer, RefusedByServer, RolledBack, TopicEnded, telling
from .kept_topic import JOINED, KeptTopic, pause_s

if TYPE_CHECKING:
    from .context import AgentContext

PAGE: Final = 100
"""Signed states that are fetched at once."""

MOVING: Final = ("last_nonce", "deposit_a", "deposit_b")
"""What of a channel never gets less."""

T = TypeVar("T")

Channel = dict[str, Any]

_LOG = logging.getLogger(__name__)


class Keeper(Protocol):
    """What checks and signs: `ChannelKeeper`, or `OfflineKeeper`."""

    channel: Channel

    @property
    def record(self) -> Record:
        """What is written down of the channel."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether no signed states are missing."""
        ...

    def known(self) -> Channel:
        """What a join says is known."""
        ...

    def take(self, snapshot: Channel) -> None:
        """Check a whole channel, and go on from it."""
        ...

    def hear(self, event: str, payload: Channel) -> None:
        """Check an event, and go on from it."""
        ...

    def close_request(self, finals: tuple[int, int] | None = None) -> Channel:
        """Sign an offer to close."""
        ...

    def close(self, request: Channel, finals: tuple[int, int] | None = None) -> Channel:
        """Sign the close that was offered."""
        ...


class KeptChannel:
    """A payment channel that is read. What can be done with it, `LiveChannel` and those below it add.

    Args:
        context: The agent's.
        channel_id: Which channel.
        keeper: Checks and signs in it.
    """

    def __init__(self, context: "AgentContext", channel_id: str, keeper: Keeper) -> None:
        self.id = channel_id
        self._context = context
        self._checks = keeper
        self._topic = KeptTopic(context.connection, f"payment:{channel_id}", lambda: {"known": keeper.known()})
        self._news = asyncio.Event()
        """Set, and replaced, whenever something has changed."""
        self._failure: BaseException | None = None
        self._acting = asyncio.Lock()
        """Held by who signs: one thing at a time."""
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    @property
    def channel(self) -> Channel:
        """The whole channel, as it was last told and checked: the fields stand in PROTOCOL.md."""
        return self._checks.channel

    @property
    def status(self) -> str:
        """`pending`, `open`, `closing`, `disputed`, `closed`, `declined` or `expired`."""
        return str(self.channel["status"])

    @property
    def is_over(self) -> bool:
        """Whether it has ended: nothing moves any more."""
        return self.status in ENDED

    @property
    def is_state_lost(self) -> bool:
        """Whether the server has lost signed states, so that only a joint close, or an operator, can end it."""
        return self.channel["state_lost"] is not None

    @property
    def failure(self) -> BaseException | None:
        """Why nothing is signed any more; None: all is well."""
        return self._failure

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something holds, such as `lambda: channel.status == "open"`: it is asked after each change.

        Raises:
            LyingServer, BrokenRecord, RefusedByServer, Disconnected: Nothing more is heard of the channel.
        """
        while not is_so():
            self._require_sound()
            await self._news.wait()

    # Beginning and reading.

    async def start(self) -> None:
        """Join it and begin to read: `Paying` does so.

        Raises:
            LyingServer, CannotSign, BrokenRecord: As for `ChannelKeeper.take`.
            RefusedByServer: `not_found` and more.
            Disconnected: The connection is closed.
        """
        try:
            joined = await self._topic.join()
            with telling("the payment channel"):
                await self._take(joined)
            for name, chore in (("reader", self._read), ("answers", self._answer)):
                self._spawn(name, chore)
        except BaseException:
            await self.stop()
            raise

    def when_ended(self, tell: Callable[[], None]) -> None:
        """Have it told once the channel, which was begun, has ended and is not read any more: `Paying` forgets it."""
        self._tasks[0].add_done_callback(lambda _reader: tell() if self.is_over else None)

    async def stop(self) -> None:
        """Read no more; whoever waits hears `Disconnected`."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._topic.leave()

    def _spawn(self, name: str, chore: Callable[[], Awaitable[None]]) -> None:
        kept = self._kept(chore)
        try:
            task = self._context.spawn(kept, f"payment channel {self.id}: {name}")
        except BaseException:
            kept.close()  # The agent has been closed meanwhile: it never begins.
            raise
        self._tasks = (*self._tasks, task)

    async def _kept(self, chore: Callable[[], Awaitable[None]]) -> None:
        """Do a chore until the channel has ended; what ends it before is told to all."""
        try:
            with telling("the payment channel"):
                await chore()
        except (ClientError, OSError) as error:
            self._fail(error)
        except BaseException:
            self._fail(Disconnected("the payment channel is not read any more"))
            raise

    async def _read(self) -> None:
        while not self.is_over:
            event, payload = await self._topic.next_event()
            if event == JOINED:
                await self._hear_joined(payload)
            else:
                await self._hear(event, payload)
            self._tell()
        await self._topic.leave()

    async def _answer(self) -> None:
        """Answer what the other party offers, one thing after another. What cannot be answered just now is later."""
        attempts = Attempts(self._context.connection.backoff)
        while not self.is_over:
            self._require_sound()
            news = self._news
            attempts.began()
            try:
                if not await self._do_chore():
                    await news.wait()
            except (NoAnswer, RefusedByServer) as error:
                if isinstance(error, RefusedByServer) and error.reason not in NOT_NOW:
                    raise
                _LOG.info("payment channel %s: %s", self.id, error)
                await asyncio.sleep(pause_s(attempts, error))
                await self._look_again()  # What still waits is answered again.

    async def _do_chore(self) -> bool:
        """Answer one thing that the other party waits for; whether there was one.

        It must not wait for who is signing: that one may wait for this very answer.
        """
        raise NotImplementedError

    async def _hear(self, event: str, payload: Channel) -> None:
        if _is_ahead(event, payload, self.channel):
            await self._look_again()  # What it follows is in an answer that is not read yet; or else it is a lie.
        try:
            self._checks.hear(event, payload)
        except CannotSign:
            await self._look_again()  # Signed states are missing.

    async def _hear_joined(self, state: Channel) -> None:
        """The state at a new join. It has been queued: answers that came after it may have been taken before."""
        if _is_behind(state, self.channel):
            await self._look_again()
        else:
            await self._take(state)

    async def _look_again(self) -> None:
        before = self.channel
        told = await self._asked("", Channel)
        await self._settle(told, before)

    async def _settle(self, told: Channel, before: Channel) -> None:
        """Take an answer, unless what was heard since it was asked for is newer.

        Nonces and deposits tell that, and an end. Where they do not, as with a dispute, it is asked for once more.
        """
        while not _is_behind(told, before):
            known = self.channel
            if self.is_over or _is_behind(told, known):
                self._tell()
                return
            if known is before or _is_behind(known, told) or _is_same(told, known):
                break
            before, told = known, await self._asked("", Channel)
        await self._take(told)
        self._tell()

    async def _take(self, told: Channel) -> None:
        """Take a whole channel, and fetch signed states that it lacks."""
        try:
            self._checks.take(told)
        except CannotSign:
            if "missing_transfers" in told:
                raise
            await self._take_missing(told)
        while not self._checks.is_whole and not self.is_state_lost:
            await self._take_missing(told)

    async def _take_missing(self, told: Channel) -> None:
        after: int = self._checks.known()["nonce"]
        last = told["last_transfer"]["nonce"]
        states = await self._asked("/transfers", list[SignedState], after=after, limit=PAGE)
        page = [msgspec.to_builtins(state) for state in states if state.nonce <= last]
        is_last = not page or page[-1]["nonce"] == last
        if _is_behind(told, self.channel):
            return  # What was heard meanwhile is newer, and was whole.
        missing_after = None if is_last else page[-1]["nonce"]
        self._checks.take({**told, "missing_transfers": page, "missing_after": missing_after})
        if not self._checks.is_whole and self._checks.known()["nonce"] == after:
            raise RolledBack(f"the server keeps the signed states after nonce {after} back", expected=last, told=after)

    # Asking, waiting and telling.

    async def _asked(self, what: str, kind: type[T], **query: int) -> T:
        """What REST tells of the channel, once it can: without it nothing goes on, and nothing is wrong.

        Raises:
            RefusedByServer: For more than now.
        """
        attempts = Attempts(self._context.connection.backoff)
        while True:
            attempts.began()
            try:
                return await asking.get(self._context, f"/payment-channels/{self.id}{what}", kind, **query)
            except RefusedByServer as refusal:
                if refusal.reason not in NOT_NOW:
                    raise
                _LOG.warning("payment channel %s cannot be looked at just now: %s", self.id, refusal)
                pause = pause_s(attempts, refusal)
            await asyncio.sleep(pause)

    async def _push(self, event: str, payload: Channel) -> Channel:
        """Push an event, also after losses, and take the reply.

        Raises:
            CannotSign: The channel has ended meanwhile.
        """
        self._require_sound()
        before = self.channel
        try:
            reply: Channel = await self._topic.push(event, payload)
        except TopicEnded:
            if not self.is_over:
                raise
            raise CannotSign(f"the channel is {self.status}") from None
        return await self._taken(reply, before)

    async def _post(self, what: str, body: Channel | None = None) -> Channel:
        """Do something by REST, once, and take the answer."""
        self._require_sound()
        before, path = self.channel, f"/payment-channels/{self.id}/{what}"
        reply = await asking.post(self._context, path, body or {}, Channel, key=uuid.uuid4().hex)
        return await self._taken(reply, before)

    async def _taken(self, reply: Channel, before: Channel) -> Channel:
        try:
            with telling("the payment channel"):
                await self._settle(reply, before)
        except ClientError as error:
            self._fail(error)
            raise
        return reply

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _fail(self, error: BaseException) -> None:
        if self._failure is None and not (self.channel and self.is_over):
            self._failure = error
            if not isinstance(error, Disconnected):
                _LOG.error("payment channel %s is stopped, nothing more is signed in it: %s", self.id, error)
        self._tell()

    def _require_sound(self) -> None:
        if self._failure is not None:
            raise self._failure


def _is_ahead(event: str, payload: Channel, known: Channel) -> bool:
    """Whether an event is of a nonce that cannot come yet, by what is known."""
    nonce = payload.get("nonce")
    expected = known["last_nonce"] + (event != "close_request")  # An offer to close names the last one.
    return "channel" not in payload and isinstance(nonce, int) and nonce > expected


def _is_same(told: Channel, known: Channel) -> bool:
    """Whether an answer says what is known already."""
    return all(told.get(name) == value for name, value in known.items())


def _is_behind(told: Channel, known: Channel) -> bool:
    """Whether something of a channel is less than it was. What is no channel at all is not: its keeper refuses it."""
    if told.get("state_lost") is not None:
        return False
    for name in MOVING:
        now, then = told.get(name), known.get(name)
        if isinstance(now, int) and isinstance(then, int) and now < then:
            return True
    return False
