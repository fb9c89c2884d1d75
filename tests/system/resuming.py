"""The two agents of a task of a thousand events, who resume: whichever connection breaks, they come again and go on.

An event is known once its sender knows that it is stored: by its reply, or by what a join tells. After so many known
events a `Cut` breaks one connection, or the server, while others are under way. All that either application is ever
given is checked as it comes: each chunk once, in order, and never other than the server's digest says.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any, NamedTuple

from websockets.exceptions import WebSocketException

from tests.system.halls import Ground
from tests.system.harness import AgentAccount
from tests.system.streaming import Link, Log, heard_chunk, linked
from tests.system.translating import (
    CHECKPOINT_EVERY,
    CHUNKS,
    DIGESTS,
    INPUT,
    OUTPUT,
    PROGRESS_EVERY,
    Worker,
    checksum,
    chunk_payload,
)

LOST = (ConnectionError, OSError, WebSocketException)
IN_FLIGHT = 16


class Cut(NamedTuple):
    """What is broken, and after how many known events.

    Args:
        kind: `client`, `provider`, `both`: their connections. `crash`: the whole provider, which is left with its
            checkpoint. `server`: killed with SIGKILL, and started again. `none`: nothing.
        at: How many of them.
    """

    kind: str
    at: int


class Participant:
    """One agent of a task: connects, joins, and comes again until it is done.

    Args:
        run: The task.
        account: Whose.
    """

    def __init__(self, run: "Run", account: AgentAccount, *, is_binary: bool) -> None:
        self.run = run
        self.account = account
        self.is_binary = is_binary
        self.link: Link | None = None
        self.joins = 0
        self.is_done = False
        self.in_flight = 0
        self.wake = asyncio.Event()

    async def live(self) -> None:
        """Until the task is over for this side."""
        while not self.is_done:
            await self.run.ground.is_up()
            try:
                topic = f"task:{self.run.task_id}"
                async with linked(self.run.ground.market, self.account.api_key, topic, self.hear) as link:
                    self.in_flight = 0
                    self.wake.set()
                    await _first_of(link.read(), self._converse(link))
            except TimeoutError:
                raise  # The server is there and does not answer.
            except LOST:
                assert self.joins <= 2 + self.run.ground.kills, "it is cut again and again"
            finally:
                self.link = None

    def cut(self) -> None:
        """Break its connection."""
        assert self.link is not None
        self.link.cut()

    async def _converse(self, link: Link) -> None:
        await self._join(link)
        while not self.is_done:
            self.wake.clear()
            await self._send(link)
            await self.wake.wait()

    async def _join(self, link: Link) -> None:
        raise NotImplementedError

    async def _send(self, link: Link) -> None:
        raise NotImplementedError

    def hear(self, event: str, payload: Any) -> None:
        raise NotImplementedError

    async def _joined(self, link: Link, asked: dict[str, int]) -> dict[str, Any]:
        """Join, and take the reply before whatever comes after it."""
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        def then(status: str, state: Any) -> None:
            assert status == "ok", state
            self.resumed(state, asked)
            if not answer.done():
                answer.set_result(state)

        await link.post("phx_join", {**asked, "binary": self.is_binary}, then)
        async with asyncio.timeout(30):
            return await answer

    def resumed(self, state: dict[str, Any], asked: dict[str, int]) -> None:
        raise NotImplementedError

    async def _post(self, link: Link, event: str, payload: Any, then: Any) -> None:
        self.in_flight += 1

        def told(status: str, response: Any) -> None:
            assert status == "ok", f"{event}: {response}"
            self.in_flight -= 1
            then(response)
            self.wake.set()

        await link.post(event, payload, told)


class Buyer(Participant):
    """The client: sends its text, and takes the translation."""

    def __init__(self, run: "Run", account: AgentAccount, *, is_binary: bool) -> None:
        super().__init__(run, account, is_binary=is_binary)
        self.log = Log()
        self.progress: list[int] = []
        """How many chunks were done, each time that it was told."""
        self.acked = self.sent = self.sent_max = 0
        self.is_closing = self.is_closed = False
        self.completed: dict[str, Any] | None = None

    async def _join(self, link: Link) -> None:
        await self._joined(link, {"output_from": self.log.next_seq})
        self.link = link
        self.joins += 1
        self.run.look()

    def resumed(self, state: dict[str, Any], asked: dict[str, int]) -> None:
        """What the server has is what it had acknowledged, or more; what it does not have is dropped here."""
        mine, others = state["streams"]["input"], state["streams"]["output"]
        assert self.acked <= mine["next_seq"] <= self.sent_max, "what was acknowledged is lost"
        assert mine["digest"] == DIGESTS["input"][mine["next_seq"]]
        assert mine["complete"] or not self.is_closed
        self.acked = self.sent = mine["next_seq"]
        self.is_closed = self.is_closing = mine["complete"]
        self.run.know("input", self.acked, is_closed=self.is_closed)
        self.log.require(others["next_seq"], others["digest"])
        self.log.drop_from(others["next_seq"])
        told = state["progress"]
        done = int(told["message"]) if told else 0
        while self.progress and self.progress[-1] > done:  # It was relayed, and never stored.
            self.progress.pop()
        if done and (not self.progress or self.progress[-1] < done):
            self.progress.append(done)
        if state["status"] == "completed":
            self.completed = state
        self._look()

    async def _send(self, link: Link) -> None:
        while self.sent < CHUNKS and self.in_flight < IN_FLIGHT:
            seq = self.sent
            self.sent += 1
            self.sent_max = max(self.sent_max, self.sent)
            await self._post(link, "input_stream", chunk_payload(seq, INPUT[seq]), self._acknowledged)
        if self.acked == CHUNKS and not self.is_closing:
            self.is_closing = True
            await self._post(link, "input_complete", checksum(INPUT), self._closed)

    def _acknowledged(self, reply: dict[str, Any]) -> None:
        assert reply["next_seq"] >= self.acked
        assert reply["digest"] == DIGESTS["input"][reply["next_seq"]]
        self.acked = reply["next_seq"]
        self.run.know("input", self.acked)

    def _closed(self, reply: dict[str, Any]) -> None:
        assert reply["verified"]
        self.is_closed = True
        self.run.know("input", CHUNKS, is_closed=True)

    def hear(self, event: str, payload: Any) -> None:
        """Take what the provider sends."""
        match event:
            case "output_stream":
                self.log.take(heard_chunk(payload))
            case "progress":
                done = int(payload["message"])
                assert not self.progress or done > self.progress[-1], "progress came twice, or goes back"
                self.progress.append(done)
            case "output_complete":
                assert payload["verified"]
                self.log.require(payload["next_seq"], payload["digest"])
                assert self.log.next_seq == payload["next_seq"] == CHUNKS
            case "task_completed":
                self.completed = payload["task"]
            case _:
                raise AssertionError(event)
        self._look()

    def _look(self) -> None:
        if self.completed is not None and self.log.next_seq == CHUNKS:
            self.is_done = True
            self.wake.set()


class Move(NamedTuple):
    """Something that a provider has to send: a chunk of the output, progress, or a checkpoint."""

    event: str
    number: int
    payload: Any


class Translator(Participant):
    """The provider: translates what comes, and notes how far it is."""

    def __init__(self, run: "Run", account: AgentAccount, *, is_binary: bool) -> None:
        super().__init__(run, account, is_binary=is_binary)
        self.log = Log()
        self.worker = Worker()
        self.moves: deque[Move] = deque()
        """What is not known to be stored, in order."""
        self.sent = 0
        """How many of them are under way."""
        self._stored = {"output_stream": -1, "progress": 0, "checkpoint": 0}
        """What was stored at the last join: the numbers of the last moves."""
        self.is_lost = False
        """All of its memory is gone: it has its checkpoint, which the server keeps."""
        self.is_input_closed = False
        self.closing = 0
        """How far it is with the end: 1 while the output is closed, 2 once that is stored, 3 while it completes."""
        self.duplicates = 0
        self.checkpoint_known = 0

    async def _join(self, link: Link) -> None:
        if self.is_lost:
            await self._joined(link, {})  # To hear of the checkpoint; what comes until the next join is not taken.
            await self._joined(link, {"input_from": self.worker.done})
        else:
            await self._joined(link, {"input_from": self.log.next_seq})
        self.link = link
        self.joins += 1
        self.run.look()

    def resumed(self, state: dict[str, Any], asked: dict[str, int]) -> None:
        """Go on from what is stored; where memory is gone, or has gone too far, from the checkpoint."""
        mine, others = state["streams"]["output"], state["streams"]["input"]
        kept = state["checkpoint"]
        kept_seq = kept["seq"] if kept else 0
        assert self.checkpoint_known <= kept_seq, "a checkpoint that was acknowledged is lost"
        assert kept_seq <= others["next_seq"], "a checkpoint is stored before what it stands for"
        if kept:
            assert kept["state"]["digest"] == DIGESTS["input"][kept_seq]
            assert kept["state"]["done"] == kept_seq
        self.checkpoint_known = kept_seq
        assert mine["digest"] == DIGESTS["output"][mine["next_seq"]]
        self.log.require(others["next_seq"], others["digest"])
        self.is_input_closed = others["complete"]
        if self.is_lost and not asked:
            self.worker = Worker(kept["state"] if kept else None)
            self.moves.clear()
            self.log.drop_from(kept_seq)
            return
        self.log.drop_from(others["next_seq"])
        if self.worker.done > self.log.next_seq:  # It has worked on what came to nothing.
            self.worker = Worker(kept["state"] if kept else None)
            self.moves.clear()
            for chunk in self.log.chunks[self.worker.done :]:
                self._work(chunk)
        done = int(state["progress"]["message"]) if state["progress"] else 0
        stored = {"output_stream": mine["next_seq"] - 1, "progress": done, "checkpoint": kept_seq}
        if self.is_lost:  # It sends all of its output again that it makes again, as one would that knows no better.
            stored["output_stream"] = -1
            self.is_lost = False
        self._stored = stored
        self.moves = deque(move for move in self.moves if move.number > stored[move.event])
        self.sent = 0
        self.closing = 2 if mine["complete"] else 0
        self.run.know("output", mine["next_seq"], is_closed=mine["complete"])
        self.run.note(*(("progress", number) for number in range(PROGRESS_EVERY, done + 1, PROGRESS_EVERY)))
        self.run.note(*(("checkpoint", number) for number in range(CHECKPOINT_EVERY, kept_seq + 1, CHECKPOINT_EVERY)))
        if state["status"] == "completed":
            self._completed(state)

    def hear(self, event: str, payload: Any) -> None:
        """Take what the client sends."""
        match event:
            case "input_stream":
                heard = heard_chunk(payload)
                if self.is_lost:
                    return
                self.log.take(heard)
                self._work(heard.chunk)
            case "input_complete":
                assert payload["verified"]
                self.is_input_closed = True
            case "task_completed":
                pass  # It is told by the reply as well.
            case _:
                raise AssertionError(event)
        self.wake.set()

    def _work(self, chunk: bytes) -> None:
        worker = self.worker
        moves = [Move("output_stream", worker.done, chunk_payload(worker.done, worker.work(chunk)))]
        done = worker.done
        if done % PROGRESS_EVERY == 0:
            moves.append(Move("progress", done, {"percent": 100 * done // CHUNKS, "message": str(done)}))
        if done % CHECKPOINT_EVERY == 0:
            moves.append(Move("checkpoint", done, {"seq": done, "state": worker.state}))
        self.moves.extend(move for move in moves if move.number > self._stored[move.event])

    async def _send(self, link: Link) -> None:
        while self.sent < len(self.moves) and self.in_flight < IN_FLIGHT:
            move = self.moves[self.sent]
            self.sent += 1
            await self._post(link, move.event, move.payload, self._acknowledged)
        if not self.moves and self.worker.done == CHUNKS and self.is_input_closed:
            if self.closing == 0:
                self.closing = 1
                await self._post(link, "output_complete", checksum(OUTPUT), self._closed)
            elif self.closing == 2:
                self.closing = 3
                await self._post(link, "complete", {"result": self.worker.state}, self._completed)

    def _acknowledged(self, reply: dict[str, Any]) -> None:
        move = self.moves.popleft()
        self.sent -= 1
        if move.event == "output_stream":
            assert reply["seq"] == move.number
            assert reply["digest"] == DIGESTS["output"][reply["next_seq"]]
            self.duplicates += reply.get("duplicate", False)
            self.run.know("output", reply["next_seq"])
        else:
            if move.event == "checkpoint":
                self.checkpoint_known = move.number
            self.run.note((move.event, move.number))

    def _closed(self, reply: dict[str, Any]) -> None:
        assert reply["verified"]
        self.closing = 2
        self.run.know("output", CHUNKS, is_closed=True)

    def _completed(self, task: dict[str, Any]) -> None:
        assert task["status"] == "completed"
        self.run.note(("complete", 0))
        self.is_done = True
        self.wake.set()


class Run:
    """One task from its opening to its end, and what is cut meanwhile.

    Args:
        ground: The server.
        client, provider: The two agents.
        task_id: Theirs.
        cut: What is broken.
    """

    def __init__(self, ground: Ground, client: AgentAccount, provider: AgentAccount, *, task_id: str, cut: Cut) -> None:
        self.ground = ground
        self.task_id = task_id
        self.cut = cut
        self.is_cut = False
        self.known: set[tuple[str, int]] = set()
        self._known_of = {"input": 0, "output": 0}
        self.client = Buyer(self, client, is_binary=cut.at % 2 == 0)
        self.provider = Translator(self, provider, is_binary=cut.at % 3 == 0)

    async def finish(self) -> dict[str, Any]:
        """Work to the end; the task as the client was told at last."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self.client.live())
            both.create_task(self.provider.live())
        assert self.client.completed is not None
        return self.client.completed

    def know(self, direction: str, next_seq: int, *, is_closed: bool = False) -> None:
        """All chunks before one are stored, as their sender knows."""
        first, self._known_of[direction] = self._known_of[direction], max(next_seq, self._known_of[direction])
        self.note(*((direction, seq) for seq in range(first, next_seq)))
        if is_closed:
            self.note((f"{direction}_complete", 0))

    def note(self, *events: tuple[str, int]) -> None:
        """Events are known to be stored."""
        for event in events:
            self.known.add(event)
            self.look()

    def look(self) -> None:
        """Cut, if it is time."""
        if self.is_cut or len(self.known) < self.cut.at:
            return
        client, provider = self.client, self.provider
        parties: dict[str, list[Participant]] = {
            "client": [client],
            "provider": [provider],
            "crash": [provider],
            "both": [client, provider],
        }
        cut_off = parties.get(self.cut.kind, [])
        if any(party.link is None for party in cut_off):
            return  # Not there yet.
        self.is_cut = True
        provider.is_lost = self.cut.kind == "crash"
        for party in cut_off:
            party.cut()
        if self.cut.kind == "server":
            self.ground.kill()


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Do several things until one of them is over, and end the others; what that one raised is raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
