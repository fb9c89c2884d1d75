"""Rates, ids, times and settings."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrenting import rates
from agrenting.clock import EPOCH, day_of, from_ms, system_clock, to_ms
from agrenting.config import Settings, SettingsError, load_settings
from agrenting.ids import new_id, new_phx_ref, new_secret, new_token
from agrenting.rates import Buckets, TokenBucket
from agrenting.serve import KEEP_ALIVE_S
from channels.errors import RateLimited


class Seconds:
    """Seconds that only grow when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    bucket = TokenBucket(per_s=2.0, burst=3.0, now=0.0)

    assert [bucket.take(1.0, 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(1.0, 0.5) == 0.0
    assert bucket.take(1.0, 0.5) == 0.5


def test_what_a_bucket_refuses_costs_nothing() -> None:
    bucket = TokenBucket(per_s=1.0, burst=10.0, now=0.0)

    assert bucket.take(11.0, 0.0) == 1.0
    assert bucket.take(10.0, 0.0) == 0.0


def test_an_idle_bucket_fills_no_further_than_its_burst() -> None:
    bucket = TokenBucket(per_s=100.0, burst=2.0, now=0.0)

    assert [bucket.take(1.0, 1_000.0) > 0 for _ in range(3)] == [False, False, True]


@given(st.lists(st.tuples(st.floats(0.0, 2.0), st.floats(0.0, 5.0)), max_size=50))
def test_no_more_is_ever_taken_than_burst_and_rate_allow(steps: list[tuple[float, float]]) -> None:
    bucket, now, taken = TokenBucket(per_s=3.0, burst=4.0, now=0.0), 0.0, 0.0
    for pause, cost in steps:
        now += pause
        wait_s = bucket.take(cost, now)
        if wait_s == 0.0:
            taken += cost
        else:
            assert TokenBucket(3.0, 4.0, 0.0).take(cost, 0.0) > 0 or wait_s <= cost / 3.0
        assert taken <= 4.0 + 3.0 * now + 1e-6


def test_buckets_are_apart_by_key_and_a_refusal_says_when_to_come_back() -> None:
    seconds = Seconds()
    buckets = Buckets(per_s=0.5, burst=1.0, monotonic=seconds)
    buckets.take("alice")
    buckets.take("bob")

    with pytest.raises(RateLimited) as no:
        buckets.take("alice")

    assert (no.value.reason, no.value.context["retry_after"]) == ("rate_limited", 2)
    seconds.now += no.value.context["retry_after"]
    buckets.take("alice")


def test_a_retry_after_is_a_whole_second_at_least() -> None:
    assert [rates.too_often(wait_s).context["retry_after"] for wait_s in (0.001, 0.9, 1.0, 59.7)] == [1, 1, 1, 60]


def test_the_longest_unused_bucket_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "KEPT_MAX", 2)
    buckets = Buckets(per_s=0.1, burst=1.0, monotonic=Seconds())
    for key in ("alice", "bob"):
        buckets.take(key)
    with pytest.raises(RateLimited):
        buckets.take("alice")  # She was here last now.
    buckets.take("carol")
    with pytest.raises(RateLimited):
        buckets.take("alice")
    buckets.take("bob")  # He was forgotten, and has a full bucket again.


def test_ids_are_uuids_of_version_7_and_grow() -> None:
    made = [new_id() for _ in range(5_000)]

    assert made == sorted(made)
    assert len(set(made)) == len(made)
    shape = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
    assert all(shape.fullmatch(id_) for id_ in made)
    stamp = from_ms(int(made[0].replace("-", "")[:12], 16))
    assert abs(stamp - datetime.now(UTC)) < timedelta(minutes=1)


def test_secrets_and_refs_are_long_and_unique() -> None:
    secrets = {new_secret("agk") for _ in range(100)}
    refs = {new_phx_ref() for _ in range(100)}

    assert len(secrets) == len(refs) == 100
    assert all(re.fullmatch(r"agk_[A-Za-z0-9_-]{43}", secret) for secret in secrets)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{16}", ref) for ref in refs)


def test_tokens_are_long_and_unique_and_nothing_takes_them_for_an_option() -> None:
    tokens = {new_token() for _ in range(1_000)}

    assert len(tokens) == 1_000
    assert all(re.fullmatch(r"[0-9a-f]{64}", token) for token in tokens)


def test_the_clock_reads_whole_milliseconds_in_utc() -> None:
    now = system_clock()

    assert now.tzinfo is UTC
    assert now.microsecond % 1_000 == 0
    assert from_ms(to_ms(now)) == now


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis adds the zone
def test_milliseconds_are_rounded_down(moment: datetime) -> None:
    kept = from_ms(to_ms(moment))

    assert timedelta(0) <= moment - kept < timedelta(milliseconds=1)
    assert day_of(kept) == moment.date().isoformat()


def test_the_epoch_is_0() -> None:
    assert (to_ms(EPOCH), day_of(EPOCH)) == (0, "1970-01-01")


def test_settings_come_from_defaults_then_file_then_environment_then_command_line(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('port = 1\nhost = "file"\nfee_bps = 7\n[limits]\nrounds_per_side_max = 3\n', "utf-8")
    environment = {
        "AGRENTING_CONFIG": str(path),
        "AGRENTING_PORT": "2",
        "AGRENTING_HOST": "environment",
        "AGRENTING_TOPICS": '["examples.echo_room"]',
        "AGRENTING_LIMITS_TASKS_OPEN_MAX": "9",
        "AGRENTING_DRAIN_S": "0.5",
        "AGRENTING_ON_METRICS": "false",
        "PATH": "/bin",
    }

    settings = load_settings({"host": "command line", "data_dir": None}, environment)

    assert (settings.host, settings.port, settings.fee_bps) == ("command line", 2, 7)
    assert (settings.limits.rounds_per_side_max, settings.limits.tasks_open_max) == (3, 9)
    assert (settings.topics, settings.drain_s, settings.on_metrics) == (("examples.echo_room",), 0.5, False)
    assert settings.data_dir == Settings().data_dir


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"AGRENTING_PROT": "4000"}, "prot"),
        ({"AGRENTING_LIMITS_PRICE": "1"}, "limits.price"),
        ({"AGRENTING_LIMITS": '{"a":1}'}, "AGRENTING_LIMITS"),
        ({"AGRENTING_PORT": "many"}, "port"),
        ({"AGRENTING_TOPICS": '["open'}, "JSON"),
        ({"AGRENTING_TOPICS": "examples.echo_room"}, "topics"),
        ({"AGRENTING_LOG_FORMAT": "xml"}, "log_format"),
        ({"AGRENTING_CONFIG": "/nowhere/settings.toml"}, "/nowhere/settings.toml"),
        ({"AGRENTING_LOG_LEVEL": "loud"}, "log_level"),
        ({"AGRENTING_COMMIT_BATCH_MAX": "0"}, "commit_batch_max"),
        ({"AGRENTING_OUTBOX_BYTES_MAX": "-1"}, "outbox_bytes_max"),
        ({"AGRENTING_CONTROL_PER_S": "0"}, "control_per_s"),
        ({"AGRENTING_FEE_BPS": "10001"}, "fee_bps"),
        ({"AGRENTING_LIMITS_HOLD_DEFAULT_S": "604801"}, "limits.hold_default_s"),
        ({"AGRENTING_LIMITS_HOLD_DEFAULT_S": "-1"}, "limits.hold_default_s"),
        ({"AGRENTING_PORT": "70000"}, "port"),
        ({"AGRENTING_MESSAGE_REPEATS_S": "[]"}, "message_repeats_s has one time at least"),
        ({"AGRENTING_MESSAGE_REPEATS_S": "[5, 5]"}, "each is later than the one before"),
        ({"AGRENTING_MESSAGE_REPEATS_S": "[5, 20, 10]"}, "each is later than the one before"),
        ({"AGRENTING_MESSAGE_REPEATS_S": "[0, 5]"}, "message_repeats_s is above 0"),
    ],
    ids=str,
)
def test_a_setting_that_does_not_fit_is_an_error_that_names_it(environment: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(named)):
        load_settings(None, environment)


@pytest.mark.parametrize("text", ["port = ", "prot = 1", "[limits]\nprice = 1", 'limits = "x"', "port = []"])
def test_a_file_that_does_not_fit_is_an_error(tmp_path: Path, text: str) -> None:
    path: Any = tmp_path / "settings.toml"
    path.write_text(text, "utf-8")

    with pytest.raises(SettingsError):
        load_settings(None, {}, path)


def test_the_server_keeps_idle_connections_for_longer_than_clients_of_rest_do() -> None:
    kept_by_client_s = httpx.Limits().keepalive_expiry

    assert kept_by_client_s is not None
    assert kept_by_client_s < KEEP_ALIVE_S / 2
