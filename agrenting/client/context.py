"""What the parts of one agent share: its connection, REST, who it is, the market's facts, its signer and its files."""

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from .amounts import Amount, format_amount, parse_amount
from .connection import Connection
from .errors import ClientError, NoSigningKey
from .folder import StateFolder
from .market import MarketFacts, Me
from .rest import RestClient
from .signer import Signer

if TYPE_CHECKING:
    from .mailbox import Mailbox

T = TypeVar("T")


class AgentContext:
    """What the parts of one agent share. They are made with it before the agent is open, and look into it only then.

    Args:
        connection: The agent's socket, which is opened again after every loss.
        rest: The same agent's REST.
    """

    mailbox: "Mailbox"
    """The agent's one mailbox."""

    def __init__(self, connection: Connection, rest: RestClient) -> None:
        self.connection = connection
        self.rest = rest
        self._me: Me | None = None
        self._market: MarketFacts | None = None
        self._folder: StateFolder | None = None
        self._signer: Signer | None = None
        self._group: asyncio.TaskGroup | None = None
        self._background: set[asyncio.Task[Any]] = set()

    def fill(
        self, *, me: Me, market: MarketFacts, folder: StateFolder, signer: Signer | None, group: asyncio.TaskGroup
    ) -> None:
        """The agent is open: who it is, and where."""
        self._me, self._market, self._folder, self._signer, self._group = me, market, folder, signer, group

    @property
    def is_open(self) -> bool:
        """Whether the agent has been opened, and not closed."""
        return self._group is not None

    @property
    def me(self) -> Me:
        """Who the agent is."""
        return _open(self._me)

    @property
    def market(self) -> MarketFacts:
        """What is fixed for the market."""
        return _open(self._market)

    @property
    def folder(self) -> StateFolder:
        """Where the agent keeps what it has signed."""
        return _open(self._folder)

    @property
    def signer(self) -> Signer | None:
        """What signs; None: the agent was given no signing key."""
        _open(self._me)
        return self._signer

    def require_signer(self) -> Signer:
        """What signs.

        Raises:
            NoSigningKey: The agent was given none.
        """
        signer = self.signer
        if signer is None:
            raise NoSigningKey
        return signer

    def amount(self, value: Amount) -> int:
        """An amount in minor units: integers are that already, text is in major units.

        Raises:
            ValueError: The text is no amount, or has more decimals than the currency.
            TypeError: It is neither.
        """
        return parse_amount(value, self.market.exponent)

    def money(self, minor: int) -> str:
        """Minor units for people: `USD 8.50`."""
        return format_amount(minor, currency=self.market.currency, exponent=self.market.exponent)

    def spawn(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run something beside the application until the agent is closed, which cancels it.

        What it raises ends the agent: its `async with` is left with that exception.
        """
        try:
            task = _open(self._group).create_task(coroutine, name=name)
        except (ClientError, RuntimeError) as error:
            coroutine.close()
            raise ClientError(f"the agent is not open, or is being closed: {name} is not done") from error
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def release_folder(self) -> None:
        """The agent is closed, and signs nothing more: another program may pay with its folder."""
        if self._folder is not None:
            self._folder.unlock()

    def cancel_background(self) -> None:
        """The agent is closed: what runs beside the application is cancelled."""
        self._group = None
        for task in self._background:
            task.cancel()


def _open(value: T | None) -> T:
    if value is None:
        raise ClientError("the agent is not open: use it inside `async with`")
    return value
