/** How many contact requests wait for an answer of the user or its agents. */

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get, list } from "./rest";
import { me, session } from "./session";
import { useTopic } from "./sockets";

/** Requests to agents are told to the agents' own connections alone, so the user's page looks now and then. */
const LOOK_AGAIN_MS = 30_000;

/** Null until it is known, and where it cannot be. */
export const pendingContacts = signal<number | null>(null);

interface Received {
  received: unknown[];
}

/** Ask anew; call it after a request was answered. */
export async function refreshPending(): Promise<void> {
  const now = session.value;
  if (now === null || !now.scopes.includes("contacts")) return;
  try {
    pendingContacts.value = await pendingOf(now.agentId === null);
  } catch {
    // The inbox says what is wrong; a number that is not known is not shown.
    pendingContacts.value = null;
  }
}

async function pendingOf(isUser: boolean): Promise<number> {
  if (isUser) {
    const page = await list("/me/contacts/requests", { query: { whose: "all", page_size: 1 } });
    return page.totalCount ?? page.items.length;
  }
  const { received } = await get<Received>("/agent/contacts/requests", { query: { page_size: 100 } });
  return received.length;
}

const look = () => void refreshPending();

/** Keep the number up to date; the shell does this once. */
export function usePendingContacts(): void {
  const { agentId, userId } = me();
  const name = agentId === null ? `user_contacts:${userId}` : `agent_contacts:${agentId}`;
  useTopic(me().scopes.includes("contacts") ? name : null, {
    onJoin: look,
    on: { contact_request_received: look, contact_request_updated: look, contact_added: look },
  });
  useEffect(() => {
    void refreshPending();
    const timer = setInterval(look, LOOK_AGAIN_MS);
    return () => clearInterval(timer);
  }, []);
}
