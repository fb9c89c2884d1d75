"""A language model as a provider: any callable on this machine, or any OpenAI-compatible endpoint.

    python model_provider.py --as poet.toml --capability ask --price 0.10 --model my_models:shout

    export MODEL_API_KEY=…
    python model_provider.py --as poet.toml --capability ask --price 0.10 --base-url http://127.0.0.1:8080/v1 --model m

A task's input stream is the prompt; the answer streams back as the model makes it. `--model module:function` names a
function of one string: it returns a string or an awaitable of one, or it is an asynchronous generator of strings. With
`--base-url` the model is asked by `POST /chat/completions`; the key of that endpoint comes from the environment alone.

If this program is stopped in the middle of an answer, the task goes on at the next start. The market has kept what was
sent, so the model has to say the same once more. If it says something else, the task fails, and the client has its
money back.
"""

import argparse
import asyncio
import importlib
import inspect
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
from agrenting_client import Agent, Job, TaskFailed

Model = Callable[[str], AsyncIterator[str]]

KEY_VARIABLE = "MODEL_API_KEY"
CONNECT_TIMEOUT_S = 10.0
SILENCE_MAX_S = 120.0
"""How long an endpoint may take for its next piece."""


class Delta(msgspec.Struct):
    """What a piece of an answer adds."""

    content: str | None = None


class Choice(msgspec.Struct):
    """One of the answers that an endpoint gives side by side; here there is one."""

    delta: Delta


class Piece(msgspec.Struct):
    """One event of a streamed answer."""

    choices: list[Choice]


def local(path: str) -> Model:
    """A callable on this machine.

    Args:
        path: `module:function`.
    """
    module, _, name = path.partition(":")
    function: Callable[[str], Any] = getattr(importlib.import_module(module), name)

    async def ask(prompt: str) -> AsyncIterator[str]:
        answer = await asyncio.to_thread(function, prompt)  # A synchronous one must not hold up the others.
        if isinstance(answer, AsyncIterator):
            async for piece in cast("AsyncIterator[object]", answer):
                yield str(piece)
        else:
            yield str(await answer if inspect.isawaitable(answer) else answer)

    return ask


def remote(base_url: str, name: str, system: str | None, http: httpx.AsyncClient) -> Model:
    """A model behind an OpenAI-compatible endpoint."""

    async def ask(prompt: str) -> AsyncIterator[str]:
        messages = [{"role": "user", "content": prompt}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        body = {"model": name, "messages": messages, "stream": True}
        try:
            async with http.stream("POST", f"{base_url.rstrip('/')}/chat/completions", json=body) as answer:
                if not answer.is_success:
                    raise TaskFailed("model_refused", {"status": answer.status_code})
                async for piece in pieces(answer):
                    yield piece
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            raise TaskFailed("model_unavailable", {"error": type(error).__name__}) from error

    return ask


async def pieces(answer: httpx.Response) -> AsyncIterator[str]:
    """The text of a streamed answer, as it comes.

    Raises:
        TaskFailed: The answer ends before its end is said.
    """
    async for event in events(answer):
        if event == b"[DONE]":
            return
        for choice in msgspec.json.decode(event, type=Piece).choices:
            if choice.delta.content:
                yield choice.delta.content
    raise TaskFailed("model_cut_off")


async def events(answer: httpx.Response) -> AsyncIterator[bytes]:
    """The data of server-sent events. Only line feeds end a line: what else ends lines may stand in a text."""
    rest = b""
    async for data in answer.aiter_bytes():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line.removeprefix(b"data:").strip()


def offered(agent: Agent, model: Model, chosen: argparse.Namespace) -> None:
    """Register the model as a capability of the agent."""

    @agent.capability(chosen.capability, price=chosen.price, concurrency=chosen.concurrency)
    async def answer(job: Job) -> AsyncIterator[str]:
        prompt = await job.text()
        if not prompt.strip():
            raise TaskFailed("empty_prompt")
        async for piece in model(prompt):
            if piece:
                yield piece


async def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="Offer a model, local or behind an OpenAI-compatible endpoint.")
    parser.add_argument("--as", dest="credentials", metavar="FILE", help="the agent's credentials (or the environment)")
    parser.add_argument("--capability", required=True, help="what it is found by")
    parser.add_argument("--price", required=True, help="the list price, in major units")
    parser.add_argument("--concurrency", type=int, default=4, help="answers at a time (default: 4)")
    parser.add_argument("--model", required=True, help="module:function, or with --base-url the model's name there")
    parser.add_argument("--base-url", help=f"the endpoint's, as in http://127.0.0.1:8080/v1; key: {KEY_VARIABLE}")
    parser.add_argument("--system", help="what the endpoint's model is told before each prompt")
    chosen = parser.parse_args()
    sys.path.insert(0, str(Path.cwd()))  # So that a module in this folder is found.
    key = os.environ.pop(KEY_VARIABLE, None)
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    agent = Agent.from_file(chosen.credentials) if chosen.credentials else Agent.from_environment()
    timeout = httpx.Timeout(SILENCE_MAX_S, connect=CONNECT_TIMEOUT_S)
    async with httpx.AsyncClient(headers=headers, timeout=timeout) as http:
        remote_model = remote(chosen.base_url or "", chosen.model, chosen.system, http)
        model = remote_model if chosen.base_url else local(chosen.model)
        offered(agent, model, chosen)
        async with agent:
            said = f"{agent.handle} offers {chosen.model} for {chosen.price}"
            await agent.serve(on_ready=lambda: print(said, flush=True))


if __name__ == "__main__":
    asyncio.run(main())
