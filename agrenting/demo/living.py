"""The market after the story: agents of several owners trade until somebody asks for the end.

Shoppers have their errands done, workers do them (shopper.py, worker.py), each in a process of its own. The operator
gives money to whoever runs low, and one owner leaves most requests for contact to whoever logs in at the page.
"""

import time
from collections import Counter
from contextlib import ExitStack
from typing import Any, Final

import msgspec

from agrenting.demo.agent import Told
from agrenting.demo.children import Child
from agrenting.demo.desk import Account, DemoFailed, Desk, Owner
from agrenting.demo.ensemble import Ensemble, Stopped
from agrenting.demo.payments import LOOK_UP
from agrenting.demo.trading import COUNT_WORDS, TRANSLATE, share
from agrenting.demo.worker import ADMITTED

DEPOSIT, ADMITS = 100, 40
"""In whole units of the currency: what a shopper gets at once, and what a worker lets a new contact go up to."""

REPORT_S: Final = 30.0
"""How often the market says that it lives."""

ADMITTED_AT_ONCE: Final = 1
"""How many requests the owner who leaves them to a person answers itself, so that there is something to see."""


class Role(msgspec.Struct, frozen=True):
    """An agent of the living market.

    Args:
        owner: Its owner's handle.
        name: Its own.
        program: `shopper` or `worker`.
        prices: Of translating and counting, in hundredths of a whole unit; a worker has them.
        is_open: Whether a policy of its own admits whoever asks; otherwise its owner decides.
    """

    owner: str
    name: str
    program: str
    prices: tuple[int, int] = (0, 0)
    is_open: bool = True


ROLES: Final = (
    Role("dora", "Interpreter", "worker", (900, 110), is_open=False),
    Role("emil", "Wordsmith", "worker", (750, 90)),
    Role("fay", "Polyglot", "worker", (1_050, 130)),
    Role("gina", "Scribe", "worker", (680, 70)),
    Role("hugo", "Lexicon", "worker", (820, 100)),
    Role("dora", "Editor", "shopper"),
    Role("fay", "Reader", "shopper"),
    Role("iris", "Publisher", "shopper"),
    Role("jan", "Collector", "shopper"),
)
"""Who trades. The first one's owner is the login that is shown."""


class LivingMarket:
    """A market that lives.

    Args:
        ensemble: What starts and hears its agents.
        desk: The operator's.
        suffix: Goes behind the owners' names.
    """

    def __init__(self, ensemble: Ensemble, desk: Desk, suffix: str) -> None:
        self.deals_done = 0
        """Errands that came to their end, and were paid."""
        self._ensemble = ensemble
        self._desk = desk
        self._suffix = suffix
        self.accounts: dict[str, Account] = {}
        """Who trades, by handle."""
        self._owners: dict[str, Owner] = {}
        self._outcomes: Counter[str] = Counter()
        self._is_admitted = 0
        self._reported = time.monotonic()

    def run(self, stack: ExitStack) -> None:
        """Trade until somebody asks for the end; then all money is back where it belongs.

        Raises:
            DemoFailed: An agent has given up, or money is still held.
        """
        ensemble = self._ensemble
        shoppers: list[Child] = []
        workers: list[Child] = []
        ensemble.is_quiet = True
        ensemble.is_closing = False
        try:
            self._enrol()
            workers += self._employ(stack, "worker")
            shoppers += self._employ(stack, "shopper")
            self._invite()
            while True:
                self.take(*ensemble.hear_from())
                self.report()
        except Stopped:
            ensemble.show.text("")
            ensemble.show.step("market", "closes once the deals at hand are done")
        ensemble.is_closing = True
        self._dismiss(shoppers)
        self._dismiss(workers)
        self.require_balance()

    # People and processes.

    def _enrol(self) -> None:
        """Make owners and agents; shoppers get money."""
        desk, show = self._desk, self._ensemble.show
        for role in ROLES:
            if role.owner not in self._owners:
                self._owners[role.owner] = desk.welcome(f"{role.owner}{self._suffix}")
            account = desk.register(self._owners[role.owner], role.name, **self._offered(role))
            self.accounts[account.handle] = account
            if role.program == "shopper":
                desk.deposit(account, DEPOSIT * desk.unit)
        owners = ", ".join(owner.handle for owner in self._owners.values())
        show.title("The market lives on")
        show.step("market", f"has {len(ROLES)} more agents of {len(self._owners)} owners: {owners}")

    def _offered(self, role: Role) -> dict[str, Any]:
        if role.program == "shopper":
            return {}
        names = zip((TRANSLATE, COUNT_WORDS), role.prices, strict=True)
        priced = [{"name": name, "price": share(self._desk.unit, price)} for name, price in names]
        return {"capabilities": [*priced, {"name": LOOK_UP, "price": 0}], "tags": ["language"]}

    def _employ(self, stack: ExitStack, program: str) -> list[Child]:
        """Start those who run a program, and wait until they are there."""
        limit = ADMITS * self._desk.unit
        accounts = [*self.accounts.values()]
        children = [
            self._ensemble.employ(
                stack,
                self._desk,
                account,
                role=account.handle,
                program=program,
                admits_up_to=limit if role.is_open else None,
            )
            for role, account in zip(ROLES, accounts, strict=True)
            if role.program == program
        ]
        ready = 0
        while ready < len(children):
            ready += self.take(*self._ensemble.hear_from()).is_ready
        return children

    def _invite(self) -> None:
        """Say where the market can be watched, and as whom."""
        owner, show = self._owners[ROLES[0].owner], self._ensemble.show
        show.listing(
            "The market is alive until Ctrl-C. Look at it in a browser, and log in with one of the keys:",
            [
                ("page", f"{self._desk.url}/"),
                (owner.handle, f"{owner.api_key}  (an owner, whose agent is asked for contact)"),
                ("operator", f"{self._desk.key}  (sees the whole market)"),
            ],
        )

    def _dismiss(self, children: list[Child]) -> None:
        for child in children:
            child.terminate()
        while not all(child.has_ended for child in children):
            self.take(*self._ensemble.hear_from())

    # What happens.

    def take(self, handle: str, told: Told) -> Told:
        """Count what an agent tells, and do what it asks for."""
        if told.outcome:
            self._outcomes[told.outcome] += 1
        self.deals_done += told.outcome == "done"
        if told.is_low:
            self._desk.deposit(self.accounts[handle], DEPOSIT * self._desk.unit)
        if told.left_to_owner and self._is_admitted < ADMITTED_AT_ONCE:
            self._is_admitted += 1
            limit = ADMITS * self._desk.unit
            self.accounts[handle].owner.approve(told.left_to_owner, kinds=ADMITTED, max_price=limit)
        return told

    def report(self) -> None:
        """Say now and then that the market lives, and where."""
        if time.monotonic() - self._reported < REPORT_S:
            return
        self._reported = time.monotonic()
        outcomes = ", ".join(f"{count} {name}" for name, count in self._outcomes.most_common())
        self._ensemble.show.step("market", f"lives at {self._desk.url}/: {outcomes}")

    def require_balance(self) -> None:
        """Refuse an end at which money is not with its owners.

        Raises:
            DemoFailed: Something is held, or the books do not sum to nothing.
        """
        desk = self._desk
        amounts = desk.ledger(*self.accounts.values())
        self._ensemble.show.table(
            "The ledger at the end", [(name, desk.money(amount)) for name, amount in amounts.items()]
        )
        wrong = [
            f"{name}: {amounts[name]}"
            for name in ("held in tasks", "locked in channels", "sum over all accounts")
            if amounts[name] != 0
        ]
        if wrong:
            raise DemoFailed(f"the books do not balance, in minor units: {'; '.join(wrong)}")
