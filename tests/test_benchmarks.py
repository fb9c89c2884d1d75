"""The benchmarks run and print ratios; what they are is no test's business."""

import re
import subprocess
import sys

import pytest

from tests.system.harness import ROOT, free_environment


@pytest.mark.parametrize("name", ["echo", "fanout", "commit", "directory", "transfers", "streams"])
def test_a_benchmark_prints_ratios(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--only", name, "--seconds", "0.2"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=ROOT,
        env=free_environment(),
    )

    assert done.returncode == 0, done.stderr
    ratios = re.findall(r" (\d+\.\d\d)(?:  |$)", done.stdout)
    assert len(ratios) >= 2
    assert all(float(ratio) > 0 for ratio in ratios)
