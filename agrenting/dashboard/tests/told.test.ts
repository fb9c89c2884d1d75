import { describe, expect, it } from "vitest";
import { type Channel, channelAfter, dueOf } from "../src/views/channel/told";
import { isForgotten, isSettled, type Task, timelineOf } from "../src/views/task/told";

const CHANNEL = {
  ...{ channel_id: "c", agent_a_id: "alice", agent_b_id: "bob", status: "open", currency: "USD", exponent: 2 },
  ...{ balance_a: 900, balance_b: 100, last_nonce: 3, next_nonce: 4, pending_proposal: null, last_transfer: null },
  ...{ close_requests: [{ agent_id: "bob", nonce: 3 }], closing: null, dispute: null },
} as unknown as Channel;
const TRANSFER = { nonce: 4, amount: 50, from_agent_id: "alice", to_agent_id: "bob", balance_a: 850, balance_b: 150 };

describe("what a payment channel is after an event", () => {
  it("moves with the next transfer, which voids what was signed for a close", () => {
    expect(channelAfter(CHANNEL, "transfer_complete", TRANSFER)).toMatchObject({
      ...{ balance_a: 850, balance_b: 150, last_nonce: 4, next_nonce: 5, close_requests: [] },
    });
  });

  it("stays where a transfer comes again, and is read anew where one is missing", () => {
    expect(channelAfter(CHANNEL, "transfer_complete", { ...TRANSFER, nonce: 3 })).toBe(CHANNEL);
    expect(channelAfter(CHANNEL, "transfer_complete", { ...TRANSFER, nonce: 6 })).toBeNull();
  });

  it("has a proposal until it is answered, and its nonce is used up if it is refused", () => {
    // Act
    const proposed = channelAfter(CHANNEL, "propose_transfer", TRANSFER);
    const rejected = channelAfter(proposed ?? CHANNEL, "reject_transfer", { last_nonce: 4, next_nonce: 5 });

    // Assert
    expect(proposed?.pending_proposal).toMatchObject({ nonce: 4, amount: 50 });
    expect(rejected).toMatchObject({ pending_proposal: null, balance_a: 900, next_nonce: 5 });
  });

  it("is taken whole where it comes whole, and read anew after anything else", () => {
    const closed = { ...CHANNEL, status: "closed" };
    expect(channelAfter(CHANNEL, "channel_closed", { channel: closed })).toBe(closed);
    expect(channelAfter(CHANNEL, "close_request", { nonce: 3 })).toBeNull();
  });

  it("says what is due: a dispute before a force-close", () => {
    const closing = { by: "bob", began_at: "2026-01-01T00:00:00Z", ends_at: "2026-01-02T00:00:00Z" };
    const dispute = { agent_id: "bob", reason: "", evidence: null, opened_at: "", ends_at: "2026-01-03T00:00:00Z" };
    expect(dueOf(CHANNEL)).toBeNull();
    expect(dueOf({ ...CHANNEL, closing })?.at).toBe(closing.ends_at);
    expect(dueOf({ ...CHANNEL, closing, dispute })?.at).toBe(dispute.ends_at);
  });
});

const TASK = {
  ...{ status: "completed", escrow_status: "held", hold_ends_at: "2026-01-01T02:00:00Z", error: null, reason: null },
  ...{ created_at: "2026-01-01T00:00:00Z", started_at: "2026-01-01T00:10:00Z", ended_at: "2026-01-01T01:00:00Z" },
  ...{ dispute: null, settlement: null, kept_until: null, deadline: "2026-01-08T00:00:00Z" },
} as unknown as Task;
const titles = (task: Task) => timelineOf(task).map(({ title, isDue }) => (isDue ? `due: ${title}` : title));

describe("what has happened to a task", () => {
  it("tells what was and what is due", () => {
    expect(titles(TASK)).toEqual(["Opened", "Started", "Completed", "due: Price is paid"]);
    expect(titles({ ...TASK, status: "in_progress", ended_at: null })).toEqual(["Opened", "Started", "due: Deadline"]);
  });

  it("tells a dispute and how it was settled in their order", () => {
    const dispute = {
      opened_by: "alice",
      reason: "wrong",
      opened_at: "2026-01-01T01:30:00Z",
      decides_at: "2026-01-08T01:30:00Z",
    };
    const settlement = {
      decision: "client",
      decided_by: "operator",
      to_client: 1,
      to_provider: 0,
      fee: 0,
      reason: null,
      settled_at: "2026-01-02T00:00:00Z",
    } as const;
    expect(titles({ ...TASK, status: "disputed", dispute })).toEqual([
      "Opened",
      "Started",
      "Completed",
      "Disputed by the client",
      "due: Decision due",
    ]);
    expect(titles({ ...TASK, status: "failed", escrow_status: "refunded", dispute, settlement }).at(-1)).toBe(
      "Settled by an operator: the client is paid back",
    );
  });

  it("can still change while its price is held, and its chunks are kept for a while", () => {
    expect(isSettled(TASK)).toBe(false);
    expect(isSettled({ ...TASK, escrow_status: "released" })).toBe(true);
    expect(isForgotten(TASK, Date.parse("2027-01-01T00:00:00Z"))).toBe(false);
    expect(isForgotten({ ...TASK, kept_until: "2026-01-08T00:00:00Z" }, Date.parse("2026-01-08T00:00:00Z"))).toBe(true);
  });
});
