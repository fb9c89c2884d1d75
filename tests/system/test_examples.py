"""The examples work: each program is started as its text says, in an empty folder, and does real deals."""

import asyncio
import base64
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from agrenting.client import Agent, ApiKey, HiredTask, PhoenixSocket, SigningKey, TaskNotDone
from agrenting.client.hatch_build import stage
from tests.system.guides import Terminal, wait_until_online
from tests.system.harness import ROOT, AgentAccount, MarketProcess, free_environment

pytestmark = pytest.mark.timeout(240)
"""Each test starts several programs; where the machine is busy, that takes its time."""

EXAMPLES: Final = ROOT / "examples"
PROGRAMS: Final = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem not in {"__init__", "echo_room"})
MODEL_KEY: Final = "sk-the-key-of-the-model"
MODELS: Final = """
from collections.abc import AsyncIterator


def shout(prompt: str) -> str:
    return prompt.upper()


async def backwards(prompt: str) -> str:
    return prompt[::-1]


async def words(prompt: str) -> AsyncIterator[str]:
    for word in prompt.split():
        yield word + " "
"""


class Stage:
    """A market, and a folder with the examples, in which they are run as somebody would.

    Args:
        market: The market, with the user alice and her agent Reader, who pays.
        folder: The folder.
        environment: Of the programs.
    """

    def __init__(self, market: MarketProcess, folder: Path, environment: dict[str, str]) -> None:
        self.market = market
        self.folder = folder
        self.environment = environment
        self.reader = market.agent("alice", "Reader", deposit=1_000_000_000)
        self.credentials(self.reader, "reader.toml")
        self._open: list[Terminal] = []

    def close(self) -> None:
        """End what still runs."""
        for terminal in self._open:
            terminal.kill()

    def credentials(self, account: AgentAccount, name: str) -> None:
        """Write an agent's credentials into the folder."""
        fields = {
            "url": self.market.url,
            "api_key": account.api_key,
            "signing_key": base64.b64encode(account.seed).decode(),
        }
        file = self.folder / name
        file.touch(0o600)
        file.write_text("".join(f"{key} = {json.dumps(text)}\n" for key, text in fields.items()), "utf-8")

    def run(self, command: str) -> Terminal:
        """Start a program of the folder."""
        terminal = Terminal(f"exec python {command}", self.folder, self.environment)
        self._open.append(terminal)
        return terminal

    @contextmanager
    def provider(self, name: str, capability: str, command: str) -> Iterator[Terminal]:
        """An example that provides, as an agent of its own, until Ctrl-C, which it has to end well with.

        Args:
            name: The agent's; its credentials are in a file of this name in lower case, `.toml`.
            capability: What it can be found by, once it is at work.
            command: The program and its arguments.
        """
        self.credentials(self.market.agent("alice", name, "--tag", "examples"), f"{name.lower()}.toml")
        program, _, arguments = command.partition(" ")
        terminal = self.run(f"{program} --as {name.lower()}.toml {arguments}")
        try:
            wait_until_online(self.market.url, self.reader.api_key, {capability})
        except TimeoutError:
            raise AssertionError(terminal.printed) from None
        yield terminal
        assert terminal.interrupt() == 0, terminal.printed
        assert "Traceback" not in terminal.printed, terminal.printed

    def client(self) -> Agent:
        """The agent that pays, not open yet."""
        folder = self.folder / "state" / "in-the-test"
        return Agent(self.market.url, ApiKey(self.reader.api_key), SigningKey(self.reader.seed), folder=folder)


@pytest.fixture(scope="module")
def stage_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One market and one folder for all examples."""
    folder = tmp_path_factory.mktemp("examples")
    stage(ROOT / "agrenting/client", folder / "packages" / "agrenting_client")
    for name in PROGRAMS:
        shutil.copy(EXAMPLES / f"{name}.py", folder)
    (folder / "models.py").write_text(MODELS, "utf-8")
    market = MarketProcess(folder / "var").start()
    market.user("alice")
    environment = free_environment(
        PATH=f"{Path(sys.executable).parent}:{free_environment()['PATH']}",
        PYTHONPATH=f"{folder / 'packages'}:{ROOT}",
        PYTHONWARNINGS="error",
        AGRENTING_STATE_DIR=str(folder / "state"),
    )
    with closing(Stage(market, folder, environment)) as one:
        yield one
    assert market.stop() == 0, "\n".join(market.log)


@pytest.fixture
def here(stage_of_all: Stage) -> Stage:
    """The stage, under a short name."""
    return stage_of_all


async def error_of(task: HiredTask) -> dict[str, Any]:
    """What a task has failed with."""
    with pytest.raises(TaskNotDone) as not_done:
        await task.result()
    assert not_done.value.status == "failed"
    assert not_done.value.error is not None
    return not_done.value.error


def test_each_example_says_what_it_takes(here: Stage) -> None:
    asked = {name: here.run(f"{name}.py --help") for name in PROGRAMS}

    for name, terminal in asked.items():
        assert terminal.wait() == 0, terminal.printed
        assert terminal.printed.startswith(f"usage: {name}.py")


# The translator, and who buys from it.


async def test_the_translator_streams_and_goes_on_after_it_was_killed(here: Stage) -> None:
    lines = [f"Hello, agent {number}! The market answers." for number in range(120)]
    wanted = [f"hallo, Agent {number}! der Markt antwortet." for number in range(120)]

    here.credentials(here.market.agent("alice", "Translator"), "translator.toml")
    first = here.run("translator.py --as translator.toml")
    wait_until_online(here.market.url, here.reader.api_key, {"translate"})
    async with here.client() as agent:
        task = await agent.hire("translate", max_price="2.00")
        for line in lines[:60]:
            await task.send(f"{line}\n")
        assert await head(task, 60) == [f"{line}\n" for line in wanted[:60]]

        first.kill()
        second = here.run("translator.py --as translator.toml")
        for line in lines[60:]:
            await task.send(f"{line}\n")
        await task.close()

        assert (await task.text()).splitlines() == wanted
        assert await task.result() == {"lines": 120}
        await task.settle()

        task = await agent.hire("translate", max_price="2.00", data="hello", input={"to": "fr"})
        assert await error_of(task) == {"type": "unknown_language", "details": {"known": ["de"]}}
    assert second.interrupt() == 0, second.printed


async def head(task: HiredTask, count: int) -> list[str]:
    """The first chunks of a task's output."""
    chunks = [await task.next_chunk() for _ in range(count)]
    return [chunk.decode() for chunk in chunks if chunk is not None]


def test_the_buyer_bargains_with_the_translator(here: Stage) -> None:
    (here.folder / "letter.txt").write_text("Good morning, world!\n", "utf-8")

    with here.provider("Bargainer", "interpret", "translator.py --capability interpret --price 2.00 --least 1.20"):
        buyer = here.run("buyer.py interpret letter.txt --limit 1.80 --strategy conceder --as reader.toml")

        assert buyer.wait() == 0, buyer.printed
    agreed, opened, text, paid = buyer.printed.splitlines()
    assert opened.startswith("task ")
    assert text == "guten Morgen, Welt!"
    amount = float(agreed.removeprefix("agrees on USD "))
    assert 1.20 <= amount <= 1.80
    assert paid.startswith(f"paid {agreed.removeprefix('agrees on ')}; the receipt is in ")
    assert Path(paid.rpartition(" in ")[2]).exists()


def test_the_buyer_says_so_where_nobody_is_that_cheap(here: Stage) -> None:
    (here.folder / "letter.txt").write_text("Good morning, world!\n", "utf-8")

    with here.provider("Dear", "dear", "translator.py --capability dear --price 2.00"):
        buyer = here.run("buyer.py dear letter.txt --limit 0.50 --as reader.toml")

        assert buyer.wait() == 1
    assert buyer.printed.splitlines()[-1] == "nobody does dear for 0.50"


# Any program.


async def test_any_program_is_a_provider(here: Stage) -> None:
    text = "never odd\nor even\n" * 10_000

    with here.provider("Rev", "rev", "command_provider.py --capability rev --price 0.10 -- rev"):
        async with here.client() as agent:
            task = await agent.hire("rev", max_price="0.10", data=text)
            assert await task.text() == "ddo reven\nneve ro\n" * 10_000
            await task.settle()


async def test_a_program_need_not_read_all_and_may_fail(here: Stage) -> None:
    script = "read -r word; if [ $word = bad ]; then exit 3; fi; echo $word; echo ${AGRENTING_AGENT-no key}"

    here.environment["AGRENTING_AGENT"] = "picky.toml"
    with here.provider(
        "Picky", "pick", f"command_provider.py --capability pick --price 0.10 -- bash -c '{script}' pick"
    ):
        async with here.client() as agent:
            task = await agent.hire("pick", max_price="0.10", data="good\n" * 100_000)
            assert await task.text() == "good\nno key\n"
            await task.settle()
            task = await agent.hire("pick", max_price="0.10", data="bad\n")
            assert await error_of(task) == {"type": "command_failed", "details": {"exit_code": 3}}
    del here.environment["AGRENTING_AGENT"]


@pytest.mark.parametrize("how", ["timeout", "dispute"])
async def test_a_program_ends_with_its_task(how: str, here: Stage) -> None:
    ended = here.folder / f"{how}-ended"
    script = f"trap 'echo ended > {ended.name}' EXIT; echo begun; sleep 100 & wait"
    timeout = "--timeout 1" if how == "timeout" else ""
    command = f'command_provider.py --capability {how} --price 0.10 {timeout} -- bash -c "{script}"'

    with here.provider(how.title(), how, command):
        async with here.client() as agent:
            task = await agent.hire(how, max_price="0.10", data="word\n")
            assert await task.next_chunk() == b"begun\n"
            if how == "dispute":
                await task.dispute("it takes too long")
                assert task.status == "disputed"
            else:
                assert await error_of(task) == {"type": "timeout", "details": {"seconds": 1.0}}
    assert ended.read_text() == "ended\n"  # Had it not ended, Ctrl-C would have waited for it in vain.


# Any model.


async def test_any_callable_is_a_provider(here: Stage) -> None:
    answers = {"shout": ["NEVER ODD"], "backwards": ["ddo reven"], "words": ["never ", "odd "]}
    with ExitStack() as providers:
        for function in answers:
            command = f"model_provider.py --capability {function} --price 0.10 --model models:{function}"
            providers.enter_context(here.provider(function.title(), function, command))
        async with here.client() as agent:
            for function, answer in answers.items():
                task = await agent.hire(function, max_price="0.10", data="never odd")
                assert [chunk.decode() async for chunk in task] == answer
                await task.settle()


class FakeModel:
    """An OpenAI-compatible endpoint. What it says depends on the prompt."""

    ANSWER = ("Hel", "", "lo\u2028wör", "ld\n")

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.has_said = threading.Event()
        self.may_go_on = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                fake.asked.append({"path": self.path, **body})
                fake.keys.append(self.headers["authorization"])
                prompt = body["messages"][-1]["content"]
                self.send_response(500 if prompt == "break" else 200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                if prompt != "break":
                    self._say(prompt)

            def _say(self, prompt: str) -> None:
                for number, text in enumerate(fake.ANSWER):
                    if number == 2:
                        self.wfile.flush()
                        fake.has_said.set()
                        assert fake.may_go_on.wait(30)
                    if number == 2 and prompt == "stop short":
                        return
                    self._event(json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}, ensure_ascii=False))
                self._event(json.dumps({"choices": [], "usage": {"total_tokens": 7}}))
                self._event("[DONE]")

            def _event(self, text: str) -> None:
                self.wfile.write(b": a comment\n" + f"data: {text}\n\n".encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - It is the base class's.
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self.may_go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


async def test_a_model_behind_an_endpoint_is_a_provider(here: Stage) -> None:
    with closing(FakeModel()) as model:
        here.environment["MODEL_API_KEY"] = MODEL_KEY
        command = (
            f"model_provider.py --capability ask --price 0.10 --base-url {model.url} --model tiny --system 'Be brief.'"
        )
        with here.provider("Oracle", "ask", command) as terminal:
            async with here.client() as agent:
                task = await agent.hire("ask", max_price="0.10", data="Greet the world.")
                assert await task.next_chunk() == b"Hel"
                assert model.has_said.is_set()  # The first words come while the model still thinks.
                model.may_go_on.set()
                assert await task.text() == "".join(model.ANSWER)
                await task.settle()

                for prompt, error in (
                    ("break", {"type": "model_refused", "details": {"status": 500}}),
                    ("stop short", {"type": "model_cut_off", "details": None}),
                    ("  ", {"type": "empty_prompt", "details": None}),
                ):
                    task = await agent.hire("ask", max_price="0.10", data=prompt)
                    assert await error_of(task) == error
        del here.environment["MODEL_API_KEY"]

    assert model.asked[0] == {
        "path": "/v1/chat/completions",
        "model": "tiny",
        "stream": True,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Greet the world."},
        ],
    }
    assert {*model.keys} == {f"Bearer {MODEL_KEY}"}
    assert MODEL_KEY not in terminal.printed


# Small payments.


def test_words_are_bought_one_by_one(here: Stage) -> None:
    payee = here.market.agent("alice", "Payee")
    here.credentials(payee, "payee.toml")
    selling = here.run("small_payments.py payee --as payee.toml --price 0.05")
    selling.expect("alice/payee sells words for 0.05\n")

    buying = here.run("small_payments.py payer --as reader.toml --to alice/payee --price 0.05 the market answers")

    assert buying.wait() == 0, buying.printed
    *words, paid = buying.printed.splitlines()
    assert words == ["der", "Markt", "antwortet"]
    assert paid.startswith("paid USD 0.15 in 3 steps; the receipt has ")
    assert selling.interrupt() == 0, selling.printed
    with here.market.rest(payee.api_key) as rest:
        assert rest.get("/api/v1/ledger/balance").json()["data"]["available"] == 150_000


# The owner, in a chat room.


async def test_the_owner_answers_in_a_chat_room(here: Stage) -> None:
    owner = here.market.user("olivia")
    here.market.user("sam")
    stranger = here.market.agent("sam", "Scout", deposit=10_000_000)
    guarded, sibling = (here.market.agent("olivia", name, "--tag", "examples") for name in ("Guarded", "Sibling"))
    here.credentials(guarded, "guarded.toml")
    keeper = here.run("hub_room.py --as guarded.toml --capability guarded-reverse")
    wait_until_online(here.market.url, sibling.api_key, {"guarded-reverse"})

    folder = here.folder / "state" / "sam"
    async with Agent(here.market.url, stranger.api_key, SigningKey(stranger.seed), folder=folder) as agent:
        asking = asyncio.create_task(agent.request_contact("olivia/guarded", "May I send you texts?", timeout_s=30))
        await approve_in_the_room(here.market, owner["api_key"], guarded.id)
        assert (await asking).handle == "olivia/guarded"

        task = await agent.hire("guarded-reverse", provider="olivia/guarded", max_price="1.00", data="never odd\n")
        assert await task.text() == "ddo reven\n"
        await task.settle()
    assert keeper.interrupt() == 0, keeper.printed


async def approve_in_the_room(market: MarketProcess, key: str, agent_id: str) -> None:
    """The owner reads the question in the room that the agent has made, and says yes."""
    with market.rest(key) as rest:
        (room,) = rest.get("/api/v1/me/chats").json()["data"]
        messages = f"/api/v1/me/chats/{room['id']}/messages"
        async with PhoenixSocket(market.url, key) as socket:
            topic = await socket.join(f"chat_room:{room['id']}")
            said = rest.get(messages).json()["data"] or [await topic.expect("message_created")]
            assert "May I send you texts?" in said[0]["content"]
        answer = {"content": "approve @sam/scout up to 5.00", "mentions": [{"id": agent_id}]}
        assert rest.post(messages, json={"message": answer}).is_success
