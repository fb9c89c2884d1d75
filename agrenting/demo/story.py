"""The demo's parent: it starts a server and three agents, shows what they do, and looks at the books.

It uses what anybody could: the command line, REST with the operator's and the owners' keys, and the agents' own public
interfaces.
"""

import json
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Final

import msgspec

from agrenting.config import Settings
from agrenting.demo.agent import Configuration, Deal, Told
from agrenting.demo.children import Child, Inbox, Line, environment
from agrenting.demo.consent import KINDS
from agrenting.demo.desk import Account, DemoFailed, Desk
from agrenting.demo.show import Show
from crypto import format_public_key, format_secret_key, public_key_of

START_TIMEOUT_S: Final = 60.0
SILENCE_TIMEOUT_S: Final = 60.0
INTERRUPTED: Final = 130
LIST_PRICE, DEPOSIT, LOW = 10, 30, 15
"""In whole units of the currency: what the provider asks, what the client gets, and below what it gets more."""

RIVALS_PRICE, RIVALS_LIMIT, OWNERS_LIMIT = 9, 5, 15
"""Likewise: what the rival asks, and up to what its policy, and the provider's owner, let a new contact go."""

PROGRAMS: Final = {"client": "client", "provider": "provider", "rival": "provider"}
"""What the agents of each role run."""

ROLES: Final = ("client", "provider")
"""Who keeps receipts."""

STRANGERS_MESSAGE: Final = "Just trust me."
OPERATOR_KEY: Final = re.compile(r"operator's key.*: (\S+)$")
LISTENING: Final = re.compile(r"listening on (http://\S+)$")


class Stopped(Exception):
    """Somebody asked the demo to stop: Ctrl-C, or a signal that means the same."""


class Cast(msgspec.Struct, frozen=True, kw_only=True):
    """Who takes part: each agent has another owner, and all are strangers.

    Args:
        client: Looks for a translator.
        provider: Leaves it to its owner who may hire it. It gets the job.
        rival: Is cheaper, and lets others hire it by a policy that is too narrow for the job.
        stranger: Whom the provider's owner does not want.
    """

    client: Account
    provider: Account
    rival: Account
    stranger: Account


class Demo:
    """One run of the story.

    Args:
        folder: The server's data folder.
        show: Where it is shown.
        inbox: What the children say.
        is_new: Nothing lies in the folder yet.
        once: End after one deal.
    """

    def __init__(self, folder: Path, show: Show, inbox: Inbox, *, is_new: bool, once: bool) -> None:
        self.folder = folder
        self.show = show
        self.inbox = inbox
        self.once = once
        self.deals: list[Deal] = []
        self._unverified: list[Deal] = []
        self._receipts: dict[str, list[str]] = {}
        self._suffix = "" if is_new else f"-{secrets.token_hex(4)}"
        self._deposited = 0
        self._begun = 0
        self._is_closing = False

    def run(self) -> None:
        """The whole story.

        Raises:
            DemoFailed: It did not come to its end.
            Stopped: Somebody asked for it before it had begun, or before its only deal was done.
        """
        self._receipts_folder.mkdir(parents=True, exist_ok=True)
        arguments = ["agrenting", "serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", str(self.folder)]
        with ExitStack() as stack:
            server = Child("server", arguments, self.inbox)
            stack.callback(server.stop)
            try:
                self._tell_story(stack)
            except DemoFailed as failure:
                raise DemoFailed(f"{failure}\n{server.obituary()}") from failure
        if server.fate():
            raise DemoFailed(f"the server did not stop cleanly: {server.fate()}\n{server.obituary()}")
        self._examine()

    @property
    def _receipts_folder(self) -> Path:
        return self.folder / "receipts"

    def _tell_story(self, stack: ExitStack) -> None:
        desk = stack.enter_context(self._open())
        cast = self._enrol(desk)
        client, provider = cast.client, cast.provider
        before = self._ledger("The ledger before", desk, client, provider)
        self.show.title("Consent: they are strangers, and ask first")
        offering = [
            self._employ(stack, desk, "provider", provider),
            self._employ(stack, desk, "rival", cast.rival, admits_up_to=RIVALS_LIMIT * desk.unit),
        ]
        for _ in offering:
            while not self._hear().is_ready:
                pass
        self._keep_out(cast.stranger, provider)
        hiring = self._employ(stack, desk, "client", client)
        self._let_in(desk, client, provider)
        keys = _key_options(desk, client, provider)
        try:
            while not (self.once and self.deals and not self._unverified):
                if self._hear().deal is not None:
                    self._top_up(desk, client)
                self._verify(keys)
        except Stopped:
            if self.once:
                raise
            self.show.text("")
            self.show.step("market", "closes once the deal at hand is done")
        self._is_closing = True
        self._dismiss(hiring)
        self._verify(keys)
        while self._unverified:
            self._hear()
            self._verify(keys)
        for child in offering:
            self._dismiss(child)
        after = self._ledger("The ledger after", desk, client, provider)
        self._require_balance(before, after, client, provider)

    # People and processes.

    def _open(self) -> Desk:
        """Wait until the server listens, and sit down at the operator's desk."""
        key = url = ""
        while not url:
            text = self._next(START_TIMEOUT_S).text or ""
            shown, listening = OPERATOR_KEY.search(text), LISTENING.match(text)
            key = shown[1] if shown else key
            url = listening[1] if listening else ""
        if not key:
            key = self._command("user", "create", f"operator{self._suffix}", "--operator")["api_key"]
        self.show.step("market", f"is open at {url}, with its data in {self.folder}")
        return Desk(url, key)

    def _enrol(self, desk: Desk) -> Cast:
        suffix = self._suffix
        prices = {"provider": LIST_PRICE * desk.unit, "rival": RIVALS_PRICE * desk.unit}
        offered = {
            role: {"capabilities": [{"name": "translate", "price": price}], "tags": ["language"]}
            for role, price in prices.items()
        }
        cast = Cast(
            client=desk.enrol(f"alice{suffix}", "Reader"),
            provider=desk.enrol(f"bob{suffix}", "Translator", **offered["provider"]),
            rival=desk.enrol(f"carol{suffix}", "Linguist", **offered["rival"]),
            stranger=desk.enrol(f"mallory{suffix}", "Stranger"),
        )
        agents = ", ".join(account.handle for account in (cast.client, cast.provider, cast.rival, cast.stranger))
        self.show.step("market", f"has four agents of four owners: {agents}")
        self._top_up(desk, cast.client)
        return cast

    def _keep_out(self, stranger: Account, provider: Account) -> None:
        """Somebody is refused, asks for contact, is rejected by the provider's owner, and refused again."""
        opening = {"provider_agent_id": provider.id, "capability": "translate"}
        self._require_refused(stranger, "would hire", provider, opening)
        self.show.step("stranger", f'asks {provider.handle} for contact: "{STRANGERS_MESSAGE}"')
        stranger.rest.post("/agent/contacts/add", {"handle": provider.handle, "message": STRANGERS_MESSAGE})
        request_id = self._left_to_owner(stranger, provider)
        provider.owner.reject(request_id)
        self.show.step("owner", f"{provider.owner.handle} rejects {stranger.handle} by REST")
        self._require_refused(stranger, "tries again to hire", provider, opening)

    def _require_refused(self, stranger: Account, tries: str, provider: Account, opening: dict[str, Any]) -> None:
        code = stranger.rest.refusal("/negotiations", opening)
        if code != "contact_required":
            raise DemoFailed(f"a stranger should be refused with contact_required, not with {code}")
        self.show.step("stranger", f"{stranger.handle} {tries} {provider.handle}, and is refused: {code}")

    def _let_in(self, desk: Desk, client: Account, provider: Account) -> None:
        """The provider's owner lets the client hire it, once it has asked."""
        request_id, most = self._left_to_owner(client, provider), OWNERS_LIMIT * desk.unit
        provider.owner.approve(request_id, kinds=KINDS, max_price=most)
        scope = f"{' and '.join(KINDS)}, up to {desk.money(most)}"
        self.show.step("owner", f"{provider.owner.handle} approves {client.handle} by REST: {scope}")

    def _left_to_owner(self, requester: Account, provider: Account) -> str:
        """Wait until the provider leaves a contact request to its owner, who looks it up; the request's id.

        Raises:
            DemoFailed: The owner does not see it, or it is somebody else's.
        """
        while not (request_id := self._hear().left_to_owner):
            pass
        if provider.owner.request(request_id)["requester"]["handle"] != requester.handle:
            raise DemoFailed(f"{provider.owner.handle} should see a contact request of {requester.handle}")
        return request_id

    def _employ(
        self, stack: ExitStack, desk: Desk, role: str, account: Account, *, admits_up_to: int | None = None
    ) -> Child:
        """Start an agent in a process of its own; its role stands in the arguments for who lists processes."""
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
            receipts=str(self._receipts_folder),
            verbose=self.show.verbose,
            once=self.once,
        )
        words = msgspec.json.encode(configuration).decode()
        child = Child(role, [f"agrenting.demo.{PROGRAMS[role]}", role], self.inbox, f"{words}\n")
        stack.callback(child.kill)
        return child

    def _dismiss(self, child: Child) -> None:
        """Ask an agent to leave, and listen until it has."""
        child.terminate()
        while not child.has_ended:
            self._hear()

    # What the children say.

    def _next(self, timeout_s: float) -> Line:
        """The next line of any child.

        Raises:
            DemoFailed: A child has ended that was not asked to, or badly; or nobody said anything.
            Stopped: Somebody asks for it.
        """
        try:
            line = self.inbox.get(timeout=timeout_s)
            while line is None:
                if not self._is_closing:
                    raise Stopped
                line = self.inbox.get(timeout=timeout_s)
        except Empty:
            raise DemoFailed(f"nobody said anything for {timeout_s:.0f} s") from None
        child = line.child
        if line.text is None:
            child.has_ended = True
            if not child.is_asked_to_end or child.fate():
                raise DemoFailed(f"the {child.name} ended early, {child.fate() or 'with nothing done'}")
        return line

    def _hear(self) -> Told:
        """Show what an agent tells next."""
        line = self._next(SILENCE_TIMEOUT_S)
        if line.text is None:
            return Told()
        told, name = msgspec.json.decode(line.text, type=Told), line.child.name
        if told.frame:
            self.show.frame(name, told.direction, told.frame)
        if told.begins_deal:
            self._begun += 1
            self.show.title("The deal" if self.once else f"Deal {self._begun}")
        if told.step:
            self.show.step(name, told.step)
        if told.failure:
            raise DemoFailed(f"the {name} gave up: {told.failure}")
        if told.receipt is not None:
            self._receipts.setdefault(told.receipt.session_id, []).append(told.receipt.path)
        if told.deal is not None:
            self.deals.append(told.deal)
            self._unverified.append(told.deal)
        return told

    # Money and proofs.

    def _top_up(self, desk: Desk, client: Account) -> None:
        """Give the client money where it runs low, so that the market can go on."""
        left = self._deposited - sum(deal.price for deal in self.deals)
        if left >= LOW * desk.unit:
            return
        amount = DEPOSIT * desk.unit
        desk.deposit(client, amount)
        self._deposited += amount
        self.show.step("market", f"the operator deposits {desk.money(amount)} for {client.handle}")

    def _ledger(self, title: str, desk: Desk, *accounts: Account) -> dict[str, int]:
        amounts = desk.ledger(*accounts)
        self.show.table(title, [(name, desk.money(amount)) for name, amount in amounts.items()])
        return amounts

    def _require_balance(
        self, before: dict[str, int], after: dict[str, int], client: Account, provider: Account
    ) -> None:
        """Refuse books that are not, to the minor unit, what the deals make of them."""
        paid, fees = sum(deal.price for deal in self.deals), sum(deal.fee for deal in self.deals)
        expected = before | {
            client.handle: self._deposited - paid,
            provider.handle: paid - fees,
            "fees": before["fees"] + fees,
            "outside": before["outside"] - (self._deposited - before[client.handle]),
            "sum over all accounts": 0,
        }
        wrong = [f"{name}: {after[name]}, not {expected[name]}" for name in expected if after[name] != expected[name]]
        if wrong:
            raise DemoFailed(f"the books do not balance, in minor units: {'; '.join(wrong)}")

    def _verify(self, keys: list[str]) -> None:
        """Verify the receipts of every deal that both agents keep one of, offline, with the three public keys."""
        for deal in [deal for deal in self._unverified if len(self._receipts.get(deal.session_id, ())) == len(ROLES)]:
            verified = self._command("verify", *self._receipts.pop(deal.session_id), *keys)
            if not verified["ok"]:
                raise DemoFailed(f"the receipts do not verify: {verified}")
            self._unverified.remove(deal)
            self.show.step("market", "both receipts verify offline, with public keys alone (agrenting verify)")

    def _examine(self) -> None:
        books = self._command("doctor")
        if not books["ok"]:
            raise DemoFailed(f"agrenting doctor finds differences: {'; '.join(books['differences'])}")
        self.show.step("market", "agrenting doctor has recomputed the books: no difference")

    def _command(self, *arguments: str) -> Any:
        """What a command of the command line answers as JSON.

        Raises:
            DemoFailed: It answers nothing, or not in time.
        """
        command = ["-m", "agrenting", *arguments, "--json", "--data-dir", str(self.folder)]
        try:
            done = subprocess.run(  # noqa: S603 - our own command
                [sys.executable, *command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                env=environment(),
                timeout=START_TIMEOUT_S,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"agrenting {arguments[0]} took more than {START_TIMEOUT_S:.0f} s") from None
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise DemoFailed(f"agrenting {arguments[0]} failed: {done.stderr.strip()}") from None


def _key_options(desk: Desk, client: Account, provider: Account) -> list[str]:
    """The keys that a receipt has to be signed with, as options of `agrenting verify`."""
    keys = {
        "platform": desk.meta["platform"]["public_key"],
        "client": format_public_key(public_key_of(client.seed)),
        "provider": format_public_key(public_key_of(provider.seed)),
    }
    return [part for party, key in keys.items() for part in (f"--{party}-key", key)]


@contextmanager
def stop_by_signal(inbox: Inbox) -> Generator[None, None, None]:
    """Take what asks a program to stop as something that is heard in its turn, so that nothing is left half done."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        inbox.put(None)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(*, data_dir: Path | None, once: bool, verbose: bool, settings: Settings) -> int:
    """Run the demo; the exit code: 0 only if everything balanced.

    Args:
        data_dir: Kept afterwards; None takes a temporary folder that goes.
        once: End after one deal; otherwise the market trades until Ctrl-C.
        verbose: Print every frame.
        settings: As the command line has read them. The server reads the same ones, but for folder and address.
    """
    show, inbox = Show(verbose=verbose), SimpleQueue[Line | None]()
    with ExitStack() as stack:
        stack.enter_context(stop_by_signal(inbox))
        folder = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agrenting-demo-")))
        is_new = not msgspec.structs.replace(settings, data_dir=str(folder)).database_path.exists()
        demo = Demo(folder, show, inbox, is_new=is_new, once=once)
        try:
            demo.run()
        except Stopped:
            show.text("\nStopped before the first deal was done.")
            return INTERRUPTED if once else 0
        except DemoFailed as failure:
            print(f"agrenting demo: {failure}", file=sys.stderr)
            return 1
    show.text(f"Done: {len(demo.deals)} {'deal' if len(demo.deals) == 1 else 'deals'}, and everything balanced.")
    return 0
