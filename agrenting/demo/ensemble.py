"""The agents of the demo at work: each is started in a process of its own, heard, and dismissed."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from queue import Empty
from typing import Final

import msgspec

from agrenting.demo.agent import Configuration, Told
from agrenting.demo.children import Child, Inbox, Line
from agrenting.demo.desk import Account, DemoFailed, Desk
from agrenting.demo.show import Show
from crypto import format_secret_key

SILENCE_TIMEOUT_S: Final = 60.0


class Stopped(Exception):
    """Somebody asked the demo to stop: Ctrl-C, or a signal that means the same."""


class Ensemble:
    """The children of one demo, and what they say.

    Args:
        show: Where it is shown.
        inbox: What the children say.
        receipts: The folder where agents keep their receipts.
        on_told: Told of everything that an agent tells, once it is shown.
    """

    def __init__(self, show: Show, inbox: Inbox, receipts: Path, on_told: Callable[[Told], None]) -> None:
        self.show = show
        self.is_closing = False
        """It ends by itself by now: whoever asks for that is not heard any more."""
        self.is_quiet = False
        """Too much happens to show every step, unless everything is wanted."""
        self._inbox = inbox
        self._receipts = receipts
        self._on_told = on_told
        self._employed: set[Child] = set()

    def employ(
        self,
        stack: ExitStack,
        desk: Desk,
        account: Account,
        *,
        role: str,
        program: str,
        admits_up_to: int | None = None,
    ) -> Child:
        """Start an agent in a process of its own; its role stands in the arguments for who lists processes.

        Args:
            stack: Ends it, whatever happens.
            desk: The operator's.
            account: Which agent it is.
            role: Its name in the demo.
            program: A module of this package.
            admits_up_to: What it lets whoever asks for contact spend, in minor units; None: its owner decides.
        """
        configuration = Configuration(
            role=role,
            url=desk.url,
            agent_id=account.id,
            api_key=account.api_key,
            secret_key=format_secret_key(account.seed),
            signing_domain=desk.meta["signing_domain"],
            currency=desk.meta["currency"],
            exponent=desk.meta["exponent"],
            owner=account.owner.handle,
            admits_up_to=admits_up_to,
            look_up_price=desk.look_up_price,
            word_price=desk.word_price,
            receipts=str(self._receipts),
            verbose=self.show.verbose,
        )
        words = msgspec.json.encode(configuration).decode()
        child = Child(role, [f"agrenting.demo.{program}", role], self._inbox, f"{words}\n")
        self._employed.add(child)
        stack.callback(child.kill)
        return child

    def dismiss(self, *children: Child) -> None:
        """Ask agents to leave, and listen until they have."""
        for child in children:
            child.terminate()
        while not all(child.has_ended for child in children):
            self.hear()

    def next(self, timeout_s: float) -> Line:
        """The next line of any child.

        Raises:
            DemoFailed: A child has ended that was not asked to, or badly; or nobody said anything.
            Stopped: Somebody asks for it.
        """
        try:
            line = self._inbox.get(timeout=timeout_s)
            while line is None:
                if not self.is_closing:
                    raise Stopped
                line = self._inbox.get(timeout=timeout_s)
        except Empty:
            raise DemoFailed(f"nobody said anything for {timeout_s:.0f} s") from None
        child = line.child
        if line.text is None:
            child.has_ended = True
            if not child.is_asked_to_end or child.fate():
                words = child.testament() if child in self._employed else ""  # The server's are told anyway.
                raise DemoFailed(f"the {child.name} ended early, {child.fate() or 'with nothing done'}{words}")
        return line

    def hear(self) -> Told:
        """What an agent tells next."""
        return self.hear_from()[1]

    def hear_from(self) -> tuple[str, Told]:
        """Show what an agent tells next; its role, and that.

        Raises:
            DemoFailed: It gives up, or as for `next`.
            Stopped: Somebody asks for it.
        """
        line = self.next(SILENCE_TIMEOUT_S)
        name = line.child.name
        if line.text is None:
            return name, Told()
        told = msgspec.json.decode(line.text, type=Told)
        if told.frame:
            self.show.frame(name, told.direction, told.frame)
        self._on_told(told)
        if told.step and (self.show.verbose or not self.is_quiet):
            self.show.step(name, told.step)
        if told.failure:
            raise DemoFailed(f"the {name} gave up: {told.failure}")
        return name, told
