/** What a page knows of the open alerts of one scope, and how what it hears changes that. */

import type { Alert } from "./types";

/** The most that are kept of a scope; the alerts view reads the older ones from the market. */
export const KEPT_MAX = 200;

export interface KnownAlerts {
  /** Those that are not resolved, newest first. */
  readonly alerts: readonly Alert[];
  /** Whether there are older active ones than those that are known. */
  readonly hasMore: boolean;
}

export const NO_ALERTS: KnownAlerts = { alerts: [], hasMore: false };

/** How many are active: those that nobody has looked at. */
export function activeOf(alerts: readonly Alert[]): number {
  return alerts.filter((alert) => alert.status === "active").length;
}

/** After an alert was raised or has changed. A resolved one is let go, so that it takes no place. */
export function afterAlert(known: KnownAlerts, news: Alert): KnownAlerts {
  return trimmed([...known.alerts.filter((alert) => alert.id !== news.id), news], known.hasMore);
}

/**
 * After an answer that is whole: what was known before is forgotten, because it may be resolved by now.
 *
 * Args: `heard` is what was pushed since the question, by id; it may be newer than the answer, or be in it.
 */
export function afterAnswer(told: readonly Alert[], hasMore: boolean, heard: ReadonlyMap<string, Alert>): KnownAlerts {
  const found = new Map<string, Alert>();
  for (const alert of [...told, ...heard.values()]) {
    const before = found.get(alert.id);
    if (before === undefined || changedAt(alert) >= changedAt(before)) found.set(alert.id, alert);
  }
  return trimmed([...found.values()], hasMore);
}

/** What is known of several scopes as one list, newest first. */
export function allKnown(scopes: Iterable<KnownAlerts>): KnownAlerts {
  const found = new Map<string, Alert>();
  let hasMore = false;
  for (const known of scopes) {
    hasMore ||= known.hasMore;
    for (const alert of known.alerts) found.set(alert.id, alert);
  }
  return { alerts: [...found.values()].sort(newestFirst), hasMore };
}

/** A number that may be more than is known: "100+". */
export function countText(value: number, isMore: boolean): string {
  if (isMore) return `${value}+`;
  return value > 100 ? "100+" : String(value);
}

function trimmed(alerts: Alert[], hasMore: boolean): KnownAlerts {
  const open = alerts.filter((alert) => alert.status !== "resolved").sort(newestFirst);
  return { alerts: open.slice(0, KEPT_MAX), hasMore: hasMore || activeOf(open.slice(KEPT_MAX)) > 0 };
}

function newestFirst(one: Alert, other: Alert): number {
  if (one.inserted_at !== other.inserted_at) return one.inserted_at < other.inserted_at ? 1 : -1;
  return one.id < other.id ? 1 : -1;
}

function changedAt(alert: Alert): string {
  return alert.updated_at ?? alert.inserted_at;
}
