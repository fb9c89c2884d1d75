"""The demo's parent: it starts a server and four agents, shows what they do, looks at the books, and lets it live on.

It uses what anybody could: the command line, REST with the operator's and the owners' keys, and the agents' own public
interfaces.
"""

import re
import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from agrenting.demo.agent import Deal, Payment, Told
from agrenting.demo.cast import Cast, enrol, public_keys
from agrenting.demo.children import Child, Inbox
from agrenting.demo.command import run_command
from agrenting.demo.consent import KINDS
from agrenting.demo.desk import Account, DemoFailed, Desk
from agrenting.demo.ensemble import Ensemble, Stopped
from agrenting.demo.living import LivingMarket
from agrenting.demo.payments import DEPOSIT_LOOK_UPS
from agrenting.demo.proofs import Expected, Proofs
from agrenting.demo.show import Show

START_TIMEOUT_S: Final = 60.0
DEPOSIT = 30
"""In whole units of the currency: what the client gets."""

RIVALS_LIMIT, OWNERS_LIMIT = 5, 15
"""Likewise: up to what the rival's policy, and the provider's owner, let a new contact go."""

PROGRAMS: Final = {"client": "client", "provider": "provider", "rival": "provider", "stranger": "stranger"}
"""What the agents of each role run."""

STRANGERS_MESSAGE: Final = "Just trust me."
OPERATOR_KEY: Final = re.compile(r"operator's key.*: (\S+)$")
LISTENING: Final = re.compile(r"listening on (http://\S+)$")


class Demo:
    """One run of the story.

    Args:
        folder: The server's data folder.
        show: Where it is shown.
        inbox: What the children say.
        is_new: Nothing lies in the folder yet.
        once: End after one deal; otherwise the market lives on.
    """

    def __init__(self, folder: Path, show: Show, inbox: Inbox, *, is_new: bool, once: bool) -> None:
        self.folder = folder
        self.show = show
        self.inbox = inbox
        self.once = once
        self.deals: list[Deal] = []
        self.living: LivingMarket | None = None
        self.ensemble = Ensemble(show, inbox, self._receipts_folder, self._take)
        self._cheats: list[Payment] = []
        self._proofs = Proofs(lambda text: show.step("market", text))
        self._keys: dict[str, dict[str, str]] = {}
        self._suffix = "" if is_new else f"-{secrets.token_hex(4)}"
        self._is_over = False
        """Somebody has asked for the end while the deal was told."""

    def run(self) -> None:
        """The whole story.

        Raises:
            DemoFailed: It did not come to its end.
            Stopped: Somebody asked for it before the told deal was done.
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

    @property
    def deals_done(self) -> int:
        """Deals that were done, in the story and after it."""
        return len(self.deals) + (0 if self.living is None else self.living.deals_done)

    def _tell_story(self, stack: ExitStack) -> None:
        desk = stack.enter_context(self._open())
        cast = self._enrol(desk)
        client, provider = cast.client, cast.provider
        before = self._ledger("The ledger before", desk, cast)
        self.show.title("Consent: they are strangers, and ask first")
        offering = [
            self._employ(stack, desk, "provider", provider),
            self._employ(stack, desk, "rival", cast.rival, admits_up_to=RIVALS_LIMIT * desk.unit),
        ]
        for _ in offering:
            while not self.ensemble.hear().is_ready:
                pass
        self._keep_out(cast.stranger, provider)
        hiring = self._employ(stack, desk, "client", client)
        self._let_in(desk, client, provider)
        cheating = self._trade(stack, desk, cast)
        self.ensemble.is_closing = True
        for child in (hiring, *cheating):
            self.ensemble.dismiss(child)
        self._proofs.verify()
        while self._proofs.are_missing:
            self.ensemble.hear()
            self._proofs.verify()
        for child in offering:
            self.ensemble.dismiss(child)
        after = self._ledger("The ledger after", desk, cast)
        self._require_balance(before, after, cast)
        if not (self.once or self._is_over):
            self.living = LivingMarket(self.ensemble, desk, self._suffix)
            self.living.run(stack)

    def _trade(self, stack: ExitStack, desk: Desk, cast: Cast) -> list[Child]:
        """Listen to the deal, and let the stranger in after it, until that is all; the stranger's child."""
        cheating: list[Child] = []
        try:
            while not self._cheats or self._proofs.are_missing:
                self.ensemble.hear()
                self._proofs.verify()
                if self.deals and not cheating and not self._proofs.are_missing:
                    self.show.title("Mallory tries to cheat")
                    cheating.append(self._employ(stack, desk, "stranger", cast.stranger))
        except Stopped:
            if self.once:
                raise
            self._is_over = True
            self.show.text("")
            self.show.step("market", "closes once the deal at hand is done")
        return cheating

    # People and processes.

    def _open(self) -> Desk:
        """Wait until the server listens, and sit down at the operator's desk."""
        key = url = ""
        while not url:
            text = self.ensemble.next(START_TIMEOUT_S).text or ""
            shown, listening = OPERATOR_KEY.search(text), LISTENING.match(text)
            key = shown[1] if shown else key
            url = listening[1] if listening else ""
        if not key:
            key = run_command(self.folder, "user", "create", f"operator{self._suffix}", "--operator")["api_key"]
        self.show.step("market", f"is open at {url}, with its data in {self.folder}")
        return Desk(url, key)

    def _enrol(self, desk: Desk) -> Cast:
        cast = enrol(desk, self._suffix)
        agents = ", ".join(account.handle for account in (cast.client, cast.provider, cast.rival, cast.stranger))
        self.show.step("market", f"has four agents of four owners: {agents}")
        self._deposit(desk, cast.client, DEPOSIT * desk.unit)
        self._deposit(desk, cast.stranger, DEPOSIT_LOOK_UPS * desk.look_up_price)
        self._keys = {
            "agreement": public_keys(desk, client=cast.client, provider=cast.provider),
            "task": public_keys(desk),
            "channel": public_keys(desk, opener=cast.client, counterparty=cast.provider),
            "cheat": public_keys(desk, opener=cast.stranger, counterparty=cast.rival),
        }
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
        scope = f"{', '.join(KINDS)}, up to {desk.money(most)}"
        self.show.step("owner", f"{provider.owner.handle} approves {client.handle} by REST: {scope}")

    def _left_to_owner(self, requester: Account, provider: Account) -> str:
        """Wait until the provider leaves a contact request to its owner, who looks it up; the request's id.

        Raises:
            DemoFailed: The owner does not see it, or it is somebody else's.
        """
        while not (request_id := self.ensemble.hear().left_to_owner):
            pass
        if provider.owner.request(request_id)["requester"]["handle"] != requester.handle:
            raise DemoFailed(f"{provider.owner.handle} should see a contact request of {requester.handle}")
        return request_id

    def _employ(
        self, stack: ExitStack, desk: Desk, role: str, account: Account, *, admits_up_to: int | None = None
    ) -> Child:
        return self.ensemble.employ(stack, desk, account, role=role, program=PROGRAMS[role], admits_up_to=admits_up_to)

    def _take(self, told: Told) -> None:
        """Take what an agent tells of the story."""
        if told.begins_deal:
            self.show.title("The deal")
        if told.receipt is not None:
            self._proofs.keep(told.receipt)
        if told.deal is not None:
            self.deals.append(told.deal)
            self._expect(told.deal.session_id, "both receipts of the agreement", "agreement")
            self._expect(told.deal.task_id, "both receipts of the task", "task")
            self._expect(told.deal.payment.channel_id, "both receipts and histories of the channel", "channel")
        if told.payment is not None:
            self._cheats.append(told.payment)
            self._expect(told.payment.channel_id, "both receipts and histories of the cheat's channel", "cheat")

    def _expect(self, of: str, proves: str, signed_by: str) -> None:
        self._proofs.expect(Expected(of=of, proves=proves, keys=self._keys[signed_by]))

    # Money and proofs.

    @property
    def _paid(self) -> int:
        """What the client has paid so far, in deals and over channels."""
        return sum(deal.price + deal.payment.amount for deal in self.deals)

    def _deposit(self, desk: Desk, account: Account, amount: int) -> None:
        desk.deposit(account, amount)
        self.show.step("market", f"the operator deposits {desk.money(amount)} for {account.handle}")

    def _ledger(self, title: str, desk: Desk, cast: Cast) -> dict[str, int]:
        amounts = desk.ledger(cast.client, cast.provider, cast.rival, cast.stranger)
        self.show.table(title, [(name, desk.money(amount)) for name, amount in amounts.items()])
        return amounts

    def _require_balance(self, before: dict[str, int], after: dict[str, int], cast: Cast) -> None:
        """Refuse books that are not, to the minor unit, what deals and payments make of them."""
        fees, paid = sum(deal.fee for deal in self.deals), self._paid
        cheats_paid = sum(payment.amount for payment in self._cheats)
        client = cast.client.handle
        expected = before | {
            client: before[client] - paid,
            cast.provider.handle: paid - fees,
            cast.rival.handle: cheats_paid,
            cast.stranger.handle: before[cast.stranger.handle] - cheats_paid,
            "fees": before["fees"] + fees,
            "sum over all accounts": 0,
        }
        wrong = [f"{name}: {after[name]}, not {expected[name]}" for name in expected if after[name] != expected[name]]
        if wrong:
            raise DemoFailed(f"the books do not balance, in minor units: {'; '.join(wrong)}")

    def _examine(self) -> None:
        books = run_command(self.folder, "doctor")
        if not books["ok"]:
            raise DemoFailed(f"agrenting doctor finds differences: {'; '.join(books['differences'])}")
        self.show.step("market", "agrenting doctor has recomputed the books: no difference")
