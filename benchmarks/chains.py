"""Offline transfers: chains handed in one after the other, and another agent's events meanwhile."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass

from picows import WSFrame, WSMsgType, WSTransport

from benchmarks.load import Client, Script
from benchmarks.paying import AMOUNT, HEAD_BYTES, Channel, Signed

ANSWER_WITHIN_S = 30.0
PROBES_PER_S = 200


@dataclass(frozen=True, eq=False)
class Chain:
    """Transfers that are handed in at once, and the frame that does it."""

    transfers: list[Signed]
    frame: bytes


class Submitter(Client):
    """The opener's socket on an offline channel: hands in one chain after the other."""

    def __init__(self, channel: Channel, length: int) -> None:
        super().__init__(Script(channel.topic, key=channel.opener.key), 1)
        self.channel = channel
        self.length = length
        self.done: list[Signed] = []
        self._ready: deque[Chain] = deque()
        self._answered: asyncio.Future[bytes]

    def chains(self, count: int) -> list[Chain]:
        """The next chains, signed and encoded. Those of the last time that were not handed in come first."""
        missing = max(0, count - len(self._ready))
        self.channel.provide(missing * self.length)
        for _ in range(missing):
            self._ready.append(self._chain([self.channel.signed.popleft() for _ in range(self.length)]))
        return list(self._ready)

    def _chain(self, transfers: list[Signed]) -> Chain:
        payer = self.channel.opener.id
        chain = ",".join(
            f'{{"amount":{AMOUNT},"nonce":{one.nonce},"from_agent_id":"{payer}","task_id":null,'
            f'"signature_a":"{one.signature_a}","signature_b":"{one.signature_b}"}}'
            for one in transfers
        )
        front = f'["1","2","{self.channel.topic}","submit_transfers",'
        return Chain(transfers, f'{front}{{"transfers":[{chain}]}}]'.encode())

    async def submit(self, chain: Chain) -> None:
        """Hand in the next chain, and wait until it is durable."""
        self._answered = asyncio.get_running_loop().create_future()
        self.transport.send(WSMsgType.TEXT, chain.frame)
        answer = await asyncio.wait_for(self._answered, ANSWER_WITHIN_S)
        if b'"status":"ok"' not in answer[:HEAD_BYTES]:
            raise RuntimeError(f"a chain was refused: {answer.decode()}")
        self.done += chain.transfers
        self._ready.remove(chain)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002 - picows hands it over
        """Hear the reply."""
        payload = frame.get_payload_as_bytes()
        if b'"phx_reply"' in payload[:HEAD_BYTES]:
            (self._answered if self.joined.done() else self.joined).set_result(payload)


class Prober(Client):
    """A socket that now and then pushes a durable event, and notes how long each reply took."""

    def __init__(self, script: Script) -> None:
        super().__init__(script, 1)
        self.answered_s: list[float] = []
        self.all_answered = asyncio.Event()
        self.all_answered.set()
        self._sent_at: deque[float] = deque()

    def push(self) -> None:
        """Push once."""
        self._sent_at.append(time.perf_counter())
        self.all_answered.clear()
        super().push()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Hear a reply."""
        if self.joined.done() and b'"phx_reply"' in frame.get_payload_as_bytes()[:HEAD_BYTES]:
            self.answered_s.append(time.perf_counter() - self._sent_at.popleft())
            if not self._sent_at:
                self.all_answered.set()
        super().on_ws_frame(transport, frame)


async def probe(probers: list[Prober], seconds: float) -> list[float]:
    """Push at a fixed rate, whether answered or not, in turn from each socket; the seconds that each reply took.

    A fixed rate, because who waits for one reply before it asks again would leave out what it would have met meanwhile.
    """
    for prober in probers:
        prober.answered_s.clear()
    started, pushed = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        probers[pushed % len(probers)].push()
        pushed += 1
        await asyncio.sleep(max(0.0, started + pushed / PROBES_PER_S - time.perf_counter()))
    await asyncio.wait_for(asyncio.gather(*(prober.all_answered.wait() for prober in probers)), ANSWER_WITHIN_S)
    if errors := sum(prober.errors for prober in probers):
        raise RuntimeError(f"{errors} of {pushed} replies were errors")
    return [took for prober in probers for took in prober.answered_s]
