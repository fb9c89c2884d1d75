import { describe, expect, it } from "vitest";
import {
  bucketTime,
  count,
  decimal,
  duration,
  money,
  percent,
  plural,
  relative,
  sentences,
  shortCount,
  shortId,
  shortMoney,
  words,
} from "../src/format";

const USD = { currency: "USD", exponent: 6 };
const NOW = Date.parse("2026-03-01T12:00:00Z");

describe("money", () => {
  it.each([
    [0, 6, "0.000000"],
    [1, 6, "0.000001"],
    [-1_234_567, 6, "-1.234567"],
    [850, 2, "8.50"],
    [7, 0, "7"],
    [Number.MAX_SAFE_INTEGER, 6, "9007199254.740991"],
  ])("writes %i minor units of exponent %i as %s, without a division", (minor, exponent, text) => {
    expect(decimal(minor, exponent)).toBe(text);
  });

  it("keeps every digit that counts, and two that do not", () => {
    expect(money(600, USD)).toBe("$0.0006");
    expect(money(1_500_000, USD)).toBe("$1.50");
    expect(money(Number.MAX_SAFE_INTEGER, USD)).toBe("$9,007,199,254.740991");
  });

  it("writes a unit that is no ISO currency behind the amount", () => {
    expect(money(1250, { currency: "CREDITS", exponent: 2 })).toBe("12.50 CREDITS");
    expect(shortMoney(5, { currency: "points", exponent: 0 })).toBe("5 points");
  });

  it.each([
    [0, "$0.00"],
    [600, "$0.0006"],
    [123_456, "$0.123"],
    [19_083_123, "$19.08"],
    [-19_083_123, "-$19.08"],
    [123_456_000_000, "$123.46K"],
  ])("shortens %i to %s", (minor, text) => {
    expect(shortMoney(minor, USD)).toBe(text);
  });

  it("shows what is not known as a dash", () => {
    expect(money(null, USD)).toBe("–");
    expect(shortMoney(undefined, USD)).toBe("–");
  });
});

describe("counts and parts", () => {
  it("separates thousands, and shortens only where digits stop mattering", () => {
    expect(count(1_234_567)).toBe("1,234,567");
    expect(shortCount(99_999)).toBe("99,999");
    expect(shortCount(1_234_567)).toBe("1.2M");
  });

  it("tells a rate that is nought from one that is not known", () => {
    expect(percent(0)).toBe("0%");
    expect(percent(0.9645)).toBe("96.5%");
    expect(percent(null)).toBe("–");
  });

  it("counts nouns", () => {
    expect(plural(1, "task")).toBe("1 task");
    expect(plural(0, "task")).toBe("0 tasks");
    expect(plural(2, "reply", "replies")).toBe("2 replies");
  });
});

describe("times", () => {
  it.each([
    [0, "0 ms"],
    [999, "999 ms"],
    [3_920, "3.9 s"],
    [59_949, "59.9 s"],
    [59_999, "1 min"],
    [250_000, "4 min 10 s"],
    [3_600_000, "1 h"],
    [3_599_999, "1 h"],
    [86_399_999, "1 d"],
    [100 * 3_600_000, "4 d 4 h"],
  ])("writes %i ms as %s", (ms, text) => {
    expect(duration(ms)).toBe(text);
  });

  it.each([
    ["2026-03-01T12:00:00.400Z", "now"],
    ["2026-03-01T11:59:48Z", "12 sec ago"],
    ["2026-03-01T09:00:00Z", "3 hr ago"],
    ["2026-03-01T12:05:00Z", "in 5 min"],
    ["2026-02-28T12:00:00Z", "yesterday"],
  ])("writes %s as %s", (at, text) => {
    expect(relative(at, NOW)).toBe(text);
  });

  it("names a day's bucket by its day in UTC, wherever the reader is", () => {
    expect(bucketTime("2026-03-01T00:00:00Z", "day")).toBe("1 Mar 2026");
    expect(bucketTime("2026-03-01T13:00:00Z", "hour")).toBe("1 Mar, 13:00 UTC");
  });
});

describe("a message's first sentence", () => {
  it.each([
    ["One thing. 4.50 USD stay held.", "One thing.", "4.50 USD stay held."],
    ["The task failed: olga/lingua is busy. Try again.", "The task failed: olga/lingua is busy.", "Try again."],
    ["The price of 4.50 USD is back", "The price of 4.50 USD is back", ""],
    ["", "", ""],
  ])("%s", (message, first, rest) => {
    expect(sentences(message)).toEqual([first, rest]);
  });
});

it("turns the protocol's names into words, and ids into what differs between them", () => {
  expect(words("task_completed")).toBe("Task completed");
  expect(shortId("018f4c1e-0000-7000-8000-00000000abcd")).toBe("…0000abcd");
});
