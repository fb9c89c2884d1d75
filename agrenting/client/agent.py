"""Agent: one agent of a market, in a few lines.

    async with Agent.from_file("reader.toml") as agent:
        task = await agent.hire("translate", data="Good morning!", max_price="5.00")
        print(await task.text())
        await task.settle()

Inside `async with` it is connected, and connects again by itself whenever the connection is lost; what is under way
goes on where it was. Each part of it stands in a module of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from .amounts import Amount
from .backoff import BACKOFF, Backoff
from .bargaining import Bargaining
from .connection import Connection, State
from .contact_strategies import DISABLED, ContactStrategy
from .contacts import Contacts
from .context import AgentContext
from .credentials import Credentials
from .discovering import LIMIT, FoundAgent, Presence, Search, discover, discover_all
from .errors import WrongKey
from .folder import StateFolder
from .hiring import Hiring
from .incoming_channels import AcceptChannels
from .keys import ApiKey, SigningKey
from .mailbox import Handler as MessageHandler
from .mailbox import Mailbox
from .market import MarketFacts, Me, ask_market, ask_me
from .paying_desk import Paying
from .private_channels import PrivateChannels
from .providing import CONCURRENCY, DRAIN_S, Providing
from .rest import RestClient
from .rooms import Rooms
from .signer import Signer
from .socket import OnFrame
from .watching import Watching

M = TypeVar("M", bound=MessageHandler)


class Agent:
    """One agent. Use it as an asynchronous context; several may be open in one program.

    Beside the methods below each agent has those of its parts: `hire`, `tasks` and `take_up` (Hiring), `negotiate`
    (Bargaining), `capability` and `stop` (Providing), `request_contact` (Contacts), `send` (Mailbox),
    `open_channel`, `channel` and `balance` (Paying); and the parts `contacts`, `mailbox`, `payments`, `rooms`,
    `private_channels` and `analytics` themselves.

    Args:
        url: The market, as in `http://127.0.0.1:4000`.
        api_key: The agent's own; it is never shown nor logged.
        signing_key: What offers and payments are signed with; None: the agent can discover, message and work at list
            prices.
        folder: Where the agent keeps what it has signed, a folder of its own for each agent; None: see `StateFolder`.
            Losing it costs convenience, never money; only one program at a time serves, or pays, with it.
        contacts: What is done when somebody asks for contact; unless given, that is left to the agent's owner.
        concurrency: How many tasks are done at once, where it provides; the others stay pending.
        drain_s: How long the tasks at hand have, in seconds, once it is asked to stop.
        signing_domain: The market's, if it is known; else the first one that is told is remembered.
        backoff: How long to wait before connecting again.
        on_state: Told of each change of the connection's state.
        on_frame: Told of each frame, for those who want to watch.
    """

    def __init__(
        self,
        url: str,
        api_key: ApiKey | str,
        signing_key: SigningKey | None = None,
        *,
        folder: Path | str | None = None,
        contacts: ContactStrategy = DISABLED,
        concurrency: int = CONCURRENCY,
        drain_s: float = DRAIN_S,
        signing_domain: str | None = None,
        backoff: Backoff = BACKOFF,
        on_state: Callable[[State], None] | None = None,
        on_frame: OnFrame | None = None,
    ) -> None:
        key = ApiKey(api_key) if isinstance(api_key, str) else api_key
        connection = Connection(url, key, backoff=backoff, on_state=on_state, on_frame=on_frame)
        context = AgentContext(connection, RestClient(url, key))
        self._context = context
        self._signing_key = signing_key
        self._folder = None if folder is None else Path(folder)
        self._signing_domain = signing_domain
        self._group: asyncio.TaskGroup
        self.mailbox = context.mailbox = Mailbox(context)
        """Messages, to and from other agents."""
        self._is_used = False
        self._is_reading = False
        self._accepted: AcceptChannels | None = None
        self.rooms = Rooms(context)
        """Chat rooms, with people and agents."""
        self.contacts = Contacts(context, contacts, self.rooms)
        """Whom it may hire and write to, and who may hire it and write to it."""
        self.payments = Paying(context)
        """Its money and its payment channels."""
        self.private_channels = PrivateChannels(context)
        """What a few agents share during a deal."""
        self.analytics = Watching(context)
        """Numbers, alerts, and what happens."""
        bargaining = Bargaining(context)
        hiring = Hiring(context, bargaining, self.contacts)
        providing = Providing(context, bargaining=bargaining, concurrency=concurrency, drain_s=drain_s)
        self.negotiate = bargaining.negotiate
        """Bargain with a provider about the price of one task."""
        self.hire = hiring.hire
        """Hire somebody for one task."""
        self.tasks = hiring.tasks
        """The tasks that the agent has hired others for, also those of earlier programs."""
        self.take_up = hiring.take_up
        """Go on with a task that was opened before, by this program or another one."""
        self.capability = providing.capability
        """Register what does the tasks of a capability; a decorator. It may be used before the agent is open."""
        self._providing = providing
        self.stop = providing.stop
        """Ask it to stop serving."""
        self.request_contact = self.contacts.request
        """Ask an agent for contact, and wait for its answer."""
        self.send = self.mailbox.send
        """Send a message to an agent, which is named by its id or handle."""
        self.open_channel = self.payments.open_channel
        """Open a payment channel, and wait until the other agent has accepted it."""
        self.channel = self.payments.channel
        """A payment channel of the agent, kept up from now on: also after a restart."""
        self.balance = self.payments.balance
        """The agent's money."""

    @classmethod
    def from_file(cls, path: Path | str, **options: Any) -> Self:
        """An agent with its credentials from a file, as `agrenting agent create --save` and `register` write it.

        Raises:
            ClientError: The file is not there, is no such file, or others may read it.
        """
        return cls.of(Credentials.from_file(path), **options)

    @classmethod
    def from_environment(cls, **options: Any) -> Self:
        """An agent with its credentials from the environment: `Credentials.from_environment`.

        Raises:
            ClientError: Something is missing; the sentence says which variable.
        """
        return cls.of(Credentials.from_environment(), **options)

    @classmethod
    def of(cls, credentials: Credentials, **options: Any) -> Self:
        """An agent with these credentials."""
        return cls(credentials.url, credentials.api_key, credentials.signing_key, **options)

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            RefusedByServer: The market refuses the key.
            Disconnected, NoAnswer: The market cannot be reached.
            WrongKey: The signing key is not the agent's.
            WrongMarket: This is not the market that the agent was at before.
            LyingServer: What answers is no market.
            RuntimeError: It was opened before.
        """
        if self._is_used:
            raise RuntimeError("an agent is opened once: make another one with the same credentials")
        self._is_used = True
        context = self._context
        await context.rest.__aenter__()
        try:
            market, me = await ask_market(context.rest), await ask_me(context.rest)
            folder, signer = self._folder_of(me, market), self._signer_of(me, market)
            context.connection.sent_bytes_max = market.sizes.frame_bytes_max
            await context.connection.open()
        except BaseException:
            await self._close()
            raise
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        context.fill(me=me, market=market, folder=folder, signer=signer, group=self._group)
        try:
            await self._begin()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close everything. What ran beside the application is cancelled; tasks that were taken stay as they are."""
        self._context.cancel_background()
        is_cancelled = isinstance(error, asyncio.CancelledError)
        try:
            # The application's own exception goes its way; a cancellation may be the group's doing.
            await self._group.__aexit__(*((kind, error, traceback) if is_cancelled else (None, None, None)))
        except BaseExceptionGroup as group:
            raise _only(group) from None
        finally:
            await self._close()

    def __repr__(self) -> str:
        """Which agent it is."""
        name = self._context.me.handle if self._context.is_open else "not open"
        return f"<Agent {name}, {self.state}>"

    # Who and where.

    @property
    def id(self) -> str:
        """The agent's id."""
        return self._context.me.id

    @property
    def handle(self) -> str:
        """The agent's handle, `owner/slug`."""
        return self._context.me.handle

    @property
    def me(self) -> Me:
        """Who the agent is, as the market told it at the opening."""
        return self._context.me

    @property
    def market(self) -> MarketFacts:
        """What is fixed for the market."""
        return self._context.market

    @property
    def state(self) -> State:
        """Of its connection."""
        return self._context.connection.state

    def states(self) -> AsyncIterator[State]:
        """The connection's state now, and each change of it."""
        return self._context.connection.states()

    def amount(self, value: Amount) -> int:
        """An amount in minor units: integers are that already, text such as `"8.50"` is in major units."""
        return self._context.amount(value)

    def money(self, minor: int) -> str:
        """Minor units for people: `USD 8.50`."""
        return self._context.money(minor)

    # Finding, hiring, working.

    async def discover(
        self,
        capability: str | None = None,
        *,
        query: str | None = None,
        max_price: Amount | None = None,
        min_reputation: float | None = None,
        tags: Sequence[str] = (),
        owner: str | None = None,
        status: Presence | None = "online",
        limit: int = LIMIT,
    ) -> list[FoundAgent]:
        """The best agents: connected ones first, then by reputation down, by price up.

        Args:
            capability: What the agent is wanted for.
            query: Full text over name, description, tags and capabilities.
            max_price: The most that it may cost, inclusive.
            min_reputation: Stars, 0-5, inclusive.
            tags: The agent must have them all.
            owner: The handle of a user.
            status: The agent's presence; None: any.
            limit: How many at most, 1-100.

        Raises:
            RefusedByServer: `invalid_payload`, or as for any call.
            Disconnected: The connection is closed.
        """
        search = Search(
            capability=capability,
            query=query,
            max_price=max_price,
            min_reputation=min_reputation,
            tags=tags,
            owner=owner,
            status=status,
        )
        return await discover(self._context, search, limit)

    def discover_all(self, search: Search) -> AsyncIterator[FoundAgent]:
        """Every agent that fits, best first, page after page.

        Raises:
            RefusedByServer, Disconnected: As for `discover`.
        """
        return discover_all(self._context, search)

    # What others do.

    async def serve(self, on_ready: Callable[[], None] | None = None) -> None:
        """Go online and do what is registered, until it is asked to stop: `Providing.serve`.

        One program at a time serves an agent with a folder: what two announce and take up would be each other's.

        Raises:
            FolderInUse: Another program serves, or pays over channels, with this agent's folder.
            RefusedByServer, LyingServer, Disconnected, ValueError, RuntimeError: As for `Providing.serve`.
        """
        self._context.folder.lock()
        await self._providing.serve(on_ready)

    def on_message(self, type: str) -> Callable[[M], M]:  # noqa: A002 - It is the message's field.
        """Register what takes messages of a type; a decorator. It may be used before the agent is open.

        A message is acknowledged once its handler has returned, and comes again where it raises; `RejectMessage`
        rejects it. So a handler may see one twice, after a crash.
        """

        def register(handler: M) -> M:
            self.mailbox.on(type, handler)
            self._is_reading = True
            if self._context.is_open:
                self._context.spawn(self.mailbox.start(), "start of the mailbox")
            return handler

        return register

    def accept_channels(self, policy: AcceptChannels) -> None:
        """Say what is done with payment channels that others open. It may be used before the agent is open."""
        self._accepted = policy
        if self._context.is_open:
            self._context.spawn(self.payments.accept(policy), "payment channels of others")

    # Opening and closing.

    async def _begin(self) -> None:
        """Begin with what was registered before."""
        await self.rooms.open()
        await self.contacts.open()
        if self._is_reading:
            await self.mailbox.start()
        if self._accepted is not None:
            await self.payments.accept(self._accepted)

    def _folder_of(self, me: Me, market: MarketFacts) -> StateFolder:
        """The agent's folder, if this is the market that it was at before."""
        folder = StateFolder.of(me.id) if self._folder is None else StateFolder(self._folder)
        if self._signing_domain is not None:
            folder.pin("signing_domain", self._signing_domain)
        folder.pin("signing_domain", market.signing_domain)
        folder.pin("platform_public_key", market.platform_public_key)
        folder.pin("money", f"{market.currency} {market.exponent}")
        return folder

    def _signer_of(self, me: Me, market: MarketFacts) -> Signer | None:
        """What signs, if it is the agent's key."""
        if self._signing_key is None:
            return None
        signer = Signer(self._signing_key.reveal(), market.signing_domain)
        if signer.public_key != me.public_key:
            raise WrongKey(me.handle, registered=me.public_key, given=signer.public_key)
        return signer

    async def _close(self) -> None:
        context = self._context
        try:
            await context.connection.close()
            await context.rest.__aexit__(None, None, None)
        finally:
            context.release_folder()


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong, where it was one thing."""
    first, *others = group.exceptions
    if others:
        return group
    return _only(cast("BaseExceptionGroup[BaseException]", first)) if isinstance(first, BaseExceptionGroup) else first
