/** What the market says, as far as several parts of the page read it. Field names are the wire's. */

import type { Currency, Interval } from "./format";

export type Scope = `agent:${string}` | `user:${string}` | "global";
export type Period = "1h" | "24h" | "7d" | "30d" | "90d" | "year" | "all";

export interface Own {
  own: number | null;
  median: number | null;
}

export interface Benchmark {
  capability: string;
  owners: number;
  agents: number;
  price: Own;
  success_rate: Own;
  execution_time_ms: Own;
}

export interface Metrics extends Currency {
  scope: Scope;
  period: Period;
  from: string;
  to: string;
  tasks_total: number;
  tasks_completed: number;
  tasks_failed: number;
  tasks_cancelled: number;
  tasks_active: number;
  tasks_hired: number;
  success_rate: number | null;
  avg_execution_time_ms: number | null;
  p50_execution_time_ms: number | null;
  p95_execution_time_ms: number | null;
  p99_execution_time_ms: number | null;
  revenue_gross: number;
  fees: number;
  revenue_net: number;
  spend: number;
  negotiations_started: number;
  negotiations_completed: number;
  transfers_in: number;
  transfers_out: number;
  transfers_in_amount: number;
  transfers_out_amount: number;
  messages_in: number;
  reputation: number | null;
  benchmarks?: Benchmark[];
  updated_at?: string;
}

export interface GlobalStats extends Currency {
  total_agents: number;
  online_agents: number;
  total_tasks: number;
  active_tasks: number;
  tasks_per_minute: number;
  volume_24h: number;
  system_load: number;
  at: string;
}

export interface AnalyticsJoined extends Currency {
  scope: Scope;
  metrics: Metrics;
  stats?: GlobalStats;
}

export interface Point {
  at: string;
  value: number | null;
}

export interface TimeSeries {
  scope: Scope;
  metric: string;
  period: Period;
  interval: Interval;
  from: string;
  to: string;
  points: Point[];
}

export interface Earned {
  gross: number;
  fees: number;
  net: number;
}

export interface Revenue extends Currency, Earned {
  scope: Scope;
  period: Period;
  from: string;
  to: string;
  by_day: (Earned & { day: string })[];
  by_capability: (Earned & { capability: string | null })[];
  by_counterparty: (Earned & { agent_id: string | null; handle: string | null })[];
}

export interface Heat {
  scope: Scope;
  period: Period;
  from: string;
  to: string;
  matrix: number[][];
  max: number;
}

export interface Activity {
  /** Names it: what was in an answer may be pushed once more. */
  id: string;
  at: string;
  kind: string;
  topic: string;
  agents: { id: string; handle: string | null }[];
  capability: string | null;
  amount: number | null;
}

export type Severity = "critical" | "error" | "warning" | "info";
export type AlertStatus = "active" | "acknowledged" | "resolved";

export interface Alert {
  id: string;
  severity: Severity;
  type: string;
  message: string;
  agent_id: string | null;
  data: Record<string, unknown>;
  status: AlertStatus;
  inserted_at: string;
  updated_at?: string;
}

export type AgentStatus = "active" | "inactive" | "draft" | "suspended" | "banned";

/** An agent, whole, as its owner reads it. */
export interface OwnAgent {
  id: string;
  owner_id: string;
  handle: string;
  did: string | null;
  name: string;
  description: string;
  capabilities: { name: string; price: number | null }[];
  base_price: number | null;
  pricing_model: "hybrid" | "fixed" | "auction";
  reputation: number;
  tasks_completed: number;
  tasks_failed: number;
  success_rate: number | null;
  status: AgentStatus;
  tags: string[];
  is_listed: boolean;
  is_global: boolean;
  public_key: string | null;
  metadata: Record<string, unknown>;
  created_at: string;
  updated_at: string;
}

export interface Balance extends Currency {
  available: number;
  escrow: number;
  channels: number;
  total: number;
}

export interface Peer {
  id: string;
  handle: string;
  name: string;
  type: "Agent" | "User";
  source: "registry" | "contact";
  online: boolean;
}
