"""The unmodified `phoenix` from npm streams a task both ways, is cut off on each side, and resumes by itself."""

import pytest

from tests.system.halls import open_task
from tests.system.harness import ROOT, MarketProcess
from tests.system.node import steps_of

SCRIPT = ROOT / "tests/system/js/phoenix_streams.mjs"
TEXT, BASE64, BINARY = "utf8", "base64", "binary"


@pytest.mark.parametrize("vsn", ["2.0.0", "1.0.0"])
async def test_the_npm_client_streams_and_resumes(node: str, market: MarketProcess, vsn: str) -> None:
    client, provider = market.pair()
    async with market.client(client.api_key) as buyer:
        await buyer.join("agents:discovery")
        task = await open_task(buyer, provider)
    tokens = []
    for account in (client, provider):
        with market.rest(account.api_key) as rest:
            tokens.append(rest.post("/api/v1/auth/authenticate").json()["data"]["session_token"])
    told = steps_of(node, SCRIPT, market, tokens, timeout_s=90, TASK=task["task_id"], VSN=vsn)

    assert told["checkpoint"] is None
    assert told["cuts"] == 2
    assert told["joins"] == [2, 2]
    assert told["faults"] == []
    assert told["whole"] == [True, True]
    third = BINARY if vsn == "2.0.0" else BASE64
    assert told["forms"] == [[f"0 {TEXT}", f"1 {BASE64}", f"2 {BASE64}"], [f"0 {TEXT}", f"1 {BASE64}", f"2 {third}"]]
    assert told["bad"] == "invalid_payload"
    assert told["verified"] == [True, True]
    assert told["digests"] == [True, True]
    assert told["completed"] == "completed"
    assert told["checkpoint after"] is True
    assert told["done"] is True
