/** The market's REST interface: one function a verb, typed answers, and refusals as errors that can be shown. */

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { noteMarketTime } from "./clock";

const BASE = "/api/v1";
const TIMEOUT_MS = 15_000;

/** An expected "no" of the market, or of the way to it (status 0). */
export class Refusal extends Error {
  constructor(
    /** Stable, for programs: the protocol's reason. */
    readonly reason: string,
    /** A sentence for people. */
    message: string,
    readonly status = 0,
    readonly details: Readonly<Record<string, unknown>> = {},
  ) {
    super(message);
    this.name = "Refusal";
  }

  /** Whether the same again may work later without anybody changing anything. */
  get isPassing(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** Anything that was thrown, as something that can be shown. */
export function refusalOf(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  return new Refusal("page_error", error instanceof Error ? error.message : String(error));
}

export interface Page<Item> {
  items: Item[];
  hasMore: boolean;
  nextCursor: string | null;
  /** Of lists that are paged by number; null of the others. */
  totalCount: number | null;
}

export interface Asking {
  /** The query; what is null or undefined is left out. */
  query?: Record<string, string | number | boolean | null | undefined>;
  /** The agent to act as, where a user's session asks for one of its agents. */
  agentId?: string | null | undefined;
  signal?: AbortSignal;
  /** Makes a repetition of the same POST harmless. */
  idempotencyKey?: string;
}

interface Credentials {
  token: () => string | null;
  /** Called when the market does not take the token any more. */
  onUnauthorized: (refusal: Refusal) => void;
}

let credentials: Credentials = { token: () => null, onUnauthorized: () => undefined };

/** Say whose token is sent. The session does this once, at start. */
export function setCredentials(of: Credentials): void {
  credentials = of;
}

interface Envelope {
  data?: unknown;
  metadata?: { has_more?: boolean; next_cursor?: string | null; total_count?: number };
  error?: { code?: string; message?: string; details?: Record<string, unknown>; context?: Record<string, unknown> };
}

async function ask(
  method: string,
  path: string,
  body: unknown,
  asking: Asking,
  token: string | null,
): Promise<Envelope> {
  const url = new URL(BASE + path, location.origin);
  for (const [name, value] of Object.entries(asking.query ?? {})) {
    if (value !== null && value !== undefined) url.searchParams.set(name, String(value));
  }
  const headers: Record<string, string> = { accept: "application/json" };
  if (token !== null) headers.authorization = `Bearer ${token}`;
  if (asking.agentId) headers["x-agent-id"] = asking.agentId;
  if (asking.idempotencyKey) headers["idempotency-key"] = asking.idempotencyKey;
  if (body !== undefined) headers["content-type"] = "application/json";
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const sentMs = Date.now();
  let answer: Response;
  let text: string;
  try {
    answer = await fetch(url, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      signal: asking.signal ? AbortSignal.any([asking.signal, timeout]) : timeout,
      credentials: "omit",
      cache: "no-store",
      redirect: "error",
    });
    noteMarketTime(answer.headers.get("date"), { sentMs, heardMs: Date.now() });
    text = await answer.text();
  } catch (error) {
    if (asking.signal?.aborted) throw error;
    if (timeout.aborted) throw new Refusal("timeout", "The market did not answer in time.");
    throw new Refusal("unreachable", "The market cannot be reached. Check the connection and try again.");
  }
  const envelope = parsed(text);
  if (answer.ok) return envelope;
  const told = envelope.error ?? {};
  throw new Refusal(
    told.code ?? "unexpected",
    told.message ?? `The market answered with status ${answer.status}.`,
    answer.status,
    { ...told.context, ...told.details },
  );
}

function parsed(text: string): Envelope {
  try {
    return text === "" ? {} : (JSON.parse(text) as Envelope);
  } catch {
    return {};
  }
}

async function request(method: string, path: string, body: unknown, asking: Asking = {}): Promise<Envelope> {
  const token = credentials.token();
  try {
    return await ask(method, path, body, asking, token);
  } catch (error) {
    const isStale = token !== credentials.token();
    if (error instanceof Refusal && error.status === 401 && !isStale) credentials.onUnauthorized(error);
    throw error;
  }
}

/** One call with a credential of its own: how a session is opened, and ended. Its 401 ends no other session. */
export async function callWith<Data>(token: string, method: "POST" | "DELETE" | "GET", path: string): Promise<Data> {
  const envelope = await ask(method, path, method === "POST" ? {} : undefined, {}, token);
  return envelope.data as Data;
}

/** GET one thing. */
export async function get<Data>(path: string, asking?: Asking): Promise<Data> {
  return (await request("GET", path, undefined, asking)).data as Data;
}

/** GET a page of a list. */
export async function list<Item>(path: string, asking?: Asking): Promise<Page<Item>> {
  const { data, metadata } = await request("GET", path, undefined, asking);
  return {
    items: (data ?? []) as Item[],
    hasMore: metadata?.has_more ?? false,
    nextCursor: metadata?.next_cursor ?? null,
    totalCount: metadata?.total_count ?? null,
  };
}

/** GET every page of a list, up to a number of items. */
export async function listAll<Item>(path: string, itemsMax: number, asking: Asking = {}): Promise<Item[]> {
  const items: Item[] = [];
  let cursor: string | null = null;
  do {
    const page: Page<Item> = await list<Item>(path, { ...asking, query: { limit: 100, ...asking.query, cursor } });
    items.push(...page.items);
    cursor = page.hasMore ? page.nextCursor : null;
  } while (cursor !== null && items.length < itemsMax);
  return items.slice(0, itemsMax);
}

/** POST, PUT, PATCH or DELETE. */
export async function send<Data>(
  method: "POST" | "PUT" | "PATCH" | "DELETE",
  path: string,
  body?: unknown,
  asking?: Asking,
): Promise<Data> {
  const whole = body === undefined && method !== "DELETE" ? {} : body;
  return (await request(method, path, whole, asking)).data as Data;
}

export interface Asked<Data> {
  data: Data | null;
  error: Refusal | null;
  /** Whether an answer is under way; `data` meanwhile holds the answer before, if there is one. */
  isLoading: boolean;
  reload: () => void;
}

/**
 * Ask when shown, and again when `key` changes or `reload` is called; a null key asks nothing.
 *
 * An answer that was overtaken by a newer question is dropped. After a change of key the old answer is not shown.
 */
export function useAsked<Data>(key: string | null, question: (signal: AbortSignal) => Promise<Data>): Asked<Data> {
  const [state, setState] = useState<{
    key: string | null;
    data: Data | null;
    error: Refusal | null;
    isLoading: boolean;
  }>({ key, data: null, error: null, isLoading: key !== null });
  const [turn, setTurn] = useState(0);
  const latest = useRef(question);
  latest.current = question;
  // biome-ignore lint/correctness/useExhaustiveDependencies: `turn` is how reload asks again.
  useEffect(() => {
    if (key === null) {
      setState({ key, data: null, error: null, isLoading: false });
      return;
    }
    const abort = new AbortController();
    setState((was) => ({ key, data: was.key === key ? was.data : null, error: was.error, isLoading: true }));
    latest
      .current(abort.signal)
      .then((data) => {
        if (!abort.signal.aborted) setState({ key, data, error: null, isLoading: false });
      })
      .catch((error: unknown) => {
        if (abort.signal.aborted) return;
        setState((was) => ({
          key,
          data: was.key === key ? was.data : null,
          error: refusalOf(error),
          isLoading: false,
        }));
      });
    return () => abort.abort();
  }, [key, turn]);
  const reload = useCallback(() => setTurn((was) => was + 1), []);
  if (state.key !== key) return { data: null, error: null, isLoading: key !== null, reload };
  return { data: state.data, error: state.error, isLoading: state.isLoading, reload };
}

/** GET one thing when shown; see `useAsked`. A null path asks nothing. */
export function useGet<Data>(path: string | null, asking: Omit<Asking, "signal"> = {}): Asked<Data> {
  const key = path === null ? null : JSON.stringify([path, asking.query ?? {}, asking.agentId ?? null]);
  return useAsked<Data>(key, (signal) => get<Data>(path ?? "", { ...asking, signal }));
}

/** GET a page of a list when shown; see `useAsked`. A null path asks nothing. */
export function useList<Item>(path: string | null, asking: Omit<Asking, "signal"> = {}): Asked<Page<Item>> {
  const key = path === null ? null : JSON.stringify([path, asking.query ?? {}, asking.agentId ?? null]);
  return useAsked<Page<Item>>(key, (signal) => list<Item>(path ?? "", { ...asking, signal }));
}
