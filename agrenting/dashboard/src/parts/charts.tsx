/** Charts: drawn on a canvas, with units on their axes, and the same numbers as a table for whoever cannot see them. */

import { signal } from "@preact/signals";
import {
  BarController,
  BarElement,
  CategoryScale,
  Chart,
  type ChartDataset,
  Filler,
  LinearScale,
  LineController,
  LineElement,
  PointElement,
  Tooltip,
} from "chart.js";
import type { ComponentChildren } from "preact";
import { useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
import { axisTime, bucketTime, count, type Interval, plural } from "../format";
import { isDark, isStill } from "../theme";
import type { Heat } from "../types";
import { classes } from "./basics";

Chart.register(
  BarController,
  BarElement,
  CategoryScale,
  Filler,
  LinearScale,
  LineController,
  LineElement,
  PointElement,
  Tooltip,
);

export interface Series {
  label: string;
  values: readonly (number | null)[];
  /** Which of the page's four chart colours. */
  color: 1 | 2 | 3 | 4;
}

/** Charts that somebody reads as tables. Kept here, because a chart is drawn anew with each metric and period. */
const asTables = signal<ReadonlySet<string>>(new Set());

function turn(name: string): void {
  const next = new Set(asTables.value);
  if (!next.delete(name)) next.add(name);
  asTables.value = next;
}

export interface TimeChartProps {
  /** What the chart is, whatever it shows: its place on the page. */
  name?: string;
  title: string;
  /** The buckets' begins, as long as each series. */
  at: readonly string[];
  interval: Interval;
  series: readonly Series[];
  kind?: "line" | "bar";
  isStacked?: boolean;
  /** A value in full, for tooltips and the table. */
  format: (value: number | null) => string;
  /** A value on the axis. */
  axis: (value: number) => string;
  /** Whether the axis counts whole things. */
  isWhole?: boolean;
  /** The axis ends here, where values cannot be larger. */
  max?: number;
  /** What the axis counts, written at its top. */
  unit: string;
  /** A sentence for screen readers in place of the usual one. */
  summary?: string;
}

interface Drawn {
  props: TimeChartProps;
}

function color(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function datasets({ series, kind }: TimeChartProps): ChartDataset<"line" | "bar", (number | null)[]>[] {
  return series.map(({ label, values, color: number }, index) => {
    const line = color(`--chart-${number}`);
    // Marks at the very edge are drawn whole.
    const shared = { label, data: [...values], borderColor: line, clip: 6 };
    if (kind === "bar") {
      return {
        ...shared,
        type: "bar" as const,
        backgroundColor: line,
        borderWidth: 0,
        borderRadius: 2,
        maxBarThickness: 36,
        categoryPercentage: 0.82,
        barPercentage: 0.94,
      };
    }
    return {
      ...shared,
      type: "line" as const,
      backgroundColor: color(`--chart-${number}-soft`),
      fill: index === 0,
      borderWidth: 2,
      tension: 0.25,
      cubicInterpolationMode: "monotone" as const,
      // Where some values are missing, a line alone would hide which are there.
      pointRadius: values.some((value) => value === null) ? 2.5 : 0,
      pointBackgroundColor: line,
      pointHoverRadius: 4,
      pointHoverBackgroundColor: line,
      pointHitRadius: 12,
      spanGaps: true,
    };
  });
}

function drawn(canvas: HTMLCanvasElement, current: Drawn): Chart<"line" | "bar", (number | null)[], string> {
  const { props } = current;
  const [muted, grid] = [color("--muted"), color("--grid")];
  const font = { family: getComputedStyle(document.body).fontFamily, size: 11 };
  return new Chart(canvas, {
    type: props.kind === "bar" ? "bar" : "line",
    data: { labels: [...props.at], datasets: datasets(props) },
    options: {
      responsive: true,
      maintainAspectRatio: false,
      animation: isStill.value ? false : { duration: 250 },
      interaction: { mode: "index", intersect: false },
      layout: { padding: { top: 4, right: 4 } },
      scales: {
        x: {
          stacked: props.isStacked ?? false,
          grid: { display: false },
          border: { color: grid },
          ticks: {
            color: muted,
            font,
            maxRotation: 0,
            autoSkip: true,
            autoSkipPadding: 20,
            callback: (_value, index) => axisTime(current.props.at[index] ?? "", current.props.interval),
          },
        },
        y: {
          stacked: props.isStacked ?? false,
          beginAtZero: true,
          ...(props.max === undefined ? { grace: "5%" } : { max: props.max }),
          border: { display: false },
          grid: { color: grid, drawTicks: false },
          ticks: {
            color: muted,
            font,
            padding: 8,
            maxTicksLimit: 5,
            ...(props.isWhole ? { precision: 0 } : {}),
            callback: (value) => current.props.axis(Number(value)),
          },
        },
      },
      plugins: {
        tooltip: {
          backgroundColor: color("--tip"),
          titleColor: color("--tip-text"),
          bodyColor: color("--tip-text"),
          titleFont: { ...font, size: 12, weight: 600 },
          bodyFont: { ...font, size: 12 },
          padding: 10,
          cornerRadius: 8,
          boxPadding: 4,
          usePointStyle: true,
          callbacks: {
            title: (items) => bucketTime(current.props.at[items[0]?.dataIndex ?? 0] ?? "", current.props.interval),
            label: (item) => ` ${item.dataset.label ?? ""}: ${current.props.format(item.parsed.y)}`,
          },
        },
      },
    },
  });
}

/** One or several series over time. The table beside it can be opened, and is what screen readers get. */
export function TimeChart(props: TimeChartProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const chart = useRef<Chart<"line" | "bar", (number | null)[], string> | null>(null);
  const latest = useRef<Drawn>({ props });
  latest.current.props = props;
  const name = props.name ?? props.title;
  const isTable = asTables.value.has(name);
  const dark = isDark.value;
  const shape = `${props.kind}|${props.isWhole}|${props.isStacked}|${props.max}|${props.series.map((one) => one.color).join()}`;
  // biome-ignore lint/correctness/useExhaustiveDependencies: colours are read anew with the theme, the rest with the shape.
  useEffect(() => {
    if (canvas.current === null) return;
    const made = drawn(canvas.current, latest.current);
    chart.current = made;
    return () => {
      chart.current = null;
      made.destroy();
    };
  }, [dark, shape, isTable]);
  useEffect(() => {
    const shown = chart.current;
    if (shown === null) return;
    shown.data.labels = [...props.at];
    shown.data.datasets = datasets(props);
    shown.update(isStill.value ? "none" : undefined);
  }, [props]);
  const summary = props.summary ?? summarised(props);
  return (
    <figure class="chart" data-testid="chart">
      <figcaption class="chart-caption">
        <span class="chart-unit">{props.unit}</span>
        {props.series.length > 1 && (
          <ul class="legend" aria-label="Legend">
            {props.series.map(({ label, color: number }) => (
              <li key={label}>
                <span class={`legend-mark chart-${number}`} aria-hidden="true" />
                {label}
              </li>
            ))}
          </ul>
        )}
        <button type="button" class="chart-switch" aria-pressed={isTable} onClick={() => turn(name)}>
          Table<span class="visually-hidden"> of {props.title}</span>
        </button>
      </figcaption>
      {isTable ? (
        <Numbers {...props} />
      ) : (
        <div class="chart-frame">
          <canvas ref={canvas} role="img" aria-label={`${props.title}. ${summary}`} />
        </div>
      )}
    </figure>
  );
}

function summarised({ series, at, interval, format }: TimeChartProps): string {
  const sentences = series.map(({ label, values }) => {
    const known = values.filter((value): value is number => value !== null);
    const last = values.at(-1) ?? null;
    if (known.length === 0) return `${label}: no values.`;
    return `${label}: latest ${format(last)}, highest ${format(Math.max(...known))}, lowest ${format(Math.min(...known))}.`;
  });
  return `${plural(at.length, interval)}. ${sentences.join(" ")}`;
}

function Numbers({ title, at, interval, series, format }: TimeChartProps) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls is reached by the keyboard.
    <section class="chart-table" aria-label={`Numbers of ${title}`} tabIndex={0}>
      <table class="table table-plain">
        <caption class="visually-hidden">{title}</caption>
        <thead>
          <tr>
            <th scope="col">{interval === "day" ? "Day (UTC)" : "From (UTC)"}</th>
            {series.map(({ label }) => (
              <th key={label} scope="col" class="right">
                {label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {at
            .map((time, index) => (
              <tr key={time}>
                <th scope="row">{bucketTime(time, interval).replace(" UTC", "")}</th>
                {series.map(({ label, values }) => (
                  <td key={label} class="right">
                    {format(values[index] ?? null)}
                  </td>
                ))}
              </tr>
            ))
            .reverse()}
        </tbody>
      </table>
    </section>
  );
}

export interface Ranked {
  key: string;
  label: ComponentChildren;
  value: number;
  detail?: ComponentChildren;
  /** The amount in full, on hover. */
  title?: string;
  href?: string;
}

/** Who or what brought how much, largest first: a table whose cells hold bars. */
export function Ranking(props: {
  caption: string;
  rows: readonly Ranked[];
  /** What the numbers are. */
  unit: string;
  format: (value: number) => string;
}) {
  const largest = Math.max(1, ...props.rows.map((row) => row.value));
  return (
    <table class="ranking">
      <caption class="visually-hidden">{props.caption}</caption>
      <thead class="visually-hidden">
        <tr>
          <th scope="col">Name</th>
          <th scope="col">{props.unit}</th>
        </tr>
      </thead>
      <tbody>
        {props.rows.map((row) => (
          <tr key={row.key}>
            <th scope="row">
              <span class="ranking-name">{row.href ? <a href={row.href}>{row.label}</a> : row.label}</span>
              <span class="ranking-bar" aria-hidden="true">
                <span style={{ width: `${Math.max(0.5, (row.value / largest) * 100)}%` }} />
              </span>
            </th>
            <td title={row.title}>
              <span class="num">{props.format(row.value)}</span>
              {row.detail !== undefined && <span class="ranking-detail">{row.detail}</span>}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

const DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"] as const;
const HOURS = Array.from({ length: 24 }, (_, hour) => hour);
const LEVELS = 5;

/** Which of five shades a count has; only nothing at all has none. */
export function heatLevel(value: number, max: number): number {
  if (value <= 0 || max <= 0) return 0;
  return Math.min(LEVELS, Math.max(1, Math.ceil((value / max) * LEVELS)));
}

/** Starts of tasks by weekday and hour: a table, so that it reads as one, drawn as squares. */
export function HeatTable({ heat }: { heat: Pick<Heat, "matrix" | "max"> }) {
  const [at, setAt] = useState<{ day: number; hour: number } | null>(null);
  const id = useId();
  const busiest = useMemo(() => {
    let found = { day: 0, hour: 0, value: 0 };
    heat.matrix.forEach((row, day) => {
      row.forEach((value, hour) => {
        if (value > found.value) found = { day, hour, value };
      });
    });
    return found;
  }, [heat]);
  const said = at === null ? null : { ...at, value: heat.matrix[at.day]?.[at.hour] ?? 0 };
  const shown = said ?? busiest;
  const sentence = `${DAYS[shown.day]}, ${clock(shown.hour)}–${clock(shown.hour + 1)} UTC: ${plural(shown.value, "task")}`;
  return (
    <div class="heat" data-testid="heatmap">
      <table class="heat-table" aria-describedby={id} onMouseLeave={() => setAt(null)}>
        <caption class="visually-hidden">Starts of tasks by weekday and hour, UTC</caption>
        <thead>
          <tr>
            <td />
            {HOURS.map((hour) => (
              <th key={hour} scope="col">
                <span class="visually-hidden">{clock(hour)}</span>
                <span class={classes("heat-hour", hour % 6 !== 0 && "is-minor")} aria-hidden="true">
                  {hour % 3 === 0 ? String(hour).padStart(2, "0") : ""}
                </span>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {DAYS.map((day, row) => (
            <tr key={day}>
              <th scope="row">
                <abbr title={day}>{day.slice(0, 3)}</abbr>
              </th>
              {HOURS.map((hour) => {
                const value = heat.matrix[row]?.[hour] ?? 0;
                return (
                  <td
                    key={hour}
                    class={`heat-${heatLevel(value, heat.max)}`}
                    onMouseEnter={() => setAt({ day: row, hour })}
                  >
                    <span class="visually-hidden">{count(value)}</span>
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
      <div class="heat-foot">
        <p id={id} class="heat-said">
          {said === null && busiest.value > 0 && <span>Busiest: </span>}
          {said === null && busiest.value === 0 ? "No task has started in this period." : sentence}
        </p>
        <p class="heat-scale" aria-hidden="true" hidden={heat.max === 0}>
          <span>0</span>
          {Array.from({ length: LEVELS + 1 }, (_, level) => (
            <span key={level} class={`heat-key heat-${level}`} />
          ))}
          <span>{count(heat.max)}</span>
        </p>
      </div>
    </div>
  );
}

function clock(hour: number): string {
  return `${String(hour % 24).padStart(2, "0")}:00`;
}
