// One direction of a task's bytes on the page.
import { useEffect, useRef, useState } from "preact/hooks";
import { count, plural } from "../../format";
import { Badge, Button, Card, Copy, Loading } from "../../parts/basics";
import { Scrolling } from "../live";
import type { Chunks, ShownChunk } from "./chunks";
import type { Stream } from "./told";

/** How near to the end one has to be, in CSS pixels, for the end to be followed. */
const NEAR_END = 24;

/** Bytes in the unit that reads well. */
export function size(bytes: number): string {
  if (bytes < 1024) return `${count(bytes)} B`;
  if (bytes < 1024 * 1024) return `${count(Math.round(bytes / 102.4) / 10)} KiB`;
  return `${count(Math.round(bytes / 104857.6) / 10)} MiB`;
}

export function StreamCard(props: {
  title: string;
  /** Who sends it, and to whom. */
  note: string;
  testId: string;
  stream: Stream;
  chunks: Chunks;
  /** Of the chunks: they change in place, and a part is drawn again only for other properties. */
  version: number;
  isOver: boolean;
  isForgotten: boolean;
}) {
  const { stream, chunks } = props;
  const hidden = chunks.next - chunks.shown.length;
  return (
    <Card
      title={props.title}
      note={props.note}
      testId={props.testId}
      class="stream-card"
      flush
      actions={<StreamBadge {...props} />}
    >
      <dl class="stream-figures">
        <Figure label="Chunks" value={count(stream.next_seq)} testId={`${props.testId}-chunks`} />
        <Figure
          label="Size"
          value={size(stream.total_size)}
          title={plural(stream.total_size, "byte")}
          testId={`${props.testId}-size`}
        />
        <Figure label="Next seq" value={count(chunks.next)} testId={`${props.testId}-next-seq`} />
      </dl>
      <StreamBody {...props} hidden={hidden} />
      <p class="stream-foot">
        {stream.checksum === null ? (
          <span class="muted">
            {props.isOver
              ? "It was not closed, so it has no checksum."
              : "The checksum comes when the stream is closed."}
          </span>
        ) : (
          <>
            <span class="muted">SHA-256</span>
            <code class="mono" title={stream.checksum} data-testid={`${props.testId}-checksum`}>
              {stream.checksum.slice(0, 12)}…{stream.checksum.slice(-8)}
            </code>
            <Copy text={stream.checksum} label={`Copy the checksum of the ${props.title.toLowerCase()}`} />
          </>
        )}
      </p>
    </Card>
  );
}

function Figure({ label, value, title, testId }: { label: string; value: string; title?: string; testId: string }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd class="num" title={title} data-testid={testId}>
        {value}
      </dd>
    </div>
  );
}

function StreamBadge({ stream, isOver }: { stream: Stream; isOver: boolean }) {
  if (stream.complete) {
    return (
      <Badge tone="good" icon="check">
        {stream.verified ? "verified" : "closed"}
      </Badge>
    );
  }
  return isOver ? <Badge>not closed</Badge> : <Badge tone="accent">open</Badge>;
}

function StreamBody(props: {
  title: string;
  testId: string;
  stream: Stream;
  chunks: Chunks;
  version: number;
  isOver: boolean;
  isForgotten: boolean;
  hidden: number;
}) {
  const { stream, chunks, hidden, version } = props;
  const frame = useRef<HTMLElement>(null);
  const lastTop = useRef(0);
  const [isFollowing, setFollowing] = useState(true);
  // biome-ignore lint/correctness/useExhaustiveDependencies: each change of the chunks moves the end.
  useEffect(() => {
    const element = frame.current;
    if (isFollowing && element !== null) element.scrollTop = element.scrollHeight;
  }, [version, isFollowing]);
  const look = () => {
    const element = frame.current;
    if (element === null) return;
    const top = element.scrollTop;
    // Going up ends it at once, however little: the next chunk would else pull the reader back.
    if (top < lastTop.current) setFollowing(false);
    else if (element.scrollHeight - top - element.clientHeight < NEAR_END) setFollowing(true);
    lastTop.current = top;
  };
  if (chunks.shown.length === 0) return <p class="stream-empty muted">{emptySentence(props)}</p>;
  return (
    <div class="stream-body">
      {hidden > 0 && (
        <p class="stream-note muted">
          Only the newest {count(chunks.shown.length)} of {plural(chunks.next, "chunk")} are shown here.
        </p>
      )}
      <Scrolling
        frame={frame}
        class="stream-frame"
        label={`${props.title}, bytes as they come`}
        onScroll={look}
        testId={`${props.testId}-text`}
      >
        <div class="stream-text">
          {chunks.shown.map((chunk) => (
            <Chunk key={chunk.seq} chunk={chunk} />
          ))}
        </div>
      </Scrolling>
      {!isFollowing && (
        <div class="stream-jump">
          <Button size="small" onClick={() => setFollowing(true)}>
            {stream.complete || props.isOver ? "Go to the end" : "Follow the end"}
          </Button>
        </div>
      )}
      {chunks.next < stream.next_seq && !props.isForgotten && <Loading rows={1} />}
    </div>
  );
}

function emptySentence({
  stream,
  isOver,
  isForgotten,
}: {
  stream: Stream;
  isOver: boolean;
  isForgotten: boolean;
}): string {
  if (stream.next_seq === 0)
    return isOver ? "Nothing was sent." : "Nothing has been sent yet. It appears here as it comes.";
  return isForgotten ? "The chunks are deleted by now; sizes and checksums stay." : "Reading what is stored…";
}

function Chunk({ chunk }: { chunk: ShownChunk }) {
  if (chunk.text !== null) {
    return (
      <span data-seq={chunk.seq} title={`Chunk ${count(chunk.seq)}, ${size(chunk.size)}`}>
        {chunk.text}
      </span>
    );
  }
  return (
    <span data-seq={chunk.seq} class="stream-binary">
      <span class="muted num">#{count(chunk.seq)}</span> <span class="num">{size(chunk.size)}</span>{" "}
      <code>{chunk.hex}</code>
    </span>
  );
}
