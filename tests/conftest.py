"""Rules for every test of the house. Fixtures stand in the conftest.py of the folder that uses them.

Under `CI=true` nothing is skipped quietly: a skip fails with its reason, because a test that did not run proves
nothing. On a developer's machine a skip stays a skip. Tests marked `long` are left out by the default options in
pyproject.toml; `make test-long` asks for them. However slow the machine is, no example of Hypothesis takes too long.
A Ctrl-C reaches the programs that tests start, also where the tests themselves run in the background.
"""

import os
import signal
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "house",
    parent=settings.get_profile(settings.get_current_profile_name()),
    deadline=None,
    suppress_health_check=(HealthCheck.too_slow,),
)
settings.load_profile("house")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # As a shell starts what runs in its background.
    signal.signal(signal.SIGINT, signal.default_int_handler)  # What the tests start is to hear a Ctrl-C.

SKIPS_FAIL = os.environ.get("CI") == "true"


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    is_expected_failure = hasattr(report, "wasxfail")  # pytest reports an expected failure as a skip as well.
    if SKIPS_FAIL and report.skipped and not is_expected_failure:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} did not run, and CI skips nothing. {reason}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one under CI."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a skipped module into a failed one under CI."""
    report = yield
    _refuse_skip(report)
    return report
