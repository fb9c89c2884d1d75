// A payment channel as the market tells it, and how what comes in changes the page. Field names are the wire's.
import type { Currency } from "../../format";

export type ChannelStatus = "pending" | "open" | "closing" | "disputed" | "closed" | "declined" | "expired";

export interface Proposal {
  nonce: number;
  amount: number;
  from_agent_id: string;
  to_agent_id: string;
  balance_a: number;
  balance_b: number;
  task_id: string | null;
  memo: string | null;
  proposed_at: string;
  expires_at: string;
}

export interface Transfer {
  nonce: number;
  amount: number;
  from_agent_id: string;
  to_agent_id: string;
  balance_a: number;
  balance_b: number;
  task_id: string | null;
  completed_at: string;
}

export interface Channel extends Currency {
  channel_id: string;
  mode: "online" | "offline";
  window_s: number;
  agent_a_id: string;
  agent_b_id: string;
  status: ChannelStatus;
  deposit_a: number;
  deposit_b: number;
  balance_a: number;
  balance_b: number;
  last_nonce: number;
  next_nonce: number;
  pending_proposal: Proposal | null;
  last_transfer: Transfer | null;
  close_requests: {
    agent_id: string;
    nonce: number;
    final_balance_a: number;
    final_balance_b: number;
    requested_at?: string;
  }[];
  closing: { by: string | null; began_at: string; ends_at: string } | null;
  dispute: { agent_id: string; reason: string; evidence: unknown; opened_at: string; ends_at: string } | null;
  disputes_used: string[];
  state_lost: { nonce: number; reported_by: string; reported_at: string } | null;
  is_revoked: boolean;
  created_at: string;
  expires_at: string;
  accepted_at: string | null;
  closed_at: string | null;
  cause: string | null;
  reason: string | null;
  final_balance_a: number | null;
  final_balance_b: number | null;
}

/** One step of its history: everything that ever changed it. */
export interface Step {
  number: number;
  kind: string;
  at: string;
  agent_id: string | null;
  balance_a: number;
  balance_b: number;
  last_nonce: number;
  details: Record<string, unknown>;
}

/** Whether nothing can happen to it any more. */
export function isEnded(channel: Channel): boolean {
  return channel.status === "closed" || channel.status === "declined" || channel.status === "expired";
}

/** The channel after what `payment:{id}` has told; null where the page has to read it anew. */
export function channelAfter(channel: Channel, event: string, payload: Record<string, unknown>): Channel | null {
  if (isChannel(payload.channel)) return payload.channel;
  if (event === "propose_transfer") {
    const proposal = payload as unknown as Proposal;
    return proposal.nonce === channel.next_nonce ? { ...channel, pending_proposal: proposal } : null;
  }
  if (event === "transfer_complete") {
    const transfer = payload as unknown as Transfer;
    if (transfer.nonce <= channel.last_nonce) return channel;
    if (transfer.nonce !== channel.next_nonce) return null;
    const { nonce, balance_a, balance_b } = transfer;
    const moved = { balance_a, balance_b, last_nonce: nonce, next_nonce: nonce + 1, last_transfer: transfer };
    return { ...channel, ...moved, pending_proposal: null, close_requests: [] };
  }
  if (event === "reject_transfer" || event === "transfer_voided") {
    const { last_nonce, next_nonce } = payload as { last_nonce: number; next_nonce: number };
    return { ...channel, last_nonce, next_nonce, pending_proposal: null, close_requests: [] };
  }
  return null;
}

function isChannel(value: unknown): value is Channel {
  return typeof value === "object" && value !== null && "channel_id" in value && "balance_a" in value;
}

/** The step as a sentence's beginning. */
export const STEP_TITLES: Readonly<Record<string, string>> = {
  opened: "Opened",
  accepted: "Accepted",
  declined: "Declined",
  cancelled: "Taken back",
  expired: "Expired",
  deposit: "Deposit",
  transfer: "Transfer",
  voided: "Not paid",
  close_request: "Close offered",
  force_close: "Force-close",
  revoked: "Trade ended",
  dispute: "Dispute",
  dispute_withdrawn: "Dispute withdrawn",
  dispute_settled: "Dispute settled",
  state_lost: "States lost",
  closed: "Paid out",
};

/** A transfer of the history's step, as far as it moves or would have moved money. */
export function amountOf(step: Step): number | null {
  const { amount, deposit } = step.details;
  if (typeof amount === "number") return amount;
  return typeof deposit === "number" && deposit > 0 ? deposit : null;
}

export function textOf(step: Step, name: string): string | null {
  const value = step.details[name];
  return typeof value === "string" && value !== "" ? value : null;
}

/** What is due, and when; null where nothing waits for the clock. */
export function dueOf(channel: Channel): { at: string; title: string; text: string } | null {
  if (channel.dispute !== null) {
    const text = "Without a decision or a withdrawal by then it is paid out by the balances.";
    return { at: channel.dispute.ends_at, title: "Dispute ends", text };
  }
  if (channel.closing !== null) {
    return {
      at: channel.closing.ends_at,
      title: "Force-close ends",
      text: "Then both are paid what the balances say.",
    };
  }
  if (channel.status === "pending") {
    return { at: channel.expires_at, title: "Expires", text: "Unless the other agent accepts it before." };
  }
  return null;
}
