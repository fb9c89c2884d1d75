/** Who is logged in. The API key is exchanged for a session token and forgotten; the token ends with the tab. */

import { computed, signal } from "@preact/signals";
import { clockOffset, marketNow, setClockOffset } from "./clock";
import type { Currency } from "./format";
import { callWith, get, Refusal, setCredentials } from "./rest";

export interface Session {
  token: string;
  /** When the token ends, as the market says. */
  expiresAt: string;
  userId: string;
  /** The agent that the key is of; null for a user. */
  agentId: string | null;
  handle: string;
  scopes: string[];
  isOperator: boolean;
}

interface Authenticated {
  session_token: string;
  expires_at: string;
  user_id: string;
  agent_id: string | null;
  handle: string;
  scopes: string[];
}

export interface Meta extends Currency {
  version: string;
  fee_bps: number;
  limits: Record<string, number>;
}

const STORED = "agrenting.session";
const EXPIRED = "Your session has expired. Log in again to go on.";
/** setTimeout counts in 31 bits; a longer session is looked at again by then. */
const META_AGAIN_MS = 2000;
const TIMER_MS_MAX = 2 ** 31 - 1;

export const session = signal<Session | null>(null);
/** Why the login is shown, when it was not asked for. */
export const notice = signal<string | null>(null);
/** What the market says of itself; null until it has. */
export const meta = signal<Meta | null>(null);
/** The market's money. Views are shown only once `meta` is there, so they never see the stand-in. */
export const currency = computed<Currency>(() => meta.value ?? { currency: "", exponent: 0 });

let expiryTimer: ReturnType<typeof setTimeout> | undefined;

setCredentials({
  token: () => session.value?.token ?? null,
  onUnauthorized: () => expire("Your session has ended. Log in again to go on."),
});

/** Who is logged in; for views, which are shown to nobody else. */
export function me(): Session {
  const now = session.value;
  if (now === null) throw new Error("nobody is logged in");
  return now;
}

/** The `agentId` to send for acting as an agent: none where the session is that agent's own. */
export function actingAs(agentId: string): string | null {
  return session.value?.agentId === agentId ? null : agentId;
}

/** Whether the session's key has a scope. */
export function maySee(scope: string): boolean {
  return session.value?.scopes.includes(scope) ?? false;
}

/** Where somebody begins. */
export function homeOf(of: Session): string {
  if (of.agentId !== null) return `#/agents/${of.agentId}`;
  return of.isOperator ? "#/market" : "#/agents";
}

/**
 * Exchange an API key for a session.
 *
 * Throws a Refusal when the market does not take it.
 */
export async function login(apiKey: string): Promise<Session> {
  const opened = await callWith<Authenticated>(apiKey, "POST", "/auth/authenticate");
  let isOperator = false;
  if (opened.agent_id === null) {
    const user = await callWith<{ is_operator: boolean }>(opened.session_token, "GET", "/me");
    isOperator = user.is_operator && opened.scopes.includes("admin");
  }
  const made: Session = {
    token: opened.session_token,
    expiresAt: opened.expires_at,
    userId: opened.user_id,
    agentId: opened.agent_id,
    handle: opened.handle,
    scopes: opened.scopes,
    isOperator,
  };
  keep(made);
  notice.value = null;
  begin(made);
  return made;
}

/** Take up the session that this tab had before it was loaded anew. */
export function resume(): void {
  const stored = sessionStorage.getItem(STORED);
  if (stored === null) return;
  const found = storedSession(stored);
  if (found !== null) {
    // By the market's clock, as this tab knew it; if that has changed since, the first answer sets it right.
    if (found.clockOffsetMs !== null) setClockOffset(found.clockOffsetMs);
    if (clockOffset.peek() === null || Date.parse(found.session.expiresAt) > marketNow()) {
      begin(found.session);
      return;
    }
    notice.value = EXPIRED;
  }
  sessionStorage.removeItem(STORED);
}

/** What this page has stored, if it is that: what is not ours, or of another version, is as if there were none. */
export function storedSession(text: string): { session: Session; clockOffsetMs: number | null } | null {
  let found: Partial<Record<keyof Session | "clockOffsetMs", unknown>> | null;
  try {
    found = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof found !== "object" || found === null) return null;
  const { token, expiresAt, userId, agentId, handle, scopes, isOperator, clockOffsetMs } = found;
  if (typeof token !== "string" || typeof userId !== "string" || typeof handle !== "string") return null;
  if (typeof expiresAt !== "string" || Number.isNaN(Date.parse(expiresAt))) return null;
  if (agentId !== null && typeof agentId !== "string") return null;
  if (!Array.isArray(scopes) || scopes.some((scope) => typeof scope !== "string")) return null;
  if (typeof isOperator !== "boolean") return null;
  return {
    session: { token, expiresAt, userId, agentId, handle, scopes, isOperator },
    clockOffsetMs: typeof clockOffsetMs === "number" ? clockOffsetMs : null,
  };
}

function keep(made: Session): void {
  sessionStorage.setItem(STORED, JSON.stringify({ ...made, clockOffsetMs: clockOffset.peek() }));
}

let last: string | null = null;

/** Who was logged in before in this tab, since it was loaded; null if nobody was. */
export function lastHandle(): string | null {
  return last;
}

function begin(made: Session): void {
  last = made.handle;
  session.value = made;
  watchExpiry(made);
  if (meta.value === null) void loadMeta();
}

function watchExpiry(made: Session): void {
  clearTimeout(expiryTimer);
  // Without the market's time only the market can say when it is over.
  if (clockOffset.peek() === null) return;
  const leftMs = Date.parse(made.expiresAt) - marketNow();
  if (leftMs <= 0) expire(EXPIRED);
  else expiryTimer = setTimeout(() => watchExpiry(made), Math.min(leftMs, TIMER_MS_MAX));
}

clockOffset.subscribe(() => {
  const made = session.peek();
  if (made === null) return;
  keep(made);
  watchExpiry(made);
});

/** Show the login, with a sentence that says why. */
export function expire(sentence: string): void {
  if (session.value === null) return;
  end();
  notice.value = sentence;
}

function end(): void {
  clearTimeout(expiryTimer);
  sessionStorage.removeItem(STORED);
  session.value = null;
}

/** End the session here and at the market. It ends here even if the market cannot be reached. */
export async function logout(): Promise<void> {
  const { token } = me();
  end();
  notice.value = "You are logged out.";
  try {
    await callWith(token, "DELETE", "/auth/logout");
  } catch (error) {
    if (error instanceof Refusal && error.status === 0) {
      notice.value = "You are logged out here. The market could not be told, so the session ends there by itself.";
    }
  }
}

/** Ask whether the token is still good; a dead one ends the session. Sockets ask this, because they cannot see why. */
export async function verifySession(): Promise<void> {
  if (session.value === null) return;
  try {
    await get(session.value.agentId === null ? "/me" : "/agent/me");
  } catch {
    // A 401 has ended the session by now; anything else says nothing about it.
  }
}

async function loadMeta(): Promise<void> {
  try {
    meta.value = await get<Meta>("/meta");
  } catch {
    // Without it no amount can be written, so it is asked for until it comes.
    setTimeout(() => session.value !== null && meta.value === null && void loadMeta(), META_AGAIN_MS);
  }
}
