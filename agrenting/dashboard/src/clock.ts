/** One clock for everything on the page: the browser's own, set by the market's, which may be days away from it. */

import { type Signal, signal } from "@preact/signals";
import { useEffect } from "preact/hooks";

/** Closer than this the browser's clock is right; the market tells whole seconds only. */
const TOLERANCE_MS = 2000;
/** What took longer on its way says too little about when it was written. */
const TRIP_MS_MAX = 10_000;

/** How far the market's clock is ahead of the browser's, in ms; null until the market has told. */
export const clockOffset: Signal<number | null> = signal(null);

/** Now, by the market's clock as far as it is known, in ms since the epoch. */
export function marketNow(): number {
  return Date.now() + (clockOffset.peek() ?? 0);
}

/** Now, in ms since the epoch, to the second; runs only while something shows it. */
export const now: Signal<number> = signal(marketNow());

/** Set the clock, as it was known before the page was loaded anew. */
export function setClockOffset(offsetMs: number): void {
  clockOffset.value = offsetMs;
  now.value = marketNow();
}

/**
 * Take the market's time from an answer's `date`. What is missing, or says nothing new, changes nothing.
 *
 * Args: `sentMs` and `heardMs` are the browser's clock before and after the call, in ms since the epoch.
 */
export function noteMarketTime(date: string | null, { sentMs, heardMs }: { sentMs: number; heardMs: number }): void {
  const toldMs = Date.parse(date ?? "");
  const tripMs = heardMs - sentMs;
  if (Number.isNaN(toldMs) || tripMs < 0 || tripMs > TRIP_MS_MAX) return;
  // The second that is told has begun up to a second ago, and the answer was written somewhere on the way.
  const measuredMs = Math.round(toldMs + 500 - (sentMs + heardMs) / 2);
  const was = clockOffset.peek();
  if (was === null || Math.abs(measuredMs - was) > TOLERANCE_MS + tripMs / 2) {
    setClockOffset(Math.abs(measuredMs) > TOLERANCE_MS + tripMs / 2 ? measuredMs : 0);
  }
}

let users = 0;
let timer: ReturnType<typeof setInterval> | undefined;

/** Show the present second; the part that calls this is drawn again with each. */
export function useNow(): number {
  useEffect(() => {
    users += 1;
    if (users === 1) {
      now.value = marketNow();
      timer = setInterval(() => {
        now.value = marketNow();
      }, 1000);
    }
    return () => {
      users -= 1;
      if (users === 0) clearInterval(timer);
    };
  }, []);
  return now.value;
}
