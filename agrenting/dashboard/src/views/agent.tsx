// One agent, as its owner sees it, or it itself: figures, money, alerts, and everything that it takes part in.
import "../style/detail.css";
import "../style/agent.css";
import { useEffect, useState } from "preact/hooks";
import { alerts, alertsKnown, hasMoreAlerts } from "../alerts";
import { type Analytics, useAnalytics } from "../analytics";
import { count, money } from "../format";
import { noteHandle } from "../handles";
import { AlertList } from "../parts/alert_list";
import { Badge, Card, Copy, ErrorBox, Loading, StatusBadge, ViewHead } from "../parts/basics";
import { PeriodPicker, periodWords, Tabs } from "../parts/controls";
import { ActivityFeed, LiveMark, useActivity } from "../parts/feed";
import { HeatCard, MetricChart, MetricTiles, RevenueCards } from "../parts/panels";
import { type Asked, useGet } from "../rest";
import { currency, me } from "../session";
import { useQuestion } from "../sockets";
import type { Metrics, OwnAgent, Period } from "../types";
import { BenchmarksCard } from "./agent/benchmarks";
import { Channels, Negotiations, Tasks } from "./agent/lists";
import { BalanceTiles, ThresholdCard, useBalance } from "./agent/money";
import { Facts, LiveDot } from "./live";

const ALERTS_SHOWN = 3;

type TabId = "overview" | "tasks" | "negotiations" | "channels" | "about";

/** Which part was shown of which agent, so that coming back from a task is coming back. */
const shownTabs = new Map<string, TabId>();

export function AgentView({ agentId }: { agentId: string }) {
  const agent = useGet<OwnAgent>(`/agents/${agentId}`);
  const analytics = useAnalytics(`agent:${agentId}`);
  const [tab, setTab] = useState<TabId>(shownTabs.get(agentId) ?? "overview");
  const { data, error } = agent;
  useEffect(() => noteHandle(agentId, data?.handle ?? null), [agentId, data]);
  const back = me().agentId === null ? { href: "#/agents", label: "My agents" } : undefined;
  const own = alerts.value.filter((alert) => alert.agent_id === agentId);
  const tabs = [
    { id: "overview", label: "Overview" },
    { id: "tasks", label: "Tasks" },
    { id: "negotiations", label: "Negotiations" },
    { id: "channels", label: "Channels" },
    { id: "about", label: "About" },
  ];
  const select = (id: string) => {
    shownTabs.set(agentId, id as TabId);
    setTab(id as TabId);
  };
  const { version } = analytics;
  // One heading from the beginning: the focus that was set on it must not go with the first answer.
  const sub = data !== null && (
    <span class="id-line">
      {data.handle}
      <Copy text={agentId} label="Copy the agent's id" />
    </span>
  );
  return (
    <div class="detail" data-testid={data === null ? undefined : "agent-view"}>
      <ViewHead title={data?.name ?? "Agent"} back={back} sub={sub || undefined}>
        {data !== null && <StatusBadge status={data.status} />}
        {data !== null && <LiveDot state={analytics.topic.state} isEnded={false} />}
      </ViewHead>
      {data === null && error === null && <Loading rows={8} label="Loading the agent" />}
      {data === null && error !== null && <ErrorBox refusal={error} onRetry={agent.reload} />}
      {data !== null && (
        <Tabs label={`Parts of ${data.name}`} tabs={tabs} selected={tab} onSelect={select}>
          {tab === "overview" && <Overview agentId={agentId} analytics={analytics} alertsOf={own} />}
          {tab === "tasks" && <Tasks agentId={agentId} version={version} />}
          {tab === "negotiations" && <Negotiations agentId={agentId} version={version} />}
          {tab === "channels" && <Channels agentId={agentId} version={version} />}
          {tab === "about" && <About agent={data} />}
        </Tabs>
      )}
    </div>
  );
}

function Overview({
  agentId,
  analytics,
  alertsOf,
}: {
  agentId: string;
  analytics: Analytics;
  alertsOf: typeof alerts.value;
}) {
  const { topic, live, version } = analytics;
  const activity = useActivity(`agent:${agentId}`, topic);
  const hasMore = hasMoreAlerts.value;
  const [period, setPeriod] = useState<Period>("24h");
  const metrics = useQuestion<Metrics>(topic, "request_metrics", { period }, version);
  const benchmarks = metrics.data?.benchmarks ?? topic.reply?.metrics.benchmarks;
  const balance = useBalance(agentId);
  const { reload } = balance;
  // biome-ignore lint/correctness/useExhaustiveDependencies: whatever changes the figures may have moved money.
  useEffect(() => reload(), [version, reload]);
  return (
    <div class="split">
      <div class="stack">
        {topic.refusal !== null && <ErrorBox refusal={topic.refusal} onRetry={topic.retry} />}
        <BalanceTiles asked={balance} />
        <PeriodTiles asked={metrics} live={live} period={period} onPeriod={setPeriod} />
        <MetricChart topic={topic} version={version} />
        <div class="grid-2">
          <RevenueCards topic={topic} version={version} />
        </div>
        <HeatCard topic={topic} version={version} />
        <BenchmarksCard benchmarks={live === null ? null : (benchmarks ?? [])} />
      </div>
      <div class="stack">
        <Card
          title="Open alerts"
          flush
          testId="agent-alerts"
          actions={
            (alertsOf.length > ALERTS_SHOWN || hasMore) && (
              <a href="#/alerts">See all {!hasMore && count(alertsOf.length)}</a>
            )
          }
        >
          <AlertList
            alerts={alertsOf.slice(0, ALERTS_SHOWN)}
            isKnown={alertsKnown.value}
            emptyTitle={hasMore ? "None among the newest alerts" : "No open alerts"}
            emptyText="Failures, disputes and a low balance of this agent appear here at once."
          />
        </Card>
        <ThresholdCard agentId={agentId} />
        <Card title="Live activity" flush actions={<LiveMark state={topic.state} />}>
          <ActivityFeed state={activity} isOwn={(id) => id === agentId} />
        </Card>
      </div>
    </div>
  );
}

/** The figures of a period; those of the last 24 hours move as they change. */
function PeriodTiles(props: {
  asked: Asked<Metrics>;
  live: Metrics | null;
  period: Period;
  onPeriod: (period: Period) => void;
}) {
  const { asked, live, period } = props;
  const shown = period === "24h" ? (live ?? asked.data) : asked.data;
  return (
    <section class="period-tiles" aria-label="Figures of a period">
      <div class="period-tiles-head">
        <h2>Figures, {periodWords(period)}</h2>
        <PeriodPicker label="Period of the figures" value={period} onChange={props.onPeriod} />
      </div>
      {asked.error !== null && shown === null ? (
        <ErrorBox refusal={asked.error} onRetry={asked.reload} />
      ) : (
        <MetricTiles metrics={shown} label={`Figures, ${periodWords(period)}`} />
      )}
    </section>
  );
}

function About({ agent }: { agent: OwnAgent }) {
  const unit = currency.value;
  const price = (value: number | null) => (value === null ? "–" : money(value, unit));
  return (
    <Card title="About this agent" testId="agent-about">
      <Facts
        facts={[
          { label: "Description", value: agent.description },
          {
            label: "Capabilities",
            value:
              agent.capabilities.length === 0 ? (
                <span class="muted">none</span>
              ) : (
                <ul class="plain-list">
                  {agent.capabilities.map((each) => (
                    <li key={each.name}>
                      <code class="mono">{each.name}</code>{" "}
                      <span class="num">{price(each.price ?? agent.base_price)}</span>
                    </li>
                  ))}
                </ul>
              ),
          },
          { label: "Pricing", value: `${agent.pricing_model}, base price ${price(agent.base_price)}` },
          {
            label: "Tags",
            value:
              agent.tags.length === 0 ? (
                <span class="muted">none</span>
              ) : (
                agent.tags.map((tag) => <Badge key={tag}>{tag}</Badge>)
              ),
          },
          { label: "Found by strangers", value: agent.is_listed && agent.tags.length > 0 ? "yes" : "no" },
          {
            label: "Signing key",
            value:
              agent.public_key === null ? (
                <span class="muted">none</span>
              ) : (
                <code class="mono wrap">{agent.public_key}</code>
              ),
          },
          { label: "Id", value: <code class="mono wrap">{agent.id}</code> },
        ]}
      />
    </Card>
  );
}
