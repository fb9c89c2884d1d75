/** The whole market: what it does now, over time, and, for operators, every deal as it happens. */

import { alerts, alertsKnown } from "../alerts";
import { useAnalytics } from "../analytics";
import { count, money, percent, plural, shortCount, shortMoney } from "../format";
import { AlertList } from "../parts/alert_list";
import { Announce, Card, Empty, ErrorBox, Stat, Stats, ViewHead } from "../parts/basics";
import { ActivityFeed, LiveMark, useActivity } from "../parts/feed";
import { HeatCard, MetricChart } from "../parts/panels";
import { me } from "../session";
import type { GlobalStats } from "../types";

const METRICS = [
  "tasks_total",
  "tasks_completed",
  "tasks_failed",
  "success_rate",
  "revenue_gross",
  "avg_execution_time_ms",
  "p95_execution_time_ms",
  "transfers_in",
  "transfers_in_amount",
  "negotiations_completed",
];
const ALERTS_SHOWN = 5;

export function MarketView() {
  const { isOperator } = me();
  const { topic, stats, version } = useAnalytics("global");
  const activity = useActivity("global", topic, isOperator);
  // An operator's own agents have a view of their own.
  const open = alerts.value.filter((alert) => alert.agent_id === null);
  return (
    <>
      <ViewHead
        title="Market"
        sub={isOperator ? "Everything that happens on this market." : "The public figures of this market."}
      />
      {topic.refusal !== null && <ErrorBox refusal={topic.refusal} onRetry={topic.retry} />}
      <MarketTiles stats={stats} />
      <Announce
        text={
          stats &&
          `${plural(stats.online_agents, "agent")} online, ${plural(stats.active_tasks, "active task")}, ${count(stats.tasks_per_minute)} tasks per minute`
        }
      />
      {isOperator && stats?.total_agents === 0 && stats.total_tasks === 0 && (
        <Card title="Getting started">
          <Empty icon="agents" title="Nobody is here yet">
            Add users with <code>agrenting user create</code>. The agents that they register appear here, and so does
            everything that they do.
          </Empty>
        </Card>
      )}
      <div class={isOperator ? "split" : "stack"}>
        <div class="stack">
          <MetricChart topic={topic} version={version} metrics={METRICS} title="The market over time" />
          <HeatCard topic={topic} version={version} />
        </div>
        {isOperator && (
          <div class="stack">
            <Card
              title="Alerts of the market"
              flush
              class="is-urgent"
              testId="market-alerts"
              actions={<a href="#/alerts">See everybody's</a>}
            >
              <AlertList
                alerts={open.slice(0, ALERTS_SHOWN)}
                isKnown={alertsKnown.value}
                isBrief
                emptyText="Lost states of payment channels, and books that do not balance, appear here at once."
              />
            </Card>
            <Card title="Live activity" flush actions={<LiveMark state={topic.state} />}>
              <ActivityFeed state={activity} isOwn={() => false} />
            </Card>
          </div>
        )}
      </div>
      {!isOperator && (
        <p class="footnote">Single deals are seen by those who take part in them, and by the market's operators.</p>
      )}
    </>
  );
}

function MarketTiles({ stats }: { stats: GlobalStats | null }) {
  const isLoading = stats === null;
  return (
    <Stats label="The market now">
      <Stat
        label="Agents online"
        testId="stat-online-agents"
        value={shortCount(stats?.online_agents)}
        hint={
          <>
            of <span data-testid="stat-total-agents">{count(stats?.total_agents)}</span> active
          </>
        }
        isLoading={isLoading}
      />
      <Stat
        label="Active tasks"
        testId="stat-active-tasks"
        value={shortCount(stats?.active_tasks)}
        hint={
          <>
            <span data-testid="stat-total-tasks">{count(stats?.total_tasks)}</span> of all time
          </>
        }
        isLoading={isLoading}
      />
      <Stat
        label="Tasks per minute"
        testId="stat-tasks-per-minute"
        value={count(stats?.tasks_per_minute)}
        hint="mean of 5 minutes"
        isLoading={isLoading}
      />
      <Stat
        label="Volume, 24 h"
        testId="stat-volume-24h"
        value={stats ? shortMoney(stats.volume_24h, stats) : ""}
        title={stats ? money(stats.volume_24h, stats) : ""}
        hint="released prices and transfers"
        isLoading={isLoading}
      />
      <Stat
        label="System load"
        testId="stat-system-load"
        value={percent(stats?.system_load)}
        hint="of the server's processors"
        isLoading={isLoading}
        tone={stats !== null && stats.system_load >= 0.9 ? "warn" : "neutral"}
      />
    </Stats>
  );
}
