"""Rails: how money comes in from outside and goes out. The built-in one is an operator's own hands."""

from datetime import datetime
from typing import Final, Protocol

from agrenting import registry
from agrenting.db.transaction import WriterTx
from channels.agents import Agent


class Rail(Protocol):
    """A way for money between an agent's account here and the world outside.

    Both methods run inside the transaction that books the movement, and are called once for each: what they do
    outside must be possible to take back, or be done already, for the transaction can still fail.
    """

    name: str

    def deposit(self, tx: WriterTx, agent: Agent, amount: int, *, memo: str, now: datetime) -> int:
        """Book money that came in; what the agent has available then. Amounts are minor units.

        Raises:
            Invalid: `invalid_amount`: less than 1.
            Conflict: `money_limit`.
        """
        ...

    def payout(self, tx: WriterTx, agent: Agent, amount: int, *, memo: str, now: datetime) -> int:
        """Book money that goes out; what the agent has available then. Amounts are minor units.

        Raises:
            Invalid: `invalid_amount`: less than 1.
            Conflict: `insufficient_balance`.
        """
        ...


class ManualRail:
    """The operator moves the money outside by hand, and says so here."""

    name = "manual"

    def deposit(self, tx: WriterTx, agent: Agent, amount: int, *, memo: str, now: datetime) -> int:
        """Book what the operator has received."""
        return registry.deposit(tx, agent, amount, memo=memo, now=now)

    def payout(self, tx: WriterTx, agent: Agent, amount: int, *, memo: str, now: datetime) -> int:
        """Book what the operator has paid."""
        return registry.payout(tx, agent, amount, memo=memo, now=now)


MANUAL: Final[Rail] = ManualRail()
"""The built-in rail."""
