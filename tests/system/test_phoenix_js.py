"""The unmodified `phoenix` from npm, in V2 and V1: everything that Phoenix's own guides do with it."""

from typing import Any

import pytest

from tests.system.harness import ROOT, MarketProcess
from tests.system.node import steps_of

SCRIPT = ROOT / "tests/system/js/phoenix_client.mjs"


def run(node: str, market: MarketProcess, vsn: str) -> dict[str, Any]:
    """What the script told, by step."""
    client, provider = market.pair()
    tokens = []
    for account in (client, provider):
        with market.rest(account.api_key) as rest:
            tokens.append(rest.post("/api/v1/auth/authenticate").json()["data"]["session_token"])
    return steps_of(node, SCRIPT, market, tokens, VSN=vsn)


@pytest.mark.parametrize("vsn", ["2.0.0", "1.0.0"])
def test_the_npm_client_does_all_that_its_guides_do(node: str, market: MarketProcess, vsn: str) -> None:
    told = run(node, market, vsn)

    assert told["join"] == {"ok": {}}
    assert told["presence"] == [["alice", 1], ["bob", 1]]
    assert told["meta"] == "calm"
    assert told["deny"]["error"]["reason"] == "denied"
    assert told["unmatched"]["error"]["reason"] == "unmatched topic"
    assert told["echo"] == {"ok": {"a": [1, "ü", None]}}
    assert told["error_reply"] == {"error": {"b": 1}}
    assert told["unknown_event"] == "unknown_event"
    assert told["still joined"] == {"ok": {"c": 1}}
    assert told["shout"] == [[{"d": 1}], [{"d": 1}]]
    assert told["shout_from"] == {"from": {"e": 1}}
    assert told["push_me"] == [{"f": 1}]
    assert told["update_meta"] == [1, 1]
    assert told["rejoined after a crash"] == {"ok": {"g": 1}}
    assert told["reconnected and rejoined"] == {"ok": {"h": 1}}
    assert told["leave"] == {"ok": {}}
    assert told["left"] is True
    assert told["stopped"] == "closed"
    assert told["heartbeats"] is True
    assert told["done"] is True
    if vsn == "2.0.0":
        assert told["binary"] == [0, 1, 255]
