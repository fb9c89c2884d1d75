/**
 * Live topics, by Phoenix's own client: one socket for each identity that the session acts as.
 *
 * Who loses its connection joins again, and every join's reply is the topic's whole state, so nothing is lost: rebuild
 * from `onJoin`, then apply what `on` hears.
 */

import { computed, signal } from "@preact/signals";
import type { Channel, Socket as PhoenixSocket } from "phoenix";
import { Socket } from "phoenix";
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { marketNow } from "./clock";
import { isPassing, reconnectAfterMs } from "./reconnection";
import { type Asked, Refusal, useAsked } from "./rest";
import { session, verifySession } from "./session";

const PUSH_TIMEOUT_MS = 10_000;
/** A topic that nobody shows is left a moment later, so that going from view to view does not join it anew. */
const LEAVE_AFTER_MS = 1500;
const CLOSE_AFTER_MS = 20_000;

export interface Connection {
  state: "connecting" | "open" | "lost";
  /** When the next try is made, by the page's clock (`marketNow`); null while one is under way. */
  nextTryAt: number | null;
  tries: number;
}

type Handler = (payload: never) => void;
type JoinState = "joining" | "joined" | "waiting" | "refused";

interface Told {
  state: JoinState;
  reply: unknown;
  refusal: Refusal | null;
  /** How often the topic was joined; a change says that everything pushed before is forgotten. */
  joins: number;
}

interface Listener {
  told: () => void;
  joined: (reply: unknown) => void;
  heard: (event: string, payload: unknown) => void;
}

const connections = signal<ReadonlyMap<string, Connection>>(new Map());
const lines = new Map<string, Line>();

/** The connection as people care for it: lost if any socket in use is. */
export const connection = computed<Connection>(() => {
  const all = [...connections.value.values()];
  const lost = all.filter((one) => one.state === "lost");
  if (lost.length > 0) {
    const dues = lost.flatMap((one) => (one.nextTryAt === null ? [] : [one.nextTryAt]));
    return {
      state: "lost",
      nextTryAt: dues.length === lost.length ? Math.min(...dues) : null,
      tries: Math.max(...lost.map((one) => one.tries)),
    };
  }
  const isOpen = all.length > 0 && all.every((one) => one.state === "open");
  return { state: isOpen ? "open" : "connecting", nextTryAt: null, tries: 0 };
});

/** Try all lost connections now. */
export function reconnectNow(): void {
  for (const line of lines.values()) line.reconnectNow();
}

// A session that ends takes its sockets with it.
let owner: string | null = null;
session.subscribe((now) => {
  if ((now?.token ?? null) === owner) return;
  owner = now?.token ?? null;
  for (const line of [...lines.values()]) line.close();
});

/** One socket, of one identity, and the topics on it. */
class Line {
  readonly socket: PhoenixSocket;
  readonly topics = new Map<string, Topic>();
  private wasOpen = false;
  private closeTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly key: string,
    token: string,
  ) {
    this.socket = new Socket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/socket`, {
      // As a subprotocol, because addresses end up in logs.
      authToken: token,
      // The page only looks on: an agent is not online because its owner watches it, nor kept from connecting.
      params: { watch: true, ...(key === "" ? {} : { agent_id: key }) },
      vsn: "2.0.0",
      timeout: PUSH_TIMEOUT_MS,
      reconnectAfterMs: (tries) => {
        const waitMs = reconnectAfterMs(tries);
        this.tell({ state: "lost", nextTryAt: marketNow() + waitMs, tries });
        // A second failure in a row may mean that the credential is dead; the upgrade's refusal is not shown to pages.
        if (tries >= 2) void verifySession();
        return waitMs;
      },
      rejoinAfterMs: (tries) => reconnectAfterMs(tries + 1),
    });
    this.socket.onOpen(() => {
      this.wasOpen = true;
      this.tell({ state: "open", nextTryAt: null, tries: 0 });
    });
    this.socket.onClose((event) => {
      // 1001 and 1008 say that the credential may have ended.
      if (this.wasOpen && (event.code === 1001 || event.code === 1008)) void verifySession();
    });
    this.tell({ state: "connecting", nextTryAt: null, tries: 0 });
    this.socket.connect();
  }

  private tell(now: Connection): void {
    if (lines.get(this.key) !== this && now.state !== "connecting") return;
    connections.value = new Map(connections.value).set(this.key, now);
  }

  reconnectNow(): void {
    const now = connections.value.get(this.key);
    if (now?.state !== "lost") return;
    this.tell({ ...now, nextTryAt: null });
    this.socket.disconnect(() => this.socket.connect());
  }

  topic(name: string, params: object): Topic {
    clearTimeout(this.closeTimer);
    let topic = this.topics.get(name);
    if (topic === undefined) {
      topic = new Topic(this, name, params);
      this.topics.set(name, topic);
    }
    return topic;
  }

  left(name: string, topic: Topic): void {
    if (this.topics.get(name) === topic) this.topics.delete(name);
    if (this.topics.size === 0) {
      clearTimeout(this.closeTimer);
      this.closeTimer = setTimeout(() => this.close(), CLOSE_AFTER_MS);
    }
  }

  close(): void {
    clearTimeout(this.closeTimer);
    if (lines.get(this.key) === this) lines.delete(this.key);
    const rest = new Map(connections.value);
    rest.delete(this.key);
    connections.value = rest;
    this.socket.disconnect();
  }
}

/** One joined topic, shared by all parts of the page that show it. */
class Topic {
  told: Told = { state: "joining", reply: null, refusal: null, joins: 0 };
  private readonly listeners = new Set<Listener>();
  private channel: Channel;
  private leaveTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly line: Line,
    private readonly name: string,
    private readonly params: object,
  ) {
    this.channel = this.open();
  }

  private open(): Channel {
    const channel = this.line.socket.channel(this.name, this.params);
    this.channel = channel;
    // Phoenix names no event where a join timed out before the socket was open.
    channel.onMessage = (event: string | null, payload: unknown) => {
      if (event !== null && !event.startsWith("phx_") && !event.startsWith("chan_reply_")) {
        for (const listener of [...this.listeners]) listener.heard(event, payload);
      }
      return payload;
    };
    const lost = () => {
      if (this.channel === channel && this.told.state === "joined") this.tell({ ...this.told, state: "waiting" });
    };
    channel.onError(lost);
    channel.onClose(() => {
      // Closed by the market: as good as lost, but Phoenix does not join again by itself.
      if (this.channel !== channel || this.told.state === "refused") return;
      lost();
      this.open();
    });
    channel
      .join()
      .receive("ok", (reply: unknown) => {
        if (this.channel !== channel) return;
        for (const listener of [...this.listeners]) listener.joined(reply);
        this.tell({ state: "joined", reply, refusal: null, joins: this.told.joins + 1 });
      })
      .receive("error", (reply: unknown) => {
        if (this.channel !== channel) return;
        const refusal = refused(reply);
        if (refusal.reason === "invalid_credential") void verifySession();
        if (isPassing(refusal.reason)) return;
        this.tell({ ...this.told, state: "refused", refusal });
        channel.leave();
      });
    return channel;
  }

  private tell(told: Told): void {
    this.told = told;
    for (const listener of [...this.listeners]) listener.told();
  }

  listen(listener: Listener): () => void {
    clearTimeout(this.leaveTimer);
    this.listeners.add(listener);
    // Who comes second has missed the join.
    if (this.told.state === "joined") listener.joined(this.told.reply);
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size === 0) this.leaveTimer = setTimeout(() => this.leave(), LEAVE_AFTER_MS);
    };
  }

  private leave(): void {
    this.told = { ...this.told, state: "refused" };
    this.channel.leave();
    this.line.left(this.name, this);
  }

  /** Join again after a refusal. */
  retry(): void {
    if (this.told.state !== "refused") return;
    this.tell({ ...this.told, state: "joining", refusal: null });
    this.open();
  }

  push<Reply>(event: string, payload: object): Promise<Reply> {
    if (this.told.state !== "joined") {
      return Promise.reject(new Refusal("not_connected", "Not connected to the market at the moment."));
    }
    return new Promise<Reply>((resolve, reject) => {
      this.channel
        .push(event, payload)
        .receive("ok", (reply: unknown) => resolve(reply as Reply))
        .receive("error", (reply: unknown) => reject(refused(reply)))
        .receive("timeout", () => reject(new Refusal("timeout", "The market did not answer in time.")));
    });
  }
}

function refused(reply: unknown): Refusal {
  const { reason, message, ...details } = (reply ?? {}) as { reason?: string; message?: string };
  return new Refusal(reason ?? "unexpected", message ?? "The market refused this.", 400, details);
}

function topicOf(agentId: string | null, name: string, params: object): Topic {
  const key = agentId ?? "";
  let line = lines.get(key);
  if (line === undefined) {
    const { value } = session;
    if (value === null) throw new Error("nobody is logged in");
    line = new Line(key, value.token);
    lines.set(key, line);
  }
  return line.topic(name, params);
}

export interface Joined<Reply> {
  /** `waiting`: it was joined, and the connection is lost; what it held stays shown. */
  state: JoinState;
  /** The reply to the latest join. */
  reply: Reply | null;
  refusal: Refusal | null;
  /** Goes up with every join; effects that push once per join depend on it. 0 before the first. */
  joins: number;
  /** Say something; resolves with the reply, rejects with a Refusal (also when not joined). */
  push: <Answer>(event: string, payload?: object) => Promise<Answer>;
  /** Join again after a refusal. */
  retry: () => void;
}

export interface Listening<Reply> {
  /** The agent to act as, of a user's session (see `actingAs`); null or left out: the session itself. */
  agentId?: string | null;
  /** The join's payload; read once, when the topic is first joined. */
  params?: object;
  /** Called at every join, before anything that comes after it is heard. */
  onJoin?: (reply: Reply) => void;
  /** What is heard, by event. Binary payloads are ArrayBuffers. Handlers may change with every render. */
  on?: Readonly<Record<string, Handler>>;
}

const UNJOINED: Told = { state: "joining", reply: null, refusal: null, joins: 0 };

/** Join a topic while shown. A null topic joins nothing. Parts that name the same topic share one join. */
export function useTopic<Reply>(name: string | null, listening: Listening<Reply> = {}): Joined<Reply> {
  const agentId = listening.agentId ?? null;
  const latest = useRef(listening);
  latest.current = listening;
  const current = useRef<Topic | null>(null);
  const [told, setTold] = useState<{ of: string | null; told: Told }>({ of: name, told: UNJOINED });
  const who = `${agentId ?? ""}|${name ?? ""}`;
  useEffect(() => {
    if (name === null) return;
    const topic = topicOf(agentId, name, latest.current.params ?? {});
    current.current = topic;
    const tell = () => setTold({ of: who, told: topic.told });
    const stop = topic.listen({
      told: tell,
      joined: (reply) => latest.current.onJoin?.(reply as Reply),
      heard: (event, payload) => latest.current.on?.[event]?.(payload as never),
    });
    tell();
    return () => {
      current.current = null;
      stop();
    };
  }, [name, agentId, who]);
  const push = useCallback(<Answer>(event: string, payload: object = {}): Promise<Answer> => {
    if (current.current === null)
      return Promise.reject(new Refusal("not_connected", "Not connected to the market yet."));
    return current.current.push<Answer>(event, payload);
  }, []);
  const retry = useCallback(() => current.current?.retry(), []);
  const shown = told.of === who ? told.told : UNJOINED;
  return useMemo(
    () => ({
      state: shown.state,
      reply: shown.reply as Reply | null,
      refusal: shown.refusal,
      joins: shown.joins,
      push,
      retry,
    }),
    [shown, push, retry],
  );
}

/**
 * Push a question (a null event: none) once joined, and again after each rejoin, change of payload, or rise of `version`.
 *
 * While an answer is under way or the connection is lost, the answer before stays.
 */
export function useQuestion<Answer>(
  topic: Pick<Joined<unknown>, "state" | "refusal" | "joins" | "push">,
  event: string | null,
  payload: object = {},
  version = 0,
): Asked<Answer> {
  const key = event === null ? null : JSON.stringify([event, payload]);
  const asked = useAsked<Answer>(topic.joins > 0 ? key : null, () => topic.push<Answer>(event ?? "", payload));
  const { reload } = asked;
  const seen = useRef({ joins: topic.joins, version });
  useEffect(() => {
    const was = seen.current;
    seen.current = { joins: topic.joins, version };
    if ((was.joins > 0 && topic.joins !== was.joins) || was.version !== version) reload();
  }, [topic.joins, version, reload]);
  const error = topic.refusal ?? asked.error;
  // A question that met a lost connection is asked again at the rejoin, so that is no error to show.
  const isAway = error?.reason === "not_connected" || (error?.reason === "timeout" && topic.state === "waiting");
  return {
    data: asked.data,
    error: isAway ? null : error,
    isLoading: asked.isLoading || (key !== null && topic.joins === 0 && topic.refusal === null),
    reload,
  };
}
