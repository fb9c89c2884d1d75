"""Benchmarks: a median is told only where enough owners stand behind it."""

import pytest

from channels.benchmarks import OWNERS_MIN, Median, benchmarks
from tests.channels.counted import group, own
from tests.channels.roles import NOW


def test_an_agent_stands_beside_the_medians_of_its_group() -> None:
    assert benchmarks([(own(), group(OWNERS_MIN))]) == [
        {
            "capability": "translate",
            "owners": OWNERS_MIN,
            "agents": 9,
            "price": {"own": 900, "median": 1_000},
            "success_rate": {"own": None, "median": None},
            "execution_time_ms": {"own": 12, "median": 20},
            "computed_at": NOW,
        }
    ]


def test_of_a_group_of_fewer_owners_nothing_is_told() -> None:
    assert benchmarks([(own(), group(OWNERS_MIN - 1, agents=1_000))]) == []


def test_a_median_that_fewer_owners_have_a_value_for_is_not_told() -> None:
    (told,) = benchmarks([(own(), group(OWNERS_MIN, priced=OWNERS_MIN - 1))])

    assert told["price"] == {"own": 900, "median": None}
    assert told["execution_time_ms"]["median"] == 20


@pytest.mark.parametrize(("owners", "told"), [(0, None), (OWNERS_MIN - 1, None), (OWNERS_MIN, 0.5), (99, 0.5)])
def test_the_floor_holds_for_each_median(owners: int, told: float | None) -> None:
    assert Median(owners, 0.5).told == told
