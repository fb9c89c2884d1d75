"""Small payments: a payee that sells words one by one, and a payer that buys some, over one payment channel.

    python small_payments.py payee --as mirror.toml --price 0.05
    python small_payments.py payer --as reader.toml --to alice/mirror --price 0.05 the market answers

The payer locks a deposit once. For each word it pays a little, with a payment that both sides sign, and then asks for
the word by a message that names the payment. The payee looks whether it has it, and answers by a message. At the end
the two close the channel, each has its money, and the payer checks the channel's receipt.
"""

import argparse
import asyncio

from agrenting_client import AcceptChannels, AcknowledgeWhen, Agent, Message, ProposedPayment, RejectMessage

WORDS = {"agent": "Agent", "answers": "antwortet", "market": "Markt", "the": "der"}
ANSWER_TIMEOUT_S = 30.0


class Payee:
    """Sells words: each for one payment of just the price."""

    def __init__(self, agent: Agent, price: str) -> None:
        self._agent = agent
        self._price = price
        self._unused: set[tuple[str, int]] = set()
        """Payments that no word was asked for yet: channel and nonce."""

    async def decide(self, payment: ProposedPayment) -> bool | str:
        """Whether to sign a payment."""
        if payment.amount != self._agent.amount(self._price):
            return f"a word costs {self._price}"
        self._unused.add((payment.channel_id, payment.nonce))
        return True

    async def sell(self, message: Message) -> None:
        """Answer what was asked for, if it was paid."""
        asked = message.payload
        paid = (asked["channel_id"], asked["nonce"])
        if message.from_agent_id is None or paid not in self._unused:
            raise RejectMessage("this was not paid")
        self._unused.remove(paid)
        answer = {"word": WORDS.get(asked["word"], asked["word"]), "nonce": asked["nonce"]}
        await self._agent.send(message.from_agent_id, "x_word", answer)


async def be_payee(agent: Agent, chosen: argparse.Namespace) -> None:
    """Sell until Ctrl-C."""
    payee = Payee(agent, chosen.price)
    agent.accept_channels(AcceptChannels(acknowledge=AcknowledgeWhen(payee.decide), deposit_max=chosen.deposit_max))
    agent.on_message("x_ask")(payee.sell)
    async with agent:
        await agent.serve(on_ready=lambda: print(f"{agent.handle} sells words for {chosen.price}", flush=True))


async def be_payer(agent: Agent, chosen: argparse.Namespace) -> None:
    """Buy the words and close."""
    answers: asyncio.Queue[dict[str, str]] = asyncio.Queue()

    async def heard(message: Message) -> None:
        answers.put_nowait(message.payload)

    agent.on_message("x_word")(heard)
    async with agent:
        channel = await agent.open_channel(chosen.to, deposit=chosen.deposit)
        for word in chosen.words:
            nonce = await channel.pay(chosen.price, memo=f"the word {word}")
            await agent.send(chosen.to, "x_ask", {"word": word, "channel_id": channel.id, "nonce": nonce})
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                print((await answers.get())["word"], flush=True)
        end = await channel.close()
        receipt = await channel.receipt()
        print(
            f"paid {agent.money(end.other)} in {len(chosen.words)} steps; the receipt has {len(receipt.checks)} checks"
        )


async def main() -> None:
    """Read the command line and pay, or be paid."""
    parser = argparse.ArgumentParser(description="Sell or buy words, one by one, over a payment channel.")
    roles = parser.add_subparsers(dest="role", required=True)
    payee = roles.add_parser("payee", help="sell words until Ctrl-C")
    payee.add_argument("--deposit-max", default="5.00", help="of channels that are accepted (default: 5.00)")
    payer = roles.add_parser("payer", help="buy words")
    payer.add_argument("--to", required=True, metavar="HANDLE", help="the payee")
    payer.add_argument("--deposit", default="1.00", help="what is locked, in major units (default: 1.00)")
    payer.add_argument("words", nargs="+")
    for role in (payee, payer):
        role.add_argument("--as", dest="credentials", metavar="FILE", help="credentials (or the environment)")
        role.add_argument("--price", default="0.05", help="of one word, in major units (default: 0.05)")
    chosen = parser.parse_args()
    agent = Agent.from_file(chosen.credentials) if chosen.credentials else Agent.from_environment()
    await (be_payee if chosen.role == "payee" else be_payer)(agent, chosen)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        raise SystemExit("stopped; the channel stays open") from None
