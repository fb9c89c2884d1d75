// The steps of a payment channel as a table, with the balances after each.
import { useState } from "preact/hooks";
import { count, decimalsOf, moment, money, shortId, words } from "../../format";
import { Ago, Badge, Button, type Tone } from "../../parts/basics";
import { type Column, Table } from "../../parts/table";
import { taskHref } from "../../router";
import { isNarrow } from "../../theme";
import { AgentName } from "../names";
import { amountOf, type Channel, STEP_TITLES, type Step, textOf } from "./told";

const TONES: Readonly<Record<string, Tone>> = {
  transfer: "good",
  voided: "warn",
  dispute: "bad",
  state_lost: "bad",
  force_close: "warn",
  revoked: "warn",
};

/** Steps that a phone shows at first, and more of them each time: a card has several lines. */
const CARDS_STEP = 20;

/** The steps, newest first. On a phone the newest few, until more are asked for. */
export function Steps(props: { steps: readonly Step[]; channel: Channel; agentId: string }) {
  const [cardsMax, setCardsMax] = useState(CARDS_STEP);
  const { steps } = props;
  if (!isNarrow.value || steps.length <= cardsMax) return <StepTable {...props} />;
  return (
    <>
      <StepTable {...props} steps={steps.slice(0, cardsMax)} />
      <div class="pager">
        <Button size="small" onClick={() => setCardsMax(cardsMax + CARDS_STEP)}>
          Show more ({count(steps.length - cardsMax)} left)
        </Button>
      </div>
    </>
  );
}

function StepTable({ steps, channel, agentId }: { steps: readonly Step[]; channel: Channel; agentId: string }) {
  const isA = channel.agent_a_id === agentId;
  const decimals = decimalsOf(
    steps.flatMap((step) => [step.balance_a, step.balance_b, amountOf(step)]),
    channel,
  );
  const columns: Column<Step>[] = [
    {
      key: "kind",
      title: "What",
      isHead: true,
      cell: (step) => <Badge tone={TONES[step.kind] ?? "neutral"}>{titleOf(step, agentId)}</Badge>,
    },
    {
      key: "nonce",
      title: "Nonce",
      align: "right",
      isEmpty: (step) => nonceOf(step) === null,
      cell: (step) => <span class="num">{nonceOf(step) ?? "–"}</span>,
    },
    {
      key: "amount",
      title: "Amount",
      align: "right",
      isEmpty: (step) => amountOf(step) === null,
      cell: (step) => <Amount step={step} channel={channel} agentId={agentId} decimals={decimals} />,
    },
    {
      key: "memo",
      title: "For",
      isEmpty: (step) => Object.values(saidOf(step)).every((each) => each === null),
      cell: (step) => <About step={step} agentId={agentId} />,
    },
    {
      key: "own",
      title: "This agent has",
      align: "right",
      cell: (step) => <span class="num">{money(isA ? step.balance_a : step.balance_b, channel, decimals)}</span>,
    },
    {
      key: "other",
      title: "The other has",
      align: "right",
      cell: (step) => <span class="num">{money(isA ? step.balance_b : step.balance_a, channel, decimals)}</span>,
    },
    {
      key: "at",
      title: "When",
      align: "right",
      cell: (step) => (
        <span class="num nowrap" title={moment(step.at)}>
          <Ago at={step.at} />
        </span>
      ),
    },
  ];
  return (
    <Table
      caption="Transfers and steps, newest first"
      columns={columns}
      rows={steps}
      rowKey={(step) => String(step.number)}
    />
  );
}

function isPayment(step: Step): boolean {
  return step.kind === "transfer" || step.kind === "voided";
}

function nonceOf(step: Step): string | null {
  const { nonce } = step.details;
  return isPayment(step) && typeof nonce === "number" ? count(nonce) : null;
}

function titleOf(step: Step, agentId: string): string {
  if (step.kind === "transfer") return step.details.from_agent_id === agentId ? "Paid" : "Received";
  if (step.kind === "voided") return words(textOf(step, "reason") ?? "not paid");
  return STEP_TITLES[step.kind] ?? words(step.kind);
}

/** What it moved for this agent, with its sign; what was not paid is struck through. */
function Amount({
  step,
  channel,
  agentId,
  decimals,
}: {
  step: Step;
  channel: Channel;
  agentId: string;
  decimals: number;
}) {
  const amount = amountOf(step);
  if (amount === null) return <span class="muted">–</span>;
  const written = money(amount, channel, decimals);
  if (step.kind === "voided") {
    return (
      <s class="num muted" title="It was proposed, and not paid.">
        {written}
      </s>
    );
  }
  // A deposit raises what its own side has, and pays nobody.
  if (step.kind !== "transfer") return <span class="num">{written}</span>;
  const isOut = step.details.from_agent_id === agentId;
  return (
    <span class={isOut ? "num amount-out" : "num amount-in"}>
      {isOut ? "−" : "+"}
      {written}
    </span>
  );
}

/** What it was for, and who did it, as far as that says more than the other columns. */
function saidOf(step: Step) {
  return {
    memo: textOf(step, "memo"),
    taskId: textOf(step, "task_id"),
    said: textOf(step, "text") ?? (step.kind === "voided" ? null : textOf(step, "reason")),
    by: isPayment(step) ? null : step.agent_id,
  };
}

function About({ step, agentId }: { step: Step; agentId: string }) {
  const { memo, taskId, said, by } = saidOf(step);
  if (memo === null && taskId === null && said === null && by === null) return <span class="muted">–</span>;
  return (
    <span class="about">
      {memo !== null && <span>{memo}</span>}
      {taskId !== null && <a href={taskHref(agentId, taskId)}>task {shortId(taskId)}</a>}
      {said !== null && <q>{said}</q>}
      {by !== null && <AgentName id={by} agentId={agentId} />}
    </span>
  );
}
