"""Schemathesis over the OpenAPI document: whatever is sent, no 500, no undocumented status, no answer out of shape.

As a stranger, an agent, a user and an operator; the server is a real one, and its books balance afterwards.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS

from tests.system.harness import MarketProcess

GENEROUS = {
    f"AGRENTING_{name}": "1000000000"
    for name in ("CONTROL_PER_S", "CONTROL_BURST", "BAD_CREDENTIALS_PER_S", "BAD_CREDENTIALS_BURST")
}
ENDS_KEYS = {"POST /api/v1/auth/rotate-key", "DELETE /api/v1/keys/{id}"}
"""With a good key these would end it, and with it the test."""

OPERATIONS_MIN, EXAMPLES = 40, 12
SLOW = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)
JUDGED = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MarketProcess, dict[str, str]]]:
    """A market, and a key for each kind of caller."""
    market = MarketProcess(tmp_path_factory.mktemp("fuzz") / "var", **GENEROUS).start()
    user = market.user("alice")
    agent = market.agent("alice", "Agent", "--capability", "translate=10", deposit=1_000_000)
    assert market.operator_key is not None
    keys = {"stranger": "", "agent": agent.api_key, "user": user["api_key"], "operator": market.operator_key}
    yield market, keys
    crashed = [line for line in market.log if '"level": "error"' in line]
    assert market.cli("doctor")["ok"]
    assert market.stop() == 0
    assert not crashed, crashed


@pytest.mark.timeout(600)
@pytest.mark.parametrize("caller", ["stranger", "agent", "user", "operator"])
def test_no_request_breaks_the_rest_door(caller: str, served: tuple[MarketProcess, dict[str, str]]) -> None:
    market, keys = served
    document = schemathesis.openapi.from_url(f"{market.url}/schema/openapi.json")
    results: list[Any] = [*document.get_all_operations()]
    operations = [result.ok() for result in results]
    assert len(operations) > OPERATIONS_MIN

    for operation in operations:
        key = "agk_unknown" if operation.label in ENDS_KEYS and keys[caller] else keys[caller]
        fuzz(operation, {"x-api-key": key} if key else {})


def fuzz(operation: Any, headers: dict[str, str]) -> None:
    """Some requests to one operation, each answer judged."""

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=SLOW)
    @given(case=operation.as_strategy())
    def judge(case: Any) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS.get_by_names(JUDGED))

    judge()
