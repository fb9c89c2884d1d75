import { describe, expect, it } from "vitest";
import { ANSWER_MAX, answered, merged } from "../src/happened";
import type { Activity } from "../src/types";

const item = (number: number, second = number) =>
  ({ id: `item-${number}`, at: new Date(Date.UTC(2026, 0, 1) + second * 1000).toISOString() }) as Activity;
const items = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => item(from + index));
const ids = (feed: readonly Activity[]) => feed.map(({ id }) => Number(id.slice(5)));

describe("a feed", () => {
  it("shows each item once, also if it is answered and pushed", () => {
    const answer = answered([], items(1, 3), 60);
    expect(ids(merged(answer, items(3, 5), 60))).toEqual([5, 4, 3, 2, 1]);
    expect(merged(answer, [item(2)], 60)).toBe(answer);
  });

  it("keeps what was pushed before the answer came", () => {
    const pushed = merged([], [item(4), item(5)], 60);
    expect(ids(answered(pushed, items(1, 4), 60))).toEqual([5, 4, 3, 2, 1]);
  });

  it("is ordered by when it happened; of one moment the later told is the newer", () => {
    expect(ids(merged([item(9, 5)], [item(1, 7), item(2, 3), item(3, 7)], 60))).toEqual([3, 1, 9, 2]);
  });

  it("lets the oldest go", () => {
    expect(ids(merged(merged([], items(1, 3), 3), [item(4)], 3))).toEqual([4, 3, 2]);
  });

  it("shows nothing across a gap after a lost connection", () => {
    // Arrange
    const before = merged([], items(1, 5), 60);
    const full = items(100, 99 + ANSWER_MAX);

    // Assert: an answer that is not full, or goes on where the feed ends, leaves out nothing.
    expect(ids(answered(before, full, 60)).at(-1)).toBe(100);
    expect(ids(answered(before, items(100, 101), 60))).toEqual([101, 100, 5, 4, 3, 2, 1]);
    expect(ids(answered(before, [], 60))).toEqual([5, 4, 3, 2, 1]);
    expect(ids(answered(before, items(5, 4 + ANSWER_MAX), 60)).at(-1)).toBe(1);
  });
});
