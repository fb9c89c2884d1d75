// Watching a payment channel: its balances and every step of its history, live. Watching only reads: it joins
// `payment:{id}` without saying what it knows, and asks REST with GET. It proposes, acknowledges and signs nothing.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { get, list, type Refusal, refusalOf, useGet } from "../../rest";
import { actingAs } from "../../session";
import { type Joined, useTopic } from "../../sockets";
import { type Channel, channelAfter, isEnded, type Step } from "./told";

/** Nonces that are shown at first; older steps come when asked for. */
const NEWEST = 50;
const PAGE = 100;
/** Steps that follow each other closely are read together. */
const GATHER_MS = 200;
/** How often what is not pushed is asked for. */
const ASK_MS = 4000;

export interface Watched {
  channel: Channel | null;
  /** Newest first. */
  steps: readonly Step[];
  hasOlder: boolean;
  isReadingOlder: boolean;
  readOlder: () => void;
  readNewer: () => void;
  /** Why the history cannot be shown. */
  historyRefusal: Refusal | null;
  topic: Joined<Channel>;
  refusal: Refusal | null;
  reload: () => void;
}

/** Watch a payment channel as one of its two parties. */
export function useWatchedChannel(agentId: string, channelId: string): Watched {
  const acting = actingAs(agentId);
  const path = `/payment-channels/${channelId}`;
  const read = useGet<Channel>(path, { agentId: acting });
  const [told, setTold] = useState<Channel | null>(null);
  const channel = told?.channel_id === channelId ? told : read.data;
  const history = useHistory(path, acting, channel);
  const { readNewer } = history;
  const latest = useRef(channel);
  latest.current = channel;
  const reread = useCallback(async () => {
    setTold(await get<Channel>(path, { agentId: acting }));
    readNewer();
  }, [path, acting, readNewer]);
  const hear = (event: string) => (payload: Record<string, unknown>) => {
    const before = latest.current;
    const after = before === null ? null : channelAfter(before, event, payload);
    if (after === null) void reread().catch(refusalOf);
    else {
      latest.current = after;
      setTold(after);
      readNewer();
    }
  };
  const topic = useTopic<Channel>(read.data === null ? null : `payment:${channelId}`, {
    agentId: acting,
    onJoin: (reply) => {
      setTold(reply);
      readNewer();
    },
    on: Object.fromEntries(EVENTS.map((event) => [event, hear(event)])),
  });
  const isLive = topic.state === "joined" && channel !== null && !isEnded(channel);
  useEffect(() => {
    if (!isLive) return;
    // Proposals of the watched agent itself are told to the other one alone, so they are asked for.
    const timer = setInterval(() => {
      if (!document.hidden) void reread().catch(refusalOf);
    }, ASK_MS);
    return () => clearInterval(timer);
  }, [isLive, reread]);
  return { channel, ...history, topic, refusal: topic.refusal ?? read.error, reload: read.reload };
}

const EVENTS = [
  "propose_transfer",
  "transfer_complete",
  "reject_transfer",
  "transfer_voided",
  "transfers_submitted",
  "close_request",
  "dispute",
  "withdraw_dispute",
  "channel_updated",
  "state_lost",
  "channel_closed",
] as const;

/** The steps of a channel: the newest at first, then what comes, and older ones when asked for. */
function useHistory(path: string, acting: string | null, channel: Channel | null) {
  const [steps, setSteps] = useState<readonly Step[]>([]);
  const [isReadingOlder, setReadingOlder] = useState(false);
  const [historyRefusal, setRefusal] = useState<Refusal | null>(null);
  const held = useRef<{ path: string; steps: readonly Step[] }>({ path, steps: [] });
  if (held.current.path !== path) held.current = { path, steps: [] };
  // Each nonce is a step, so the steps of the newest nonces come after this number.
  const start = Math.max(0, (channel?.last_nonce ?? 0) - NEWEST);
  const latest = useRef(start);
  latest.current = start;
  const reading = useRef(false);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);

  const keep = useCallback(
    (found: readonly Step[]) => {
      if (held.current.path !== path) return;
      const known = new Map(held.current.steps.map((step) => [step.number, step]));
      for (const step of found) known.set(step.number, step);
      const all = [...known.values()].sort((one, other) => other.number - one.number);
      held.current = { path, steps: all };
      setSteps(all);
    },
    [path],
  );
  const readAll = useCallback(async () => {
    for (;;) {
      const after = held.current.steps[0]?.number ?? latest.current;
      const page = await list<Step>(`${path}/history`, { agentId: acting, query: { after, limit: PAGE } });
      keep(page.items);
      if (!page.hasMore || page.items.length === 0) return;
    }
  }, [path, acting, keep]);
  const readNewer = useCallback(() => {
    if (timer.current !== undefined) return;
    timer.current = setTimeout(async () => {
      timer.current = undefined;
      if (reading.current) {
        readNewer();
        return;
      }
      reading.current = true;
      try {
        await readAll();
        setRefusal(null);
      } catch (error) {
        setRefusal(refusalOf(error));
      } finally {
        reading.current = false;
      }
    }, GATHER_MS);
  }, [readAll]);
  useEffect(() => () => clearTimeout(timer.current), []);

  const oldest = steps.at(-1)?.number ?? null;
  const readOlder = useCallback(async () => {
    const before = held.current.steps.at(-1)?.number ?? 1;
    const after = Math.max(0, before - 1 - PAGE);
    setReadingOlder(true);
    try {
      keep((await list<Step>(`${path}/history`, { agentId: acting, query: { after, limit: PAGE } })).items);
      setRefusal(null);
    } catch (error) {
      setRefusal(refusalOf(error));
    } finally {
      setReadingOlder(false);
    }
  }, [path, acting, keep]);
  const shown = held.current.path === path ? steps : [];
  return {
    steps: shown,
    hasOlder: oldest !== null && oldest > 1,
    isReadingOlder,
    readOlder: () => void readOlder(),
    readNewer,
    historyRefusal,
  };
}
