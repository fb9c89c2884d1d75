/** A feed as it grows: what was answered and what was pushed tell partly the same, in any order. */

import type { Activity } from "./types";

/** An answer to `subscribe_activity` that holds so many may have left older ones out. */
export const ANSWER_MAX = 50;

/** Both together, each once (by `id`), the newest first, no more than `max`. */
export function merged(known: readonly Activity[], news: readonly Activity[], max: number): readonly Activity[] {
  const ids = new Set(known.map((item) => item.id));
  const fresh: Activity[] = [];
  for (const item of news) {
    if (ids.has(item.id)) continue;
    ids.add(item.id);
    fresh.push(item);
  }
  if (fresh.length === 0 && known.length <= max) return known;
  // What comes is oldest first; of the same moment the later told is the newer.
  return [...fresh.reverse(), ...known].sort((one, other) => moment(other) - moment(one)).slice(0, max);
}

/**
 * With an answer to `subscribe_activity`, which may come after pushes that are newer.
 *
 * Where the answer is full and knows nothing of what was shown before, something between the two is missing: then what
 * is older than the answer goes, so that no line seems to follow another that it does not.
 */
export function answered(known: readonly Activity[], told: readonly Activity[], max: number): readonly Activity[] {
  const ids = new Set(known.map((item) => item.id));
  const hasGap = told.length >= ANSWER_MAX && !told.some((item) => ids.has(item.id));
  const oldest = Math.min(...told.map(moment));
  return merged(hasGap ? known.filter((item) => moment(item) >= oldest) : known, told, max);
}

function moment(item: Activity): number {
  return Date.parse(item.at);
}
