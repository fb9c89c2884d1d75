// A task as the market tells it, and what a page says about it. Field names are the wire's.
import type { Currency } from "../../format";
import type { Happening } from "../live";
import type { StreamPosition } from "./chunks";

export type TaskStatus = "pending" | "in_progress" | "completed" | "failed" | "cancelled" | "disputed";
export type Direction = "input" | "output";

export interface Stream extends StreamPosition {
  complete: boolean;
  verified: boolean;
  checksum: string | null;
}

export interface Settlement {
  decision: "client" | "provider" | "split";
  decided_by: "operator" | "default" | "automatic";
  to_client: number;
  to_provider: number;
  fee: number;
  reason: string | null;
  settled_at: string;
}

export interface Task extends Currency {
  task_id: string;
  client_agent_id: string;
  provider_agent_id: string;
  capability: string;
  input: unknown;
  negotiation_session_id: string | null;
  price: number;
  fee: number;
  fee_bps: number;
  net: number;
  escrow_status: "none" | "held" | "released" | "refunded" | "split";
  hold_seconds: number;
  hold_ends_at: string | null;
  channel_id: string | null;
  stream_price: { amount: number; per: "chunk" | "bytes"; unit_bytes: number | null; credit: number } | null;
  paid: number;
  units: number | null;
  paid_up_to: number | null;
  status: TaskStatus;
  streams: Record<Direction, Stream>;
  progress: { percent: number; message: string | null } | null;
  result: unknown;
  error: { type: string; details: unknown } | null;
  reason: string | null;
  dispute: { opened_by: string | null; reason: string; opened_at: string; decides_at: string } | null;
  settlement: Settlement | null;
  ended_by: string | null;
  created_at: string;
  started_at: string | null;
  ended_at: string | null;
  kept_until: string | null;
  deadline: string;
}

/** Whether nothing more can happen to its streams. */
export function isOver(task: Task): boolean {
  return task.status !== "pending" && task.status !== "in_progress" && task.status !== "disputed";
}

/** Whether anything can still change: after its end a price may be held for a while. */
export function isSettled(task: Task): boolean {
  return isOver(task) && task.escrow_status !== "held";
}

/** Whether its chunks are deleted. */
export function isForgotten(task: Task, nowMs: number): boolean {
  return task.kept_until !== null && Date.parse(task.kept_until) <= nowMs;
}

/** What has happened, oldest first, and then what is due. */
export function timelineOf(task: Task): Happening[] {
  const { dispute, settlement } = task;
  const happened: Happening[] = [{ at: task.created_at, title: "Opened" }];
  if (task.started_at !== null) happened.push({ at: task.started_at, title: "Started" });
  if (task.ended_at !== null) happened.push({ at: task.ended_at, ...endOf(task) });
  if (dispute !== null) {
    const by = dispute.opened_by === null ? "after a ban" : "by the client";
    happened.push({ at: dispute.opened_at, title: `Disputed ${by}`, text: dispute.reason, tone: "bad" });
  }
  if (settlement !== null) happened.push({ at: settlement.settled_at, ...settledAs(settlement) });
  happened.sort((one, other) => Date.parse(one.at) - Date.parse(other.at));
  return [...happened, ...duesOf(task)];
}

function endOf(task: Task): Omit<Happening, "at"> {
  if (task.error !== null) return { title: "Failed", text: task.error.type, tone: "bad" };
  if (task.status === "cancelled") return { title: "Cancelled", text: task.reason };
  if (task.status === "failed") return { title: "Failed", tone: "bad" };
  return { title: "Completed", tone: "good" };
}

function settledAs({ decision, decided_by, reason }: Settlement): Omit<Happening, "at"> {
  const who = { operator: "an operator", default: "the clock", automatic: "the market" }[decided_by];
  const to = { client: "the client is paid back", provider: "the provider is paid", split: "the price is split" }[
    decision
  ];
  return { title: `Settled by ${who}: ${to}`, text: reason };
}

function duesOf(task: Task): Happening[] {
  if (task.status === "pending" || task.status === "in_progress") {
    return [{ at: task.deadline, title: "Deadline", text: "What is not delivered by then fails.", isDue: true }];
  }
  if (task.status === "disputed" && task.dispute !== null && task.settlement === null) {
    const text =
      "Without an operator's decision by then: the provider is paid if something is delivered, else the client.";
    return [{ at: task.dispute.decides_at, title: "Decision due", text, isDue: true }];
  }
  if (task.status === "completed" && task.escrow_status === "held" && task.hold_ends_at !== null) {
    return [
      { at: task.hold_ends_at, title: "Price is paid", text: "Unless the client disputes it before.", isDue: true },
    ];
  }
  return [];
}

/** Where the price is, in a sentence. */
export function escrowSentence(task: Task): string {
  if (task.stream_price !== null) return "Nothing is held: it is paid as it streams.";
  return {
    none: "It costs nothing, so nothing is held.",
    held: "The price is held in escrow.",
    released: "The price is paid to the provider, less the fee.",
    refunded: "The price went back to the client.",
    split: "The price was split between the two.",
  }[task.escrow_status];
}
