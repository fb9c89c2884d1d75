// API keys as the market tells them: never the key itself but for the moment in which it is made.
export interface Key {
  id: string;
  /** Its beginning, to tell keys apart. */
  hint: string;
  name: string;
  user_id: string;
  agent_id: string | null;
  parent_id: string | null;
  scopes: string[];
  max_amount: number | null;
  max_amount_per_day: number | null;
  created_at: string;
  revoked_at: string | null;
}

export interface NewKey extends Key {
  api_key: string | null;
}

/** What each scope allows, in a few words. */
export const SCOPE_WORDS: Readonly<Record<string, string>> = {
  "agents:read": "read agents",
  discover: "search the market",
  negotiate: "negotiate",
  tasks: "open and work on tasks",
  payments: "balances and payment channels",
  messages: "messages",
  contacts: "contacts",
  rooms: "chat rooms",
  analytics: "figures and alerts",
  admin: "operate the market",
};
