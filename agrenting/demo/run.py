"""The demo's parent: it starts a server and two agents, shows what they do, and looks at the books.

It uses what anybody could: the command line, REST with the operator's key, and the agents' own public interfaces.
"""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Final

import httpx
import msgspec

from agrenting.config import Settings as ServerSettings
from agrenting.demo.agent import Settings, Told
from agrenting.demo.show import Show, money_of
from crypto import format_public_key, format_secret_key, generate_secret_key, key_proof_message, public_key_of, sign

START_TIMEOUT_S: Final = 30.0
DEAL_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 15.0
REST_TIMEOUT_S: Final = 30.0
LOG_LINES: Final = 30
DEPOSIT: Final = 100_000_000
LIST_PRICE: Final = 10_000_000
_MONEY: Final = re.compile(r"\{(\d+)\}")

END = "end"
"""What a process's queue gets when it has said its last line."""


class DemoFailed(Exception):
    """The story did not come to its end; the sentence says where it broke."""


class Process:
    """A child process: its lines on standard output, and the last ones on standard error."""

    def __init__(self, name: str, arguments: list[str], environment: dict[str, str] | None = None) -> None:
        self.name = name
        self.lines: Queue[str] = Queue()
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self._process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # Ctrl-C is the parent's to handle.
        )
        self._threads = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=self._read_log, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def say(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None, "it was started with one"
        self._process.stdin.write(line + "\n")
        self._process.stdin.close()

    def next_line(self, timeout_s: float) -> str:
        """Its next line.

        Raises:
            DemoFailed: It has ended, or said nothing in time.
        """
        try:
            line = self.lines.get(timeout=timeout_s)
        except Empty:
            raise DemoFailed(f"the {self.name} said nothing for {timeout_s:.0f} s") from None
        if line is END:
            raise DemoFailed(f"the {self.name} ended early: {self.last_words()}")
        return line

    def last_words(self) -> str:
        """The end of what it said on standard error."""
        return "\n".join(self.log) or "it left no message"

    def stop(self) -> int:
        """Ask it to stop, insist if it does not; its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        code = self._process.wait()
        for thread in self._threads:
            thread.join(STOP_TIMEOUT_S)
        return code

    def _read_lines(self) -> None:
        assert self._process.stdout is not None, "it was started with one"
        with self._process.stdout as lines:
            for line in lines:
                self.lines.put(line.rstrip("\n"))
        self.lines.put(END)

    def _read_log(self) -> None:
        assert self._process.stderr is not None, "it was started with one"
        with self._process.stderr as lines:
            for line in lines:
                self.log.append(line.rstrip("\n"))


class Account(msgspec.Struct, frozen=True):
    """An agent as its author knows it."""

    id: str
    handle: str
    api_key: str
    seed: bytes


class Demo:
    """One run of the story."""

    def __init__(self, data_dir: Path, show: Show, *, once: bool) -> None:
        self.data_dir = data_dir
        self.show = show
        self.once = once
        self.receipts = data_dir / "receipts"
        self.url = ""
        self.meta: dict[str, Any] = {}
        self.deals: list[dict[str, Any]] = []

    def run(self) -> None:
        """The whole story.

        Raises:
            DemoFailed: It did not come to its end.
        """
        is_new = not (self.data_dir / "agrenting.sqlite3").exists()
        self.receipts.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            server = Process("server", ["agrenting", "serve", "--port", "0", "--data-dir", str(self.data_dir)])
            stack.callback(server.stop)
            try:
                self._story(stack, server, suffix="" if is_new else f"-{secrets.token_hex(2)}")
            except DemoFailed as failed:
                raise DemoFailed(f"{failed}\nThe server's last lines:\n{server.last_words()}") from failed
        self._examine()

    def _story(self, stack: ExitStack, server: Process, *, suffix: str) -> None:
        operator_key = self._start(server)
        operator = stack.enter_context(self._rest(operator_key))
        client, provider, stranger = self._people(operator, suffix)
        before = self._ledger("The ledger before", operator, client, provider)
        self._refuse_stranger(stranger, provider)
        agents = {"provider": self._agent(stack, "provider", provider)}
        self._follow(agents["provider"], until_ready=True)
        agents["client"] = self._agent(stack, "client", client)
        try:
            self._watch(agents)
        finally:
            for agent in reversed(agents.values()):
                agent.stop()
            after = self._ledger("The ledger after", operator, client, provider)
        self._require_balances(before, after)
        self._verify(client, provider)

    def _start(self, server: Process) -> str:
        """Wait until the server listens; the operator's key."""
        key = ""
        while not self.url:
            line = server.next_line(START_TIMEOUT_S)
            shown = re.search(r"operator's key.*: (\S+)", line)
            key = shown[1] if shown else key
            self.url = line.removeprefix("listening on ") if line.startswith("listening on ") else ""
        if not key:
            made = self._command("user", "create", f"demo-operator-{secrets.token_hex(2)}", "--operator")
            key = made["api_key"]
        self.meta = httpx.get(f"{self.url}/api/v1/meta", timeout=REST_TIMEOUT_S).json()["data"]
        self.show.step("market", f"is open at {self.url}, with its data in {self.data_dir}")
        return key

    def _people(self, operator: httpx.Client, suffix: str) -> tuple[Account, Account, Account]:
        organisation = f"Babel{suffix}"
        _post(operator, "/admin/organisations", {"name": organisation})
        made: list[Account] = []
        people: tuple[tuple[str, str, dict[str, Any]], ...] = (
            (f"alice{suffix}", "Reader", {"organisation": organisation}),
            (f"bob{suffix}", "Translator", {"organisation": organisation}),
            (f"mallory{suffix}", "Stranger", {}),
        )
        for handle, name, options in people:
            user = _post(operator, "/admin/users", {"handle": handle, **options})
            with self._rest(user["api_key"]) as owner:
                made.append(self._register(owner, user, name, options))
        client, provider, stranger = made
        _post(operator, "/admin/deposits", {"agent_id": client.id, "amount": DEPOSIT}, secrets.token_hex(8))
        self.show.step("market", f"{client.handle} has {self._money(DEPOSIT)}")
        self.show.step("market", f"{provider.handle} is of another owner in the same organisation")
        return client, provider, stranger

    def _register(self, owner: httpx.Client, user: dict[str, Any], name: str, options: dict[str, Any]) -> Account:
        """Register an agent, with the proof that its owner holds its signing key."""
        seed = generate_secret_key()
        asked = _post(owner, "/key-challenges")
        message = key_proof_message(
            signing_domain=asked["signing_domain"], owner_id=user["id"], agent_id=None, challenge=asked["challenge"]
        )
        body: dict[str, Any] = {
            "name": name,
            "description": f"{name} of the demo",
            "public_key": format_public_key(public_key_of(seed)),
            "proof": {"challenge": asked["challenge"], "signature": sign(seed, message)},
            **options,
        }
        if name == "Translator":
            body |= {"capabilities": [{"name": "translate", "price": LIST_PRICE}], "tags": ["language"]}
        agent = _post(owner, "/agents", body)
        return Account(agent["id"], agent["handle"], agent["api_key"], seed)

    def _refuse_stranger(self, stranger: Account, provider: Account) -> None:
        with self._rest(stranger.api_key) as rest:
            body = {"provider_agent_id": provider.id, "capability": "translate"}
            answer = rest.post("/negotiations", json=body)
        code = answer.json().get("error", {}).get("code")
        if code != "contact_required":
            raise DemoFailed(f"a stranger should be refused with contact_required, and got {answer.text}")
        self.show.step("stranger", "wants to hire the translator too, and is refused: contact_required")

    def _agent(self, stack: ExitStack, name: str, account: Account) -> Process:
        process = Process(name, [f"agrenting.demo.{name}"])
        stack.callback(process.stop)
        settings = Settings(
            url=self.url,
            agent_id=account.id,
            api_key=account.api_key,
            secret_key=format_secret_key(account.seed),
            signing_domain=self.meta["signing_domain"],
            receipts=str(self.receipts),
            verbose=self.show.verbose,
            once=self.once,
        )
        process.say(msgspec.json.encode(settings).decode())
        return process

    def _watch(self, agents: dict[str, Process]) -> None:
        """Show what both say until the deal is done, or for ever."""
        listener = threading.Thread(target=self._follow_to_end, args=(agents["provider"],), daemon=True)
        listener.start()
        try:
            while not (self.once and self.deals):
                self._tell(agents["client"], agents["client"].next_line(DEAL_TIMEOUT_S))
        except KeyboardInterrupt:
            if self.once:
                raise
            self.show.text("")
            agents["client"].stop()
        agents["provider"].stop()  # Its last lines are told before the books are looked at.
        listener.join(STOP_TIMEOUT_S)

    def _follow(self, agent: Process, *, until_ready: bool) -> None:
        is_ready = False
        while until_ready and not is_ready:
            is_ready = self._tell(agent, agent.next_line(START_TIMEOUT_S)).ready

    def _follow_to_end(self, agent: Process) -> None:
        while (line := agent.lines.get()) is not END:
            self._tell(agent, line)

    def _tell(self, agent: Process, line: str) -> Told:
        told = msgspec.json.decode(line, type=Told)
        if told.frame:
            self.show.frame(agent.name, told.direction, told.frame)
        if told.step:
            self.show.step(agent.name, _MONEY.sub(lambda found: self._money(int(found[1])), told.step))
        if told.deal is not None:
            self.deals.append(told.deal)
        if told.failed:
            raise DemoFailed(f"the {agent.name} failed: {told.failed}")
        return told

    def _ledger(self, title: str, operator: httpx.Client, client: Account, provider: Account) -> dict[str, int]:
        amounts: dict[str, int] = {}
        for account in (client, provider):
            with self._rest(account.api_key) as rest:
                balance = _data(rest.get("/ledger/balance"))
            amounts[account.handle] = balance["available"]
            amounts[f"{account.handle} in escrow"] = balance["escrow"]
        books = _data(operator.get("/admin/ledger"))
        amounts |= {"fees": books["fees"], "outside": books["external"], "sum over all accounts": books["sum"]}
        self.show.table(title, [(name, self._money(amount)) for name, amount in amounts.items()])
        return amounts

    def _require_balances(self, before: dict[str, int], after: dict[str, int]) -> None:
        paid, fees = sum(deal["price"] for deal in self.deals), sum(deal["fee"] for deal in self.deals)
        client, _, provider, _ = list(before)[:4]
        if not self.once:
            return  # A deal may have been under way when it was stopped; the doctor looks at those books.
        expected = {
            client: before[client] - paid,
            provider: before[provider] + paid - fees,
            "fees": before["fees"] + fees,
        }
        wrong = {name: (after[name], amount) for name, amount in expected.items() if after[name] != amount}
        if wrong or after["sum over all accounts"]:
            raise DemoFailed(f"the books do not balance: {wrong}")

    def _verify(self, client: Account, provider: Account) -> None:
        """Both receipts of each deal, offline, with the three public keys."""
        keys = {
            "--platform-key": self.meta["platform"]["public_key"],
            "--client-key": format_public_key(public_key_of(client.seed)),
            "--provider-key": format_public_key(public_key_of(provider.seed)),
        }
        options = [part for pair in keys.items() for part in pair]
        for deal in self.deals:
            files = [str(path) for path in sorted(self.receipts.glob(f"*-{deal['session_id']}.json"))]
            verified = self._command("verify", *files, *options)
            if not verified["ok"] or len(files) != len((client, provider)):
                raise DemoFailed(f"the receipts do not verify: {verified}")
            self.show.step("market", f"both receipts of {deal['session_id']} verify offline, with public keys alone")

    def _examine(self) -> None:
        books = self._command("doctor")
        if not books["ok"]:
            raise DemoFailed(f"the doctor finds differences: {books['differences']}")
        self.show.step("market", "agrenting doctor recomputed the books: no difference")

    def _command(self, *arguments: str) -> Any:
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "agrenting", *arguments, "--json", "--data-dir", str(self.data_dir)],
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise DemoFailed(f"agrenting {arguments[0]} failed: {done.stderr.strip()}") from None

    def _rest(self, key: str) -> httpx.Client:
        return httpx.Client(base_url=f"{self.url}/api/v1", headers={"x-api-key": key}, timeout=REST_TIMEOUT_S)

    def _money(self, amount: int) -> str:
        return money_of(self.meta, amount)


def _post(rest: httpx.Client, path: str, body: dict[str, Any] | None = None, idempotency_key: str = "") -> Any:
    headers = {"idempotency-key": idempotency_key} if idempotency_key else {}
    return _data(rest.post(path, json=body, headers=headers))


def _data(answer: httpx.Response) -> Any:
    if not answer.is_success:
        raise DemoFailed(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text}")
    return answer.json()["data"]


def run(*, data_dir: Path | None, once: bool, verbose: bool, settings: ServerSettings) -> int:
    """Run the demo; the exit code: 0 only if everything balanced.

    Args:
        data_dir: Kept afterwards; None takes a temporary folder that goes.
        once: End after one deal; otherwise the market trades until Ctrl-C.
        verbose: Print every frame.
        settings: As the command line has read them; the server reads the same ones.
    """
    del settings
    show = Show(verbose=verbose)
    with ExitStack() as stack:
        folder = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agrenting-demo-")))
        demo = Demo(folder, show, once=once)
        try:
            demo.run()
        except KeyboardInterrupt:
            show.text("\nStopped before the first deal.")
            return 1
        except (DemoFailed, httpx.HTTPError) as failed:
            print(f"agrenting demo: {failed}", file=sys.stderr)
            return 1
    show.text(f"Done: {len(demo.deals)} deals, and everything balanced.")
    return 0
