"""For whoever runs the server: alive, ready, counted."""

from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from agrenting import __version__
from crypto import did_from_public_key, format_public_key
from tests.agrenting.api.market import Caller, Marketplace, marketplace


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
async def test_a_running_server_is_alive_and_ready(market: Marketplace, path: str) -> None:
    assert await market.anybody.get(path) == {"status": "ok"}


async def test_a_draining_server_is_alive_and_not_ready(market: Marketplace) -> None:
    market.server.hub.is_draining = True

    assert (await market.anybody.refused("GET", "/health/ready")).why == (503, "draining")
    assert await market.anybody.get("/health/live") == {"status": "ok"}


async def test_a_server_without_its_database_is_alive_and_not_ready(
    market: Marketplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_question: Any) -> Any:
        raise OperationalError("SELECT 1", {}, Exception("disk I/O error"))

    monkeypatch.setattr(market.server.engine, "read", fail)

    assert (await market.anybody.refused("GET", "/health/ready")).why == (503, "unavailable")
    assert await market.anybody.get("/health/live") == {"status": "ok"}


async def test_metrics_count_requests_and_balance_the_books(market: Marketplace, olga: Caller) -> None:
    await olga.get("/me")
    await olga.refused("GET", "/nothing")
    await market.http.request("BREW", "/api/v1/me")

    answer = await market.anybody.call("GET", "/metrics")

    lines = answer.text.splitlines()
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'agrenting_http_requests_total{method="GET",status="200"} 1.0' in lines
    assert 'agrenting_http_requests_total{method="GET",status="404"} 1.0' in lines
    assert 'agrenting_http_requests_total{method="OTHER",status="405"} 1.0' in lines
    assert "agrenting_ledger_difference 0.0" in lines


async def test_metrics_can_be_switched_off(folder: Any) -> None:
    async with marketplace(folder, on_metrics=False) as market:
        assert (await market.anybody.refused("GET", "/metrics")).why == (404, "not_found")


async def test_meta_says_what_one_needs_to_sign_and_to_connect(market: Marketplace) -> None:
    meta = await market.anybody.get("/meta")

    engine_market = market.server.engine.market
    assert meta["signing_domain"] == engine_market.signing_domain
    assert (meta["currency"], meta["exponent"], meta["fee_bps"]) == ("USD", 6, 500)
    assert meta["platform"] == {
        "public_key": format_public_key(market.server.public_key),
        "did": did_from_public_key(market.server.public_key),
    }
    assert (meta["version"], meta["vsn"]) == (__version__, ["1.0.0", "2.0.0"])
    assert "/socket/websocket" in meta["sockets"]["agent"]
    assert meta["limits"]["price_max"] == engine_market.limits.price_max
    assert meta["sizes"]["body_bytes_max"] == market.server.settings.body_bytes_max
