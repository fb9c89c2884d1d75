// What each party has in a channel, as amounts and as one bar.
import { decimalsOf, money } from "../../format";
import type { Channel } from "./told";

export function BalanceBar({
  channel,
  agentId,
  names,
}: {
  channel: Channel;
  agentId: string;
  names: { own: string; other: string };
}) {
  const isA = channel.agent_a_id === agentId;
  const ended = channel.final_balance_a !== null && channel.final_balance_b !== null;
  const a = channel.final_balance_a ?? channel.balance_a;
  const b = channel.final_balance_b ?? channel.balance_b;
  const [own, other] = isA ? [a, b] : [b, a];
  const [ownDeposit, otherDeposit] = isA
    ? [channel.deposit_a, channel.deposit_b]
    : [channel.deposit_b, channel.deposit_a];
  const total = own + other;
  const decimals = decimalsOf([own, other], channel);
  const part = total === 0 ? 50 : (own / total) * 100;
  return (
    <section class="balances card" aria-label="Balances">
      <div class="balances-words">
        <Side
          name={names.own}
          note="this agent"
          amount={own}
          deposit={ownDeposit}
          channel={channel}
          decimals={decimals}
          testId="balance-own"
        />
        <Side
          name={names.other}
          note="the other"
          amount={other}
          deposit={otherDeposit}
          channel={channel}
          decimals={decimals}
          testId="balance-other"
          isRight
        />
      </div>
      <div
        class="balances-bar"
        role="img"
        aria-label={`${money(own, channel)} of ${money(total, channel)} are ${ended ? "paid to" : "of"} this agent`}
      >
        <span class="balances-own" style={{ width: `${part}%` }} />
        <span class="balances-other" />
      </div>
    </section>
  );
}

function Side(props: {
  name: string;
  note: string;
  amount: number;
  deposit: number;
  channel: Channel;
  decimals: number;
  testId: string;
  isRight?: boolean;
}) {
  const gained = props.amount - props.deposit;
  const sign = gained > 0 ? "+" : gained < 0 ? "−" : "±";
  return (
    <div class={props.isRight ? "balances-side is-right" : "balances-side"}>
      <p class="balances-name">
        {props.name} <span class="muted">{props.note}</span>
      </p>
      <p class="balances-amount num" data-testid={props.testId}>
        {money(props.amount, props.channel, props.decimals)}
      </p>
      <p class="balances-note num muted">
        {money(props.deposit, props.channel)} deposited,{" "}
        <span class="nowrap">
          {sign}
          {money(Math.abs(gained), props.channel)}
        </span>
      </p>
    </div>
  );
}
