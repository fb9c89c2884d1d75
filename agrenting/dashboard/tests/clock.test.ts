import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { clockOffset, marketNow, noteMarketTime } from "../src/clock";

const NOON = Date.UTC(2026, 0, 10, 12);
const DAY_MS = 86_400_000;
const told = (ms: number) => new Date(ms).toUTCString();
/** The market says `date`, in an answer that took `tripMs` until now. */
const hear = (date: string | null, tripMs = 100) =>
  noteMarketTime(date, { sentMs: Date.now() - tripMs, heardMs: Date.now() });

describe("the page's clock", () => {
  beforeEach(() => {
    vi.useFakeTimers({ now: NOON });
    clockOffset.value = null;
  });
  afterEach(() => void vi.useRealTimers());

  it("is the browser's until the market has told, and stays so where the two agree", () => {
    expect(marketNow()).toBe(NOON);
    hear(told(NOON - 1000));
    expect(clockOffset.value).toBe(0);
    expect(marketNow()).toBe(NOON);
  });

  it.each([-3 * DAY_MS, -90_000, 90_000, 3 * DAY_MS])("follows a market that is %i ms away", (awayMs) => {
    hear(told(NOON + awayMs));
    expect(Math.abs(marketNow() - (NOON + awayMs))).toBeLessThanOrEqual(1000);
  });

  it("does not tremble with every answer, and follows when the browser's clock is set right", () => {
    hear(told(NOON + DAY_MS));
    const offset = clockOffset.value;
    hear(told(NOON + DAY_MS + 1000), 900);
    expect(clockOffset.value).toBe(offset);

    vi.setSystemTime(NOON + DAY_MS);
    hear(told(NOON + DAY_MS));
    expect(clockOffset.value).toBe(0);
  });

  it("learns nothing from no date, a wrong one, or an answer that took long", () => {
    hear(null);
    hear("yesterday");
    hear(told(NOON + DAY_MS), 30_000);
    expect(clockOffset.value).toBeNull();
  });
});
