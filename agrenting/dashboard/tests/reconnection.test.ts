import { describe, expect, it } from "vitest";
import { isPassing, reconnectAfterMs } from "../src/reconnection";

describe("the wait before the next try", () => {
  it("grows with each failure, and stops growing", () => {
    const waits = [1, 2, 3, 4, 5, 6, 7, 8, 1000].map((tries) => reconnectAfterMs(tries, 0.5));
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 15_000, 30_000, 30_000, 30_000]);
  });

  it("differs from page to page by a fifth", () => {
    expect(reconnectAfterMs(3, 0)).toBe(1800);
    expect(reconnectAfterMs(3, 1)).toBe(2200);
  });

  it("is never nothing, whatever it is told", () => {
    expect(reconnectAfterMs(0, 0)).toBeGreaterThan(0);
  });
});

describe("a refused join", () => {
  it.each(["rate_limited", "draining", "unavailable", "join timeout"])("is tried again after %s", (reason) => {
    expect(isPassing(reason)).toBe(true);
  });

  it.each(["unauthorized", "not_found", "missing_scope", "unmatched topic", "a new reason"])(
    "stays refused after %s",
    (reason) => {
      expect(isPassing(reason)).toBe(false);
    },
  );
});
