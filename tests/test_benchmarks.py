"""The benchmarks run and print ratios; what they are is no test's business."""

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agrenting.cli import main
from benchmarks import history
from tests.system.harness import ROOT, free_environment


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["echo", "fanout", "commit", "directory", "transfers", "streams", "analytics"])
def test_a_benchmark_prints_ratios(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--only", name, "--seconds", "0.2"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=ROOT,
        env=free_environment(),
    )

    assert done.returncode == 0, done.stderr
    ratios = re.findall(r" (\d+\.\d\d)(?:  |$)", done.stdout)
    assert len(ratios) >= 2
    assert all(float(ratio) > 0 for ratio in ratios)


@pytest.mark.parametrize("agents", [12, 40])
def test_a_past_is_sound_and_ends_now(tmp_path: Path, capsys: pytest.CaptureFixture[str], agents: int) -> None:
    told: list[str] = []

    made = history.make(tmp_path, tasks=600, agents=agents, owners=6, tell=told.append)

    assert main(["doctor", "--data-dir", str(tmp_path)]) == 0, capsys.readouterr().out
    assert history.History.load(tmp_path) == made
    assert len(made.agents) == agents
    assert len({made.owner_of(place) for place in range(agents)}) == 6
    assert [text.partition(":")[0] for text in told][-1] == "roll-ups"


def test_more_happens_by_day_and_on_weekdays() -> None:
    ends = datetime(2030, 1, 31, 12, tzinfo=UTC)

    opened = [
        datetime.fromtimestamp(created / 1_000, UTC)
        for _, _, _, _, _, _, created, *_ in history.planned(20_000, agents=50, ends=ends)
    ]

    assert opened == sorted(opened)
    assert (opened[-1] - opened[0]).days in {history.DAYS - 1, history.DAYS}
    by_day = sum(10 <= then.hour < 18 for then in opened)
    by_night = sum(then.hour < 6 or then.hour >= 22 for then in opened)
    assert by_day > 2 * by_night
    on_weekdays = sum(then.weekday() < 5 for then in opened)
    assert on_weekdays / 5 > 2 * (len(opened) - on_weekdays) / 2
