"""`make bench`."""

import argparse
import os

import uvloop

from benchmarks import directory, measures
from benchmarks.analytics import analytics_
from benchmarks.commits import commit
from benchmarks.measures import Effort, Result
from benchmarks.servers import LOAD_CPU, pin
from benchmarks.streams import streams
from benchmarks.transfers import transfers

MEASURES = {
    "echo": measures.echo,
    "event": measures.event,
    "fanout": measures.fanout,
    "memory": measures.memory,
    "commit": commit,
    "directory": directory.search,
    "transfers": transfers,
    "streams": streams,
    "analytics": analytics_,
}
WHOLE, QUICK = Effort(seconds=3.0, rounds=3), Effort(seconds=1.0, rounds=1)


def main() -> None:
    """Measure what was asked for, and print it as it comes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of each: under a minute, and rough")
    parser.add_argument("--only", choices=MEASURES, action="append", help="measure this alone; may be repeated")
    parser.add_argument("--seconds", type=float, help="seconds a round")
    chosen = parser.parse_args()
    effort = QUICK if chosen.quick else WHOLE
    if chosen.seconds:
        effort = Effort(seconds=chosen.seconds, rounds=effort.rounds)
    pin(os.getpid(), LOAD_CPU)
    print(f"{'':60} {'ours':>14} {'peer':>14} {'ratio':>7}  expected")
    for name in chosen.only or MEASURES:
        for result in uvloop.run(MEASURES[name](effort)):
            show(result)


def show(result: Result) -> None:
    """One line of the table."""
    ratio = "" if result.ratio is None else f"{result.ratio:.2f}"
    print(f"{result.what:60} {result.ours:>14} {result.peer:>14} {ratio:>7}  {result.expected}", flush=True)


if __name__ == "__main__":
    main()
