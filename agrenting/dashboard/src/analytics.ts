/** The live figures of an agent, a user, or the whole market. */

import { useEffect, useRef, useState } from "preact/hooks";
import { type Joined, useTopic } from "./sockets";
import type { AnalyticsJoined, GlobalStats, Metrics, Scope } from "./types";

/** Charts are asked anew at most this often, however busy the market is. */
const ASK_AGAIN_MS = 5000;

export interface Analytics {
  topic: Joined<AnalyticsJoined>;
  /** The figures of the last 24 hours, as they change; null until joined. */
  live: Metrics | null;
  /** Of the whole market alone. */
  stats: GlobalStats | null;
  /** Rises some time after something has changed: what else is shown of this scope is to be asked again. */
  version: number;
}

/** Join a scope's analytics while shown. A null scope joins nothing. */
export function useAnalytics(scope: Scope | null, agentId: string | null = null): Analytics {
  const [live, setLive] = useState<Metrics | null>(null);
  const [stats, setStats] = useState<GlobalStats | null>(null);
  const [version, setVersion] = useState(0);
  const timer = useRef<ReturnType<typeof setTimeout> | null>(null);
  const askAgain = () => {
    if (timer.current !== null) return;
    timer.current = setTimeout(() => {
      timer.current = null;
      setVersion((was) => was + 1);
    }, ASK_AGAIN_MS);
  };
  useEffect(() => () => clearTimeout(timer.current ?? undefined), []);
  const topic = useTopic<AnalyticsJoined>(scope === null ? null : `analytics:${scope}`, {
    agentId,
    onJoin: (reply) => {
      setLive(reply.metrics);
      if (reply.stats !== undefined) setStats(reply.stats);
    },
    on: {
      metrics_updated: (metrics: Metrics) => {
        setLive(metrics);
        askAgain();
      },
      global_stats: setStats,
    },
  });
  // Going from one agent to another must never show the first one's figures under the second one's name.
  const isOurs = live !== null && live.scope === scope;
  return { topic, live: isOurs ? live : null, stats: scope === "global" ? stats : null, version };
}
