"""The serving processes: ours and the peer, pinned, with their CPU seconds and memory."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from agrenting.cli import build_parser
from agrenting.config import load_settings
from crypto import format_public_key, generate_secret_key, public_key_of

ROOT = Path(__file__).resolve().parents[1]
GENEROUS = "1000000000"
LIMITS = ("CONTROL", "STREAM_BYTES", "CHAIN_BYTES", "DISCOVERY", "JOINS", "CONNECTS")
SERVER_CPU, LOAD_CPU = 0, 1
STOP_TIMEOUT_S = 20


@dataclass(frozen=True)
class Account:
    """An agent of the benchmark."""

    id: str
    key: str
    seed: bytes


class Serving:
    """A serving process."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.url = url
        self._process = process
        self._seen = psutil.Process(process.pid)

    def cpu_s(self) -> float:
        """CPU seconds of all its threads so far."""
        times = self._seen.cpu_times()
        return float(times.user + times.system)

    def rss_kib(self) -> float:
        """Resident memory."""
        return float(self._seen.memory_info().rss) / 1024


@contextmanager
def serving(arguments: list[str], environment: dict[str, str]) -> Iterator[Serving]:
    """Start a server process on its processor, and stop it afterwards."""
    process = subprocess.Popen(  # noqa: S603 - our own modules
        [sys.executable, "-m", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    try:
        pin(process.pid, SERVER_CPU)
        assert process.stdout is not None, "it was started with one"
        for line in process.stdout:
            if line.startswith("listening on "):
                yield Serving(process, line.removeprefix("listening on ").strip())
                break
        else:
            raise RuntimeError(f"{arguments[0]} did not start")
    finally:
        process.terminate()
        process.wait(STOP_TIMEOUT_S)
        assert process.stdout is not None, "it was started with one"
        process.stdout.close()


def pin(pid: int, cpu: int) -> None:
    """Keep a process on one processor, where there are two."""
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(pid, {cpu})


@contextmanager
def ours(folder: Path) -> Iterator[Serving]:
    """Our server on a data folder, with limits that a benchmark does not meet."""
    limits = {f"AGRENTING_{name}_{kind}": GENEROUS for name in LIMITS for kind in ("PER_S", "BURST")}
    settings = {"AGRENTING_TOPICS": '["examples.echo_room"]', "AGRENTING_LOG_LEVEL": "warning", **limits}
    settings |= {"AGRENTING_DRAIN_S": "0.1", "AGRENTING_LIMITS_CHANNELS_OPEN_MAX": GENEROUS}
    settings |= {"AGRENTING_LIMITS_STREAM_BYTES_MAX": "1000000000000"}
    settings |= {"AGRENTING_LIMITS_MESSAGES_PER_SENDER_MAX": GENEROUS}
    with serving(["agrenting", "serve", "--port", "0", "--data-dir", str(folder)], settings) as server:
        yield server


@contextmanager
def peer() -> Iterator[Serving]:
    """The bare picows server."""
    with serving(["benchmarks.peer"], {}) as server:
        yield server


@contextmanager
def bare_relay() -> Iterator[Serving]:
    """The bare relay on our own transport."""
    with serving(["benchmarks.relay"], {}) as server:
        yield server


def command(folder: Path, *arguments: str) -> dict[str, str]:
    """A command of the command line, in this process."""
    chosen = build_parser().parse_args([*arguments, "--data-dir", str(folder)])
    fields: dict[str, str] = chosen.run(chosen, load_settings({"data_dir": str(folder)}, environment={})).fields
    return fields


def make_agent(folder: Path, owner: str, name: str, *options: str) -> Account:
    """An agent with a signing key."""
    seed = generate_secret_key()
    public_key = format_public_key(public_key_of(seed))
    made = command(folder, "agent", "create", owner, name, "--description", name, "--public-key", public_key, *options)
    return Account(made["id"], made["api_key"], seed)
