// Watching a task: its state and both streams, live. Watching only reads. It joins `task:{id}` and asks REST with GET;
// it pushes nothing, so no chunk is sent or acknowledged, nothing is started, and no message is taken from a mailbox.
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { marketNow } from "../../clock";
import { get, list, type Refusal, refusalOf, useGet } from "../../rest";
import { actingAs } from "../../session";
import { type Joined, useTopic } from "../../sockets";
import { bytesOf, CHUNKS_MAX, Chunks } from "./chunks";
import { type Direction, isForgotten, isOver, isSettled, type Task } from "./told";

/** How often what is not pushed is asked for. */
const ASK_MS = 1500;
/** How often a flood of chunks is drawn at most. */
const DRAW_MS = 100;
const DIRECTIONS = ["input", "output"] as const;

interface ToldChunk {
  seq: number;
  chunk: string;
  encoding: string;
  replay?: boolean;
  next_seq: number;
  total_size: number;
  status: Task["status"];
  started_at: string | null;
  units: number | null;
  paid_up_to: number | null;
}

interface StoredChunk {
  seq: number;
  chunk: string;
  encoding: string;
}

export interface Watched {
  task: Task | null;
  streams: Record<Direction, Chunks>;
  topic: Joined<Task>;
  /** Why the task cannot be shown; null while it can. */
  refusal: Refusal | null;
  reload: () => void;
}

/** Watch a task as one of its two agents. */
export function useWatchedTask(agentId: string, taskId: string): Watched {
  const acting = actingAs(agentId);
  const path = `/tasks/${taskId}`;
  const read = useGet<Task>(path, { agentId: acting });
  const [task, setTask] = useState<Task | null>(null);
  const streams = useMemo(() => ({ input: new Chunks(), output: new Chunks() }), []);
  const redraw = useRedraw();
  const begun = useRef("");
  if (read.data !== null && begun.current !== taskId) {
    // Of a long stream the newest chunks are asked for, because older ones would not be shown.
    begun.current = taskId;
    for (const way of DIRECTIONS) streams[way].restart(firstShown(read.data, way));
  }
  const settle = useCallback(
    (told: Task) => {
      setTask(told);
      for (const way of DIRECTIONS) streams[way].settle(told.streams[way]);
    },
    [streams],
  );
  const take = (way: Direction) => (told: ToldChunk) => {
    streams[way].take(told.seq, bytesOf(told.chunk, told.encoding));
    redraw();
    if (told.replay) return;
    const { status, started_at, units, paid_up_to, next_seq, total_size } = told;
    setTask((was) => {
      if (was === null) return was;
      const stream = { ...was.streams[way], next_seq, total_size };
      return { ...was, status, started_at, units, paid_up_to, streams: { ...was.streams, [way]: stream } };
    });
  };
  const close = (way: Direction) => (told: Task["streams"]["input"]) => {
    const { next_seq, total_size, digest, complete, verified, checksum } = told;
    const stream = { next_seq, total_size, digest, complete, verified, checksum };
    setTask((was) => (was === null ? was : { ...was, streams: { ...was.streams, [way]: stream } }));
  };
  const whole = (told: { task: Task }) => setTask(told.task);
  const topic = useTopic<Task>(begun.current === taskId ? `task:${taskId}` : null, {
    agentId: acting,
    // Asked anew at every join: after a lost connection it goes on where the chunks here end.
    params: () => ({ input_from: streams.input.next, output_from: streams.output.next }),
    onJoin: settle,
    on: {
      input_stream: take("input"),
      output_stream: take("output"),
      input_complete: close("input"),
      output_complete: close("output"),
      progress: ({ percent, message, status, started_at }: Task & { percent: number; message: string | null }) =>
        setTask((was) => (was === null ? was : { ...was, status, started_at, progress: { percent, message } })),
      task_paid: ({ paid, paid_up_to, units }: Task) =>
        setTask((was) => (was === null ? was : { ...was, paid, paid_up_to, units })),
      task_completed: whole,
      task_failed: whole,
      task_cancelled: whole,
      task_updated: whole,
      task_disputed: whole,
      task_settled: whole,
    },
  });
  const shown = task?.task_id === taskId ? task : read.data;
  useAsking({ agentId, taskId, task: shown, streams, setTask, redraw, isJoined: topic.state === "joined" });
  return { task: shown, streams, topic, refusal: topic.refusal ?? read.error, reload: read.reload };
}

interface Asking {
  agentId: string;
  taskId: string;
  task: Task | null;
  streams: Record<Direction, Chunks>;
  setTask: (task: Task) => void;
  redraw: () => void;
  isJoined: boolean;
}

/**
 * Ask for what is not pushed here. The market tells a chunk and progress to the other agent, not to the sender's own
 * sockets; so what the watched agent itself sends has to be asked for, and whatever was missed between two views.
 */
function useAsking(asking: Asking): void {
  const latest = useRef(asking);
  latest.current = asking;
  const { agentId, taskId, isJoined } = asking;
  useEffect(() => {
    if (!isJoined) return;
    const abort = new AbortController();
    const acting = actingAs(agentId);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const round = async (): Promise<void> => {
      const { task, streams, setTask, redraw } = latest.current;
      if (task !== null && !isForgotten(task, marketNow())) {
        const way = task.provider_agent_id === agentId ? "output" : "input";
        for (const each of DIRECTIONS) {
          if (streams[each].isBroken) streams[each].restart(firstShown(task, each));
          const isOwn = each === way && !isOver(task) && !task.streams[each].complete;
          if (isOwn || streams[each].next < task.streams[each].next_seq) {
            await fill(taskId, each, streams[each], acting, abort.signal);
            redraw();
          }
        }
        if (!isSettled(task)) setTask(await get<Task>(`/tasks/${taskId}`, { agentId: acting, signal: abort.signal }));
      }
    };
    const again = (): void => {
      timer = setTimeout(() => {
        const { task } = latest.current;
        // A page that nobody looks at asks nothing.
        const isIdle = document.hidden || (task !== null && isSettled(task) && isWhole(latest.current));
        void (isIdle ? Promise.resolve() : round().catch(refusalOf)).then(() => {
          if (!abort.signal.aborted) again();
        });
      }, ASK_MS);
    };
    again();
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [agentId, taskId, isJoined]);
}

function isWhole({ task, streams }: Asking): boolean {
  if (task === null) return true;
  return DIRECTIONS.every((way) => !streams[way].isBroken && streams[way].next >= task.streams[way].next_seq);
}

function firstShown(task: Task, way: Direction): number {
  return Math.max(0, task.streams[way].next_seq - CHUNKS_MAX);
}

async function fill(
  taskId: string,
  way: Direction,
  chunks: Chunks,
  acting: string | null,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    const from = chunks.next;
    const query = { direction: way, from, limit: 100 };
    const page = await list<StoredChunk>(`/tasks/${taskId}/chunks`, { agentId: acting, query, signal });
    for (const { seq, chunk, encoding } of page.items) chunks.take(seq, bytesOf(chunk, encoding));
    if (!page.hasMore || chunks.next === from) return;
  }
}

/** Draw again soon, and many times in one. */
function useRedraw(): () => void {
  const [, setTurn] = useState(0);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  return useCallback(() => {
    if (timer.current !== undefined) return;
    timer.current = setTimeout(() => {
      timer.current = undefined;
      setTurn((was) => was + 1);
    }, DRAW_MS);
  }, []);
}
