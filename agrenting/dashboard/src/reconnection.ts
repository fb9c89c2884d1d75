/** When to try again, and which refusals of a join are final. */

const STEPS_MS = [500, 1000, 2000, 4000, 8000, 15_000, 30_000] as const;
/** Waits differ by up to a fifth, so that the pages of a restarted market do not come back all at once. */
const JITTER = 0.2;

/**
 * How long to wait before the next try to connect.
 *
 * @param tries - how many tries have failed, from 1
 * @param random - 0 to 1
 */
export function reconnectAfterMs(tries: number, random: number = Math.random()): number {
  const step = STEPS_MS[Math.min(Math.max(tries, 1), STEPS_MS.length) - 1] ?? 30_000;
  return Math.round(step * (1 - JITTER / 2 + JITTER * random));
}

/** Refusals that pass by themselves: the join is tried again. Every other refusal stays until somebody changes something. */
const PASSING = new Set(["rate_limited", "conflict", "unavailable", "draining", "join timeout", "join crashed"]);

/** Whether a refused join is worth trying again without anybody doing anything. */
export function isPassing(reason: string): boolean {
  return PASSING.has(reason);
}
