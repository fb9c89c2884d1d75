/** Handles of agents that are known by their ids alone: of tasks, channels and negotiations. Each is asked for once. */

import { signal } from "@preact/signals";
import { get, refusalOf } from "./rest";
import { actingAs, maySee, session } from "./session";
import type { Revenue } from "./types";

/** By id; null of those that this session cannot see. */
const handles = signal<ReadonlyMap<string, string | null>>(new Map());
const asked = new Set<string>();
/** The agents whose counterparties were asked for. */
const counterparties = new Map<string, Promise<void>>();

session.subscribe((now) => {
  if (now !== null) return;
  asked.clear();
  counterparties.clear();
  handles.value = new Map();
});

/** Note a handle that came with something else. */
export function noteHandle(id: string, handle: string | null): void {
  if (handle === null || handles.peek().get(id) === handle) return;
  asked.add(id);
  handles.value = new Map(handles.peek()).set(id, handle);
}

/** The handle of an agent, as far as it is known; reading it follows what comes later. */
export function handleOf(id: string): string | null {
  return handles.value.get(id) ?? null;
}

/** Ask for a handle as `agentId` sees it, once. What cannot be seen stays unknown. */
export async function askHandle(id: string, agentId: string): Promise<void> {
  if (asked.has(id)) return;
  asked.add(id);
  try {
    const { handle } = await get<{ handle: string }>(`/agents/${id}`, { agentId: actingAs(agentId) });
    noteHandle(id, handle);
  } catch (error) {
    if (refusalOf(error).isPassing) asked.delete(id);
    else await askCounterparties(agentId);
  }
}

/** Who has paid an agent has a handle in its revenue, also if it is neither listed nor a contact. */
function askCounterparties(agentId: string): Promise<void> {
  if (!maySee("analytics")) return Promise.resolve();
  let asking = counterparties.get(agentId);
  if (asking === undefined) {
    asking = get<Revenue>("/analytics/revenue", { query: { scope: `agent:${agentId}`, period: "all" } })
      .then(({ by_counterparty }) => {
        for (const { agent_id: id, handle } of by_counterparty) if (id !== null) noteHandle(id, handle);
      })
      // A name is an extra: without it the id does.
      .catch(() => undefined);
    counterparties.set(agentId, asking);
  }
  return asking;
}
