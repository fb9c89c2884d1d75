/** What is shown of an agent, a user and the market alike: tiles, charts of a metric, revenue, heatmap. */

import { useState } from "preact/hooks";
import { count, duration, money, percent, plural, shortCount, shortMoney, stars } from "../format";
import type { Asked } from "../rest";
import { currency } from "../session";
import { type Joined, useQuestion } from "../sockets";
import type { AnalyticsJoined, Earned, Heat, Metrics, Period, Point, Revenue, TimeSeries } from "../types";
import { Button, Card, Empty, Loaded, Loading, Stat, Stats } from "./basics";
import { HeatTable, Ranking, TimeChart } from "./charts";
import { PeriodPicker, periodWords, Select } from "./controls";

type Topic = Joined<AnalyticsJoined>;

/** The figures of a period as tiles. Null: on their way. */
export function MetricTiles({ metrics, label }: { metrics: Metrics | null; label: string }) {
  const isLoading = metrics === null;
  const unit = metrics ?? currency.value;
  const amount = (minor: number | undefined) => ({
    value: shortMoney(minor, unit),
    title: money(minor, unit),
    isLoading,
  });
  return (
    <Stats label={label}>
      <Stat
        label="Net revenue"
        testId="metric-revenue-net"
        {...amount(metrics?.revenue_net)}
        hint={`${shortMoney(metrics?.revenue_gross, unit)} gross, ${shortMoney(metrics?.fees, unit)} fees`}
      />
      <Stat
        label="Tasks completed"
        testId="metric-tasks-completed"
        value={shortCount(metrics?.tasks_completed)}
        hint={`${plural(metrics?.tasks_failed ?? 0, "failure")}, ${count(metrics?.tasks_active)} active now`}
        isLoading={isLoading}
      />
      <Stat
        label="Success rate"
        testId="metric-success-rate"
        value={percent(metrics?.success_rate)}
        hint={metrics?.success_rate === null ? "No task has ended" : `${count(metrics?.tasks_cancelled)} cancelled`}
        isLoading={isLoading}
      />
      <Stat
        label="Typical execution"
        testId="metric-execution-time"
        value={duration(metrics?.p50_execution_time_ms)}
        hint={
          metrics?.p95_execution_time_ms === null
            ? "No task has completed"
            : `95% within ${duration(metrics?.p95_execution_time_ms)}`
        }
        isLoading={isLoading}
      />
      <Stat
        label="Spend"
        testId="metric-spend"
        {...amount(metrics?.spend)}
        hint={`${plural(metrics?.tasks_hired ?? 0, "task")} hired`}
      />
      <Stat
        label="Transfers received"
        testId="metric-transfers"
        value={shortCount(metrics?.transfers_in)}
        hint={`${shortMoney(metrics?.transfers_in_amount, unit)} in; ${shortMoney(metrics?.transfers_out_amount, unit)} sent`}
        isLoading={isLoading}
      />
      <Stat
        label="Negotiations agreed"
        testId="metric-negotiations"
        value={shortCount(metrics?.negotiations_completed)}
        hint={`of ${count(metrics?.negotiations_started)} started`}
        isLoading={isLoading}
      />
      {metrics?.scope !== "global" && (
        <Stat
          label="Reputation"
          testId="metric-reputation"
          value={stars(metrics?.reputation)}
          hint="of 5 stars, now"
          isLoading={isLoading}
        />
      )}
    </Stats>
  );
}

type Kind = "count" | "money" | "part" | "time" | "stars";

interface Choice {
  metric: string;
  label: string;
  kind: Kind;
  unit: string;
}

const CHOICES: readonly Choice[] = [
  { metric: "tasks_total", label: "Tasks opened", kind: "count", unit: "tasks" },
  { metric: "tasks_completed", label: "Tasks completed", kind: "count", unit: "tasks" },
  { metric: "tasks_failed", label: "Tasks failed", kind: "count", unit: "tasks" },
  { metric: "success_rate", label: "Success rate", kind: "part", unit: "completed of ended tasks" },
  { metric: "revenue_gross", label: "Volume", kind: "money", unit: "" },
  { metric: "revenue_net", label: "Net revenue", kind: "money", unit: "" },
  { metric: "spend", label: "Spend", kind: "money", unit: "" },
  { metric: "avg_execution_time_ms", label: "Execution time, mean", kind: "time", unit: "mean of completed tasks" },
  { metric: "p95_execution_time_ms", label: "Execution time, 95%", kind: "time", unit: "95th percentile" },
  { metric: "transfers_in", label: "Transfers", kind: "count", unit: "transfers" },
  { metric: "transfers_in_amount", label: "Transferred", kind: "money", unit: "" },
  { metric: "negotiations_completed", label: "Negotiations agreed", kind: "count", unit: "negotiations" },
  { metric: "messages_in", label: "Messages received", kind: "count", unit: "messages" },
];
/** Where the pickers begin, in this order. */
export const USUAL_METRICS: readonly string[] = CHOICES.map(({ metric }) => metric);

function formats(kind: Kind): {
  format: (value: number | null) => string;
  axis: (value: number) => string;
  max?: number;
} {
  const unit = currency.value;
  switch (kind) {
    case "money":
      return { format: (value) => money(value, unit), axis: (value) => shortMoney(value, unit) };
    case "part":
      return { format: percent, axis: percent, max: 1 };
    case "time":
      return { format: duration, axis: duration };
    case "stars":
      return { format: stars, axis: stars, max: 5 };
    case "count":
      return { format: count, axis: (value) => (Number.isInteger(value) ? shortCount(value) : "") };
  }
}

/** A metric over time, with pickers for metric and period. `metrics` says which can be picked, the first one first. */
export function MetricChart(props: {
  topic: Topic;
  version: number;
  title?: string;
  metrics?: readonly string[];
  testId?: string;
}) {
  const choices = CHOICES.filter(({ metric }) => (props.metrics ?? USUAL_METRICS).includes(metric));
  const [metric, setMetric] = useState(choices[0]?.metric ?? "tasks_total");
  const [period, setPeriod] = useState<Period>("24h");
  const choice = choices.find((one) => one.metric === metric) ?? CHOICES[0];
  // Empty buckets are told as 0: a rate of 0 is one only where something has failed.
  const failures = useQuestion<TimeSeries>(
    props.topic,
    choice?.kind === "part" ? "request_time_series" : null,
    { metric: "tasks_failed", opts: { period } },
    props.version,
  );
  const asked = useQuestion<TimeSeries>(
    props.topic,
    "request_time_series",
    { metric, opts: { period } },
    props.version,
  );
  if (choice === undefined) return null;
  const isSum = choice.kind === "count" || choice.kind === "money";
  return (
    <Card
      title={props.title ?? "Over time"}
      class="card-wide"
      testId={props.testId ?? "metric-chart"}
      actions={
        <>
          <Select
            label="Metric"
            value={metric}
            onChange={setMetric}
            options={choices.map((one) => ({ value: one.metric, label: one.label }))}
          />
          <PeriodPicker value={period} onChange={setPeriod} />
        </>
      }
    >
      <Loaded
        asked={asked}
        skeleton={
          <div class="chart-wait">
            <Loading rows={5} label="Loading the chart" />
          </div>
        }
      >
        {({ points, interval }) => {
          const values = known(points, choice.kind, failures.data?.points ?? []);
          return values.every((value) => value === null || (isSum && value === 0)) ? (
            <div class="chart-wait chart-empty">
              <Empty title={`${choice.label}: nothing in ${periodWords(period)}`}>Try another period or metric.</Empty>
            </div>
          ) : (
            <TimeChart
              name={`metric of ${props.topic.reply?.scope}`}
              title={`${choice.label}, ${periodWords(period)}`}
              unit={`${choice.kind === "money" ? currency.value.currency : choice.unit} per ${interval}, UTC`}
              at={points.map((point) => point.at)}
              interval={interval}
              kind={isSum ? "bar" : "line"}
              isWhole={choice.kind === "count"}
              series={[{ label: choice.label, values, color: 1 }]}
              {...formats(choice.kind)}
            />
          );
        }}
      </Loaded>
    </Card>
  );
}

/** The values of a series, null where there is none: a mean of nothing is told as 0. */
function known(points: readonly Point[], kind: Kind, failures: readonly Point[]): (number | null)[] {
  return points.map(({ at, value }, index) => {
    if (value !== 0 || kind === "count" || kind === "money") return value;
    if (kind !== "part") return null;
    const failed = failures[index];
    return failed !== undefined && failed.at === at && failed.value !== 0 ? 0 : null;
  });
}

const DAY_PERIODS = ["7d", "30d", "90d"] as const;

/** What was earned: by day, by capability, by counterparty. Of agents and users; a market as a whole has none. */
export function RevenueCards({ topic, version }: { topic: Topic; version: number }) {
  const [period, setPeriod] = useState<Period>("30d");
  const asked = useQuestion<Revenue>(topic, "request_revenue", { period }, version);
  const [first] = DAY_PERIODS;
  const days = asked.data?.by_day ?? [];
  const isNothing = asked.data?.gross === 0;
  return (
    <>
      <Card
        title="Revenue by day"
        class="card-wide"
        testId="revenue-by-day"
        note={asked.data ? `${money(asked.data.net, asked.data)} net in ${periodWords(period)}` : undefined}
        actions={<PeriodPicker label="Period of revenue" value={period} onChange={setPeriod} />}
      >
        <Loaded
          asked={asked}
          skeleton={
            <div class="chart-wait">
              <Loading rows={5} label="Loading the chart" />
            </div>
          }
        >
          {(revenue) =>
            revenue.gross === 0 ? (
              <Empty icon="money" title={`Nothing earned in ${periodWords(period)}`}>
                Prices of tasks that are released, and transfers that pay a task as it streams, appear here
                {period === first ? "; try a longer period." : "."}
              </Empty>
            ) : (
              <TimeChart
                name={`revenue of ${revenue.scope}`}
                title={`Revenue by day, ${periodWords(period)}`}
                unit={`${revenue.currency} per day, UTC`}
                at={days.map(({ day }) => `${day}T00:00:00Z`)}
                interval="day"
                kind="bar"
                isStacked
                series={[
                  { label: "Net", values: days.map(({ net }) => net), color: 1 },
                  { label: "Fees", values: days.map(({ fees }) => fees), color: 3 },
                ]}
                {...formats("money")}
              />
            )
          }
        </Loaded>
      </Card>
      {!isNothing && <EarnersCards asked={asked} period={period} />}
    </>
  );
}

function EarnersCards({ asked, period }: { asked: Asked<Revenue>; period: Period }) {
  const note = `Net, ${periodWords(period)}`;
  return (
    <>
      <Card title="Revenue by capability" note={note} testId="revenue-by-capability">
        <Loaded asked={asked}>
          {(revenue) => (
            <Earners
              revenue={revenue}
              caption="Revenue by capability"
              rows={revenue.by_capability.map((row) => ({ ...row, name: row.capability }))}
            />
          )}
        </Loaded>
      </Card>
      <Card title="Revenue by counterparty" note={note} testId="revenue-by-counterparty">
        <Loaded asked={asked}>
          {(revenue) => (
            <Earners
              revenue={revenue}
              caption="Revenue by counterparty"
              rows={revenue.by_counterparty.map((row) => ({
                ...row,
                name: row.agent_id === null ? null : (row.handle ?? "deleted agent"),
              }))}
            />
          )}
        </Loaded>
      </Card>
    </>
  );
}

interface Earner extends Earned {
  name: string | null;
}

const EARNERS_SHOWN = 8;

function Earners({ revenue, caption, rows }: { revenue: Revenue; caption: string; rows: readonly Earner[] }) {
  const [isWhole, setWhole] = useState(false);
  const shown = isWhole ? rows : rows.slice(0, EARNERS_SHOWN);
  if (rows.length === 0) return <Empty icon="money" title="Nothing earned in this period" />;
  return (
    <>
      <Ranking
        caption={caption}
        unit={`Net, ${revenue.currency}`}
        format={(value) => shortMoney(value, revenue)}
        rows={shown.map((row, index) => ({
          key: `${row.name}|${index}`,
          label: row.name ?? "All others",
          value: row.net,
          detail: `${shortMoney(row.gross, revenue)} gross`,
          title: `${money(row.net, revenue)} net of ${money(row.gross, revenue)} gross`,
        }))}
      />
      {rows.length > EARNERS_SHOWN && (
        <Button kind="quiet" size="small" onClick={() => setWhole(!isWhole)}>
          {isWhole ? "Show fewer" : `Show all ${rows.length}`}
        </Button>
      )}
    </>
  );
}

/** When tasks start, by weekday and hour. */
export function HeatCard({ topic, version }: { topic: Topic; version: number }) {
  const [period, setPeriod] = useState<Period>("30d");
  const asked = useQuestion<Heat>(topic, "request_heatmap", { period }, version);
  return (
    <Card
      title="When tasks start"
      note="By weekday and hour, UTC"
      class="card-wide"
      actions={<PeriodPicker label="Period of the heatmap" value={period} onChange={setPeriod} />}
    >
      <Loaded asked={asked} skeleton={<Loading rows={7} label="Loading the heatmap" />}>
        {(heat) => <HeatTable heat={heat} />}
      </Loaded>
    </Card>
  );
}
