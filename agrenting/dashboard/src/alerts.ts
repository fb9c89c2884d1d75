/** The alerts that are not resolved, kept live for the whole page, and what can be done about them. */

import { computed, signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { activeOf, afterAlert, afterAnswer, allKnown, type KnownAlerts, NO_ALERTS } from "./known_alerts";
import { toast } from "./parts/controls";
import { list, Refusal, refusalOf, send } from "./rest";
import { me, session } from "./session";
import { type Joined, useTopic } from "./sockets";
import type { Alert, AnalyticsJoined, Scope } from "./types";

/** An answer holds 100 at most; with fewer left, while there are more, the next ones are asked for. */
const ASK_BELOW = 50;
/** After a question that the market did not answer in time. */
const ASK_AGAIN_MS = 3000;

const scopes = signal<ReadonlyMap<Scope, KnownAlerts>>(new Map());
/** What came while a scope's answer is under way: it may be newer than the answer. */
const heardMeanwhile = new Map<Scope, Map<string, Alert>>();
/** Rises with every alert that comes or changes; lists of alerts ask anew. */
export const alertChanges = signal(0);
/** Whether the first answer is there. */
export const alertsKnown = signal(false);

const known = computed(() => allKnown(scopes.value.values()));
/** What is not resolved, newest first. */
export const alerts = computed<readonly Alert[]>(() => known.value.alerts);
/** Whether there are older ones than the page knows: its numbers of alerts are then "at least". */
export const hasMoreAlerts = computed(() => known.value.hasMore);
/** How many nobody has looked at, as far as the page knows. */
export const activeAlerts = computed(() => activeOf(alerts.value));

let ofToken: string | null = null;
session.subscribe((now) => {
  if ((now?.token ?? null) === ofToken) return;
  ofToken = now?.token ?? null;
  scopes.value = new Map();
  heardMeanwhile.clear();
  alertsKnown.value = false;
});

function knownOf(scope: Scope): KnownAlerts {
  return scopes.value.get(scope) ?? NO_ALERTS;
}

function take(scope: Scope, news: Alert): void {
  heardMeanwhile.get(scope)?.set(news.id, news);
  scopes.value = new Map(scopes.value).set(scope, afterAlert(knownOf(scope), news));
  alertChanges.value += 1;
}

/** Keep the alerts live; the shell does this once. */
export function useAlertFeed(): void {
  const { agentId, userId, isOperator } = me();
  useAlertsOf(agentId === null ? `user:${userId}` : `agent:${agentId}`);
  useAlertsOf(isOperator ? "global" : null);
}

function useAlertsOf(scope: Scope | null): void {
  const [turn, setTurn] = useState(0);
  const isAsking = useRef(false);
  const topic: Joined<AnalyticsJoined> = useTopic(scope === null ? null : `analytics:${scope}`, {
    on: {
      alert: (alert: Alert) => {
        if (scope === null) return;
        const isNews = alert.status === "active" && !knownOf(scope).alerts.some((one) => one.id === alert.id);
        take(scope, alert);
        const { alerts: left, hasMore } = knownOf(scope);
        if (hasMore && activeOf(left) < ASK_BELOW && !isAsking.current) setTurn((was) => was + 1);
        if (isNews && (alert.severity === "critical" || alert.severity === "error")) toast(alert.message, "bad");
      },
    },
  });
  const { joins, push, refusal } = topic;
  // biome-ignore lint/correctness/useExhaustiveDependencies: `turn` is how more are asked for.
  useEffect(() => {
    if (joins === 0 || scope === null) return;
    const token = ofToken;
    const heard = new Map<string, Alert>();
    heardMeanwhile.set(scope, heard);
    isAsking.current = true;
    let again: ReturnType<typeof setTimeout> | undefined;
    Promise.all([push<{ alerts: Alert[]; has_more?: boolean }>("subscribe_alerts"), acknowledgedOf(scope)])
      .then(([answer, acknowledged]) => {
        // A later question, or session, has its own answer.
        if (heardMeanwhile.get(scope) !== heard || token !== ofToken) return;
        const told = [...acknowledged, ...answer.alerts];
        scopes.value = new Map(scopes.value).set(scope, afterAnswer(told, answer.has_more ?? false, heard));
        alertChanges.value += 1;
      })
      .catch((error: unknown) => {
        if (refusalOf(error).reason !== "timeout") return;
        again = setTimeout(() => setTurn((was) => was + 1), ASK_AGAIN_MS);
      })
      .finally(() => {
        if (heardMeanwhile.get(scope) === heard) {
          heardMeanwhile.delete(scope);
          isAsking.current = false;
        }
        alertsKnown.value = true;
      });
    return () => clearTimeout(again);
  }, [joins, push, scope, turn]);
  useEffect(() => {
    if (refusal !== null) alertsKnown.value = true;
  }, [refusal]);
}

/** Those that somebody looks after: they are open, and the answer to `subscribe_alerts` has the active ones alone. */
async function acknowledgedOf(scope: Scope): Promise<Alert[]> {
  const query = { status: "acknowledged", limit: 100, whose: scope === "global" ? "market" : null };
  try {
    return (await list<Alert>(scope === "global" ? "/admin/alerts" : "/alerts", { query })).items;
  } catch {
    // The active ones are what matters; the alerts view says what is wrong.
    return [];
  }
}

async function change(alert: Alert, verb: "acknowledge" | "resolve", done: string): Promise<void> {
  try {
    const changed = { ...alert, ...(await send<Alert>("POST", `/alerts/${alert.id}/${verb}`)) };
    for (const [scope, { alerts: held }] of scopes.value) {
      if (held.some((one) => one.id === alert.id)) take(scope, changed);
    }
    alertChanges.value += 1;
    toast(done, "good");
  } catch (error) {
    const refusal = refusalOf(error);
    toast(refusal instanceof Refusal ? refusal.message : String(refusal), "bad");
  }
}

/** Say that somebody looks after it. A refusal becomes a toast. */
export function acknowledge(alert: Alert): Promise<void> {
  return change(alert, "acknowledge", "Alert acknowledged.");
}

/** Say that it is over. A refusal becomes a toast. */
export function resolve(alert: Alert): Promise<void> {
  return change(alert, "resolve", "Alert resolved.");
}
