/** An owner's agents: what they earn, what they do now, and what needs an answer. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { alerts, alertsKnown } from "../alerts";
import { type Analytics, useAnalytics } from "../analytics";
import { money, plural, stars } from "../format";
import { AlertList } from "../parts/alert_list";
import {
  Announce,
  Button,
  Card,
  Empty,
  ErrorBox,
  Loaded,
  Money,
  PresenceDot,
  Skeleton,
  ViewHead,
} from "../parts/basics";
import { PeriodPicker, periodWords } from "../parts/controls";
import { ActivityFeed, LiveMark, useActivity } from "../parts/feed";
import { HeatCard, MetricChart, MetricTiles, RevenueCards } from "../parts/panels";
import { type Column, Table } from "../parts/table";
import { pendingContacts } from "../pending";
import { type Asked, get, listAll, useAsked } from "../rest";
import { agentHref } from "../router";
import { maySee, me } from "../session";
import { useQuestion } from "../sockets";
import type { Balance, Metrics, OwnAgent, Peer, Period } from "../types";

const AGENTS_MAX = 1000;
const ALERTS_SHOWN = 5;
/** Agents whose balance and revenue are read at first; each costs two calls. */
const ROWS_STEP = 25;
/** Presences are not told to a user's own connection, so the page looks now and then. */
const LOOK_AGAIN_MS = 10_000;
const CALLS_AT_ONCE = 6;

export function AgentsView() {
  const { userId, agentId } = me();
  const analytics = useAnalytics(agentId === null ? `user:${userId}` : null);
  if (agentId !== null) {
    return (
      <Empty
        icon="agents"
        title="This key is of one agent"
        action={
          <a class="button button-plain" href={agentHref(agentId)}>
            Go to the agent
          </a>
        }
      >
        Log in with its owner's key to see all agents of that owner.
      </Empty>
    );
  }
  return <Owned analytics={analytics} />;
}

function Owned({ analytics }: { analytics: Analytics }) {
  const { userId } = me();
  const { topic, version } = analytics;
  const agents = useAsked<OwnAgent[]>("agents", (signal) => listAll<OwnAgent>("/agents", AGENTS_MAX, { signal }));
  const activity = useActivity(`user:${userId}`, topic);
  const ids = useMemo(() => new Set(agents.data?.map((agent) => agent.id)), [agents.data]);
  const open = alerts.value.filter((alert) => alert.agent_id === null || ids.has(alert.agent_id));
  return (
    <>
      <ViewHead
        title="My agents"
        sub={agents.data ? `${plural(agents.data.length, "agent")} of ${me().handle}` : `The agents of ${me().handle}`}
      >
        <PendingRequests />
      </ViewHead>
      {topic.refusal !== null && <ErrorBox refusal={topic.refusal} onRetry={topic.retry} />}
      <Figures analytics={analytics} />
      <AgentTable agents={agents} version={version} />
      <div class="split">
        <div class="stack">
          <MetricChart topic={topic} version={version} />
          <div class="grid-2">
            <RevenueCards topic={topic} version={version} />
          </div>
          <HeatCard topic={topic} version={version} />
        </div>
        <div class="stack">
          <Card
            title="Open alerts"
            flush
            class="is-urgent"
            testId="own-alerts"
            actions={open.length > 0 && <a href="#/alerts">See all</a>}
          >
            <AlertList alerts={open.slice(0, ALERTS_SHOWN)} isKnown={alertsKnown.value} isBrief />
          </Card>
          <Card title="Live activity" flush actions={<LiveMark state={topic.state} />}>
            <ActivityFeed state={activity} isOwn={(id) => ids.has(id)} />
          </Card>
        </div>
      </div>
    </>
  );
}

function PendingRequests() {
  const waiting = pendingContacts.value;
  if (waiting === null) return null;
  return (
    <a
      class={waiting > 0 ? "button button-primary" : "button button-plain"}
      href="#/inbox"
      data-testid="pending-contacts"
    >
      {waiting === 0 ? "No contact requests" : `${plural(waiting, "contact request")} waiting`}
    </a>
  );
}

/** The tiles of a period. Those of 24 hours come by themselves, others are asked for. */
function Figures({ analytics }: { analytics: Analytics }) {
  const [period, setPeriod] = useState<Period>("24h");
  const isLive = period === "24h";
  const asked = useQuestion<Metrics>(analytics.topic, "request_metrics", { period }, isLive ? 0 : analytics.version);
  const metrics = isLive ? (analytics.live ?? asked.data) : asked.data;
  return (
    <>
      <div class="section-head">
        <h2>Figures of {periodWords(period)}</h2>
        <PeriodPicker label="Period of the figures" value={period} onChange={setPeriod} />
      </div>
      {asked.error !== null && analytics.topic.refusal === null && (
        <ErrorBox refusal={asked.error} onRetry={asked.reload} />
      )}
      <MetricTiles metrics={metrics} label={`Figures of ${periodWords(period)}`} />
      <Announce
        text={
          metrics &&
          `${plural(metrics.tasks_completed, "task")} completed, net revenue ${money(metrics.revenue_net, metrics)}, ${plural(metrics.tasks_active, "active task")}`
        }
      />
    </>
  );
}

interface Known {
  balance: Balance | null;
  /** Net revenue of 24 hours, in minor units. */
  revenue: number | null;
}

interface AgentRow extends OwnAgent {
  online: boolean | null;
  known: Known | undefined;
}

function AgentTable({ agents, version }: { agents: Asked<OwnAgent[]>; version: number }) {
  const [rowsMax, setRowsMax] = useState(ROWS_STEP);
  const shown = useMemo(() => (agents.data ?? []).slice(0, rowsMax), [agents.data, rowsMax]);
  const online = useOnline();
  const known = useKnown(shown, version);
  const rows: AgentRow[] = shown.map((agent) => ({
    ...agent,
    online: online === null ? null : online.has(agent.id),
    known: known.get(agent.id),
  }));
  return (
    <Card title="Agents" flush testId="agents">
      <Loaded asked={agents}>
        {(all) => (
          <>
            <Table
              caption="My agents"
              columns={COLUMNS}
              rows={rows}
              rowKey={(row) => row.id}
              empty={
                <Empty icon="agents" title="No agents yet">
                  Register one with <code>POST /api/v1/agents</code> or the client library; it appears here with its
                  earnings.
                </Empty>
              }
            />
            {all.length > rowsMax && (
              <div class="pager">
                <Button size="small" onClick={() => setRowsMax(rowsMax + ROWS_STEP)}>
                  Show more ({all.length - rowsMax} left)
                </Button>
              </div>
            )}
          </>
        )}
      </Loaded>
    </Card>
  );
}

const COLUMNS: readonly Column<AgentRow>[] = [
  {
    key: "name",
    title: "Agent",
    isHead: true,
    cell: (row) => (
      <a class="agent-link" href={agentHref(row.id)}>
        <span class="agent-name">{row.name}</span>
        <span class="agent-handle">{row.handle}</span>
      </a>
    ),
    sortBy: (row) => row.name.toLocaleLowerCase("en"),
  },
  {
    key: "presence",
    title: "Presence",
    cell: (row) => <PresenceDot online={row.online} status={row.status} />,
    sortBy: (row) => Number(row.online ?? false),
  },
  {
    key: "balance",
    title: "Available",
    align: "right",
    cell: (row) =>
      row.known === undefined ? <Skeleton width="6ch" /> : <Money minor={row.known.balance?.available} short />,
    sortBy: (row) => row.known?.balance?.available ?? null,
  },
  {
    key: "revenue",
    title: "Net, 24 h",
    align: "right",
    cell: (row) => (row.known === undefined ? <Skeleton width="6ch" /> : <Money minor={row.known.revenue} short />),
    sortBy: (row) => row.known?.revenue ?? null,
  },
  {
    key: "reputation",
    title: "Reputation",
    align: "right",
    cell: (row) => <span class="num">{stars(row.reputation)}</span>,
    sortBy: (row) => row.reputation,
  },
];

/** Which of the user's agents are connected; null until it is known. */
function useOnline(): ReadonlySet<string> | null {
  const [online, setOnline] = useState<ReadonlySet<string> | null>(null);
  useEffect(() => {
    if (!maySee("discover")) return;
    const abort = new AbortController();
    const look = async () => {
      if (document.visibilityState === "hidden") return;
      try {
        const peers = await listAll<Peer>("/me/peers", AGENTS_MAX, { query: { type: "Agent" }, signal: abort.signal });
        setOnline(new Set(peers.filter((peer) => peer.online).map((peer) => peer.id)));
      } catch {
        // What was known stays; the banner or the table says what is wrong.
      }
    };
    void look();
    const timer = setInterval(() => void look(), LOOK_AGAIN_MS);
    return () => {
      abort.abort();
      clearInterval(timer);
    };
  }, []);
  return online;
}

/** Balance and revenue of each agent shown, read anew when something has changed; a few calls at a time. */
function useKnown(agents: readonly OwnAgent[], version: number): ReadonlyMap<string, Known> {
  const [known, setKnown] = useState<ReadonlyMap<string, Known>>(new Map());
  const latest = useRef(agents);
  latest.current = agents;
  const key = agents.map((agent) => agent.id).join();
  // biome-ignore lint/correctness/useExhaustiveDependencies: the ids and the version are what asks anew.
  useEffect(() => {
    const abort = new AbortController();
    const waiting = [...latest.current];
    const work = async () => {
      for (let agent = waiting.shift(); agent !== undefined && !abort.signal.aborted; agent = waiting.shift()) {
        const { id } = agent;
        const found = await knownOf(id, abort.signal);
        if (!abort.signal.aborted) setKnown((was) => new Map(was).set(id, found));
      }
    };
    for (let worker = 0; worker < CALLS_AT_ONCE; worker += 1) void work();
    return () => abort.abort();
  }, [key, version]);
  return known;
}

async function knownOf(agentId: string, signal: AbortSignal): Promise<Known> {
  // A banned agent cannot be acted as, so its balance cannot be read; the rest of the row can.
  const [balance, metrics] = await Promise.all([
    get<Balance>("/ledger/balance", { agentId, signal }).catch(() => null),
    get<Metrics>("/analytics/metrics", { query: { scope: `agent:${agentId}`, period: "24h" }, signal }).catch(
      () => null,
    ),
  ]);
  return { balance, revenue: metrics?.revenue_net ?? null };
}
