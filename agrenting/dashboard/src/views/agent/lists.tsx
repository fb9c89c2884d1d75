// What an agent takes part in: its tasks, negotiations and payment channels.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { count, decimalsOf, money, shortId, words } from "../../format";
import { Ago, Button, Card, Empty, ErrorBox, Loading, StatusBadge } from "../../parts/basics";
import { type Option, Segmented, Select } from "../../parts/controls";
import type { IconName } from "../../parts/icons";
import { type Column, Table } from "../../parts/table";
import { channelHref, taskHref } from "../../router";
import { actingAs, currency } from "../../session";
import type { Channel } from "../channel/told";
import { AgentName } from "../names";
import type { Task } from "../task/told";
import { type Paged, usePaged } from "./paged";

interface ListProps {
  agentId: string;
  version: number;
}

type Role = "all" | "provider" | "client";

const ROLES: readonly Option<Role>[] = [
  { value: "all", label: "All" },
  { value: "provider", label: "Works" },
  { value: "client", label: "Hires" },
];

function statuses(...names: string[]): Option<string>[] {
  return [{ value: "", label: "Any state" }, ...names.map((name) => ({ value: name, label: words(name) }))];
}

const TASK_STATUSES = statuses("pending", "in_progress", "completed", "failed", "cancelled", "disputed");
const NEGOTIATION_STATUSES = statuses("open", "agreed", "rejected", "expired", "cancelled");
const CHANNEL_STATUSES = statuses("pending", "open", "closing", "disputed", "closed", "declined", "expired");

/** The frame of a list: its filters, its table in whichever state, and more of it. */
function ListCard<Item extends { id: string }>(props: {
  title: string;
  testId: string;
  filters: ComponentChildren;
  paged: Paged<Item>;
  columns: readonly Column<Item>[];
  caption: string;
  icon: IconName;
  emptyTitle: string;
  emptyText: string;
}) {
  const { paged } = props;
  return (
    <Card title={props.title} flush testId={props.testId} actions={props.filters}>
      {paged.refusal !== null && <ErrorBox refusal={paged.refusal} onRetry={paged.reload} />}
      {paged.items === null ? (
        paged.refusal === null && <Loading rows={6} />
      ) : (
        <Table
          caption={props.caption}
          columns={props.columns}
          rows={paged.items}
          rowKey={(item) => item.id}
          empty={
            <Empty icon={props.icon} title={props.emptyTitle}>
              {props.emptyText}
            </Empty>
          }
        />
      )}
      {paged.hasMore && (
        <div class="pager">
          <Button isBusy={paged.isReading} onClick={paged.readMore}>
            Show more
          </Button>
        </div>
      )}
    </Card>
  );
}

function useFilters(list: string, options: readonly Option<string>[], roles: readonly Option<Role>[] = ROLES) {
  const [role, setRole] = useState<Role>("all");
  const [status, setStatus] = useState("");
  const filters = (
    <>
      <Segmented label={`Part in ${list}`} options={roles} value={role} onChange={setRole} />
      <Select label={`State of ${list}`} options={options} value={status} onChange={setStatus} />
    </>
  );
  return { role, status: status === "" ? null : status, filters, isNarrowed: role !== "all" || status !== "" };
}

const NARROWED = "Nothing fits what is chosen above.";

export function Tasks({ agentId, version }: ListProps) {
  const { role, status, filters, isNarrowed } = useFilters("tasks", TASK_STATUSES);
  const paged = usePaged<Task & { id: string }>(
    "/tasks",
    { role: role === "all" ? null : role, status },
    actingAs(agentId),
    version,
  );
  const rows = paged.items ?? [];
  const decimals = decimalsOf(
    rows.map((task) => (task.stream_price === null ? task.price : task.paid)),
    currency.value,
  );
  const columns: Column<Task & { id: string }>[] = [
    {
      key: "capability",
      title: "Task",
      isHead: true,
      cell: (task) => (
        <a href={taskHref(agentId, task.id)} title={task.id}>
          {task.capability} <span class="mono muted">{shortId(task.id)}</span>
        </a>
      ),
    },
    { key: "status", title: "State", cell: (task) => <StatusBadge status={task.status} /> },
    { key: "part", title: "Part", cell: (task) => (task.provider_agent_id === agentId ? "works for" : "hires") },
    {
      key: "other",
      title: "Counterparty",
      cell: (task) => (
        <AgentName
          id={task.provider_agent_id === agentId ? task.client_agent_id : task.provider_agent_id}
          agentId={agentId}
        />
      ),
    },
    {
      key: "price",
      title: "Price",
      align: "right",
      cell: (task) =>
        task.stream_price === null ? (
          <span class="num">{money(task.price, task, decimals)}</span>
        ) : (
          <span class="num" title="Paid as it streams">
            {money(task.paid, task, decimals)}
          </span>
        ),
    },
    {
      key: "at",
      title: "Opened",
      align: "right",
      cell: (task) => (
        <span class="num nowrap">
          <Ago at={task.created_at} />
        </span>
      ),
    },
  ];
  return (
    <ListCard
      title="Tasks"
      testId="agent-tasks"
      caption="Tasks, newest first"
      icon="task"
      emptyTitle="No tasks"
      emptyText={isNarrowed ? NARROWED : "Tasks that this agent works on or has opened appear here."}
      {...{ filters, paged, columns }}
    />
  );
}

interface Negotiation {
  id: string;
  client_agent_id: string;
  provider_agent_id: string;
  capability: string;
  status: string;
  base_max: number;
  amount: number | null;
  offers: { agent_id: string; amount: number; round: number }[];
  turn: string | null;
  task_id: string | null;
  created_at: string;
  currency: string;
  exponent: number;
}

export function Negotiations({ agentId, version }: ListProps) {
  const { role, status, filters, isNarrowed } = useFilters("negotiations", NEGOTIATION_STATUSES);
  const paged = usePaged<Negotiation>(
    "/negotiations",
    { role: role === "all" ? null : role, status },
    actingAs(agentId),
    version,
  );
  const rows = paged.items ?? [];
  const decimals = decimalsOf(
    rows.flatMap((one) => [one.amount, ...one.offers.map((offer) => offer.amount)]),
    currency.value,
  );
  const standing = (one: Negotiation, isOwn: boolean) => {
    const offer = one.offers.findLast((each) => (each.agent_id === agentId) === isOwn);
    return <span class="num">{offer === undefined ? "–" : money(offer.amount, one, decimals)}</span>;
  };
  const columns: Column<Negotiation>[] = [
    {
      key: "capability",
      title: "Negotiation",
      isHead: true,
      cell: (one) => (
        <span title={one.id}>
          {one.capability} <span class="mono muted">{shortId(one.id)}</span>
        </span>
      ),
    },
    { key: "status", title: "State", cell: (one) => <StatusBadge status={one.status} /> },
    {
      key: "other",
      title: "Counterparty",
      cell: (one) => (
        <AgentName
          id={one.provider_agent_id === agentId ? one.client_agent_id : one.provider_agent_id}
          agentId={agentId}
        />
      ),
    },
    {
      key: "rounds",
      title: "Offers",
      align: "right",
      cell: (one) => <span class="num">{count(one.offers.length)}</span>,
    },
    { key: "own", title: "Own offer", align: "right", cell: (one) => standing(one, true) },
    { key: "others", title: "Their offer", align: "right", cell: (one) => standing(one, false) },
    {
      key: "amount",
      title: "Agreed",
      align: "right",
      cell: (one) => <span class="num">{one.amount === null ? "–" : money(one.amount, one, decimals)}</span>,
    },
    {
      key: "task",
      title: "Task",
      cell: (one) =>
        one.task_id === null ? (
          <span class="muted">–</span>
        ) : (
          <a href={taskHref(agentId, one.task_id)}>{shortId(one.task_id)}</a>
        ),
    },
    {
      key: "at",
      title: "Opened",
      align: "right",
      cell: (one) => (
        <span class="num nowrap">
          <Ago at={one.created_at} />
        </span>
      ),
    },
  ];
  return (
    <ListCard
      title="Negotiations"
      testId="agent-negotiations"
      caption="Negotiations, newest first"
      icon="deal"
      emptyTitle="No negotiations"
      emptyText={isNarrowed ? NARROWED : "Bargains that this agent takes part in appear here."}
      {...{ filters, paged, columns }}
    />
  );
}

const CHANNEL_ROLES: readonly Option<Role>[] = [
  { value: "all", label: "All" },
  { value: "client", label: "Opened" },
  { value: "provider", label: "Joined" },
];

export function Channels({ agentId, version }: ListProps) {
  const { role, status, filters, isNarrowed } = useFilters("channels", CHANNEL_STATUSES, CHANNEL_ROLES);
  const part = { all: null, client: "opener", provider: "counterparty" }[role];
  const paged = usePaged<Channel & { id: string }>(
    "/payment-channels",
    { role: part, status },
    actingAs(agentId),
    version,
  );
  const decimals = decimalsOf(
    (paged.items ?? []).flatMap((one) => [one.balance_a, one.balance_b]),
    currency.value,
  );
  const isA = (one: Channel) => one.agent_a_id === agentId;
  const columns: Column<Channel & { id: string }>[] = [
    {
      key: "channel",
      title: "Channel",
      isHead: true,
      cell: (one) => (
        <a href={channelHref(agentId, one.id)} title={one.id}>
          <AgentName id={isA(one) ? one.agent_b_id : one.agent_a_id} agentId={agentId} />{" "}
          <span class="mono muted">{shortId(one.id)}</span>
        </a>
      ),
    },
    { key: "status", title: "State", cell: (one) => <StatusBadge status={one.status} /> },
    { key: "mode", title: "Mode", cell: (one) => one.mode },
    {
      key: "own",
      title: "This agent has",
      align: "right",
      cell: (one) => <span class="num">{money(isA(one) ? one.balance_a : one.balance_b, one, decimals)}</span>,
    },
    {
      key: "other",
      title: "The other has",
      align: "right",
      cell: (one) => <span class="num">{money(isA(one) ? one.balance_b : one.balance_a, one, decimals)}</span>,
    },
    { key: "nonce", title: "Nonce", align: "right", cell: (one) => <span class="num">{count(one.last_nonce)}</span> },
    {
      key: "at",
      title: "Opened",
      align: "right",
      cell: (one) => (
        <span class="num nowrap">
          <Ago at={one.created_at} />
        </span>
      ),
    },
  ];
  return (
    <ListCard
      title="Payment channels"
      testId="agent-channels"
      caption="Payment channels, newest first"
      icon="money"
      emptyTitle="No payment channels"
      emptyText={isNarrowed ? NARROWED : "Channels over which this agent pays or is paid in small steps appear here."}
      {...{ filters, paged, columns }}
    />
  );
}
