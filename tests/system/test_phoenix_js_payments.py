"""The unmodified `phoenix` from npm pays over a payment channel; Node.js signs, from what the join reply tells."""

import pytest

from tests.system.harness import ROOT, MarketProcess
from tests.system.node import steps_of
from tests.system.payers import PURSE, Payers

SCRIPT = ROOT / "tests/system/js/phoenix_payments.mjs"


@pytest.mark.parametrize("vsn", ["2.0.0", "1.0.0"])
async def test_the_npm_client_pays_and_is_paid(node: str, market: MarketProcess, vsn: str) -> None:
    async with Payers(market) as pair:
        channel = await pair.open_channel(deposit=1_000, counter=0)
        tokens = [
            (await pair.call(who, "POST", "auth/authenticate"))["session_token"] for who in (pair.alice, pair.bob)
        ]
        told = steps_of(
            node,
            SCRIPT,
            market,
            tokens,
            SEED=pair.alice.seed.hex(),
            OTHER_SEED=pair.bob.seed.hex(),
            CHANNEL=channel["id"],
            VSN=vsn,
        )

        assert told["same state"] is True
        assert told["alice pays"] == {"proposed": True, "complete": [[1, 300, 700]] * 2}
        assert told["bob pays"] == {"proposed": True, "complete": [[2, 500, 500]] * 2}
        assert (told["refused"]["reason"], told["refused"]["expected_nonce"]) == ("nonce_gap", 3)
        assert told["close"] == "closed"
        assert told["closed"] == [["joint_close", 500, 500]] * 2
        assert told["done"] is True
        assert await pair.purses() == (PURSE - 500, PURSE + 500)
