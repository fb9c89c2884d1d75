// What several detail views say in the same way: whether they are live, what was said in JSON, and what has happened.
import type { ComponentChildren, RefObject } from "preact";
import { useState } from "preact/hooks";
import { useNow } from "../clock";
import { moment, relative } from "../format";
import { Button, Dot, type Tone } from "../parts/basics";

/** Whether what is shown follows the market. Ended things do not change any more. */
export function LiveDot({ state, isEnded }: { state: string; isEnded: boolean }) {
  return (
    <span class="live-dot" data-testid="live-state">
      {state === "joined" && !isEnded && <Dot tone="good">Live</Dot>}
      {state === "joined" && isEnded && <Dot tone="neutral">Ended</Dot>}
      {state === "joining" && <Dot tone="neutral">Connecting</Dot>}
      {state === "waiting" && <Dot tone="warn">Reconnecting</Dot>}
      {state === "refused" && <Dot tone="bad">Not live</Dot>}
    </span>
  );
}

/** A region that scrolls by itself, which the keyboard therefore has to reach. */
export function Scrolling(props: {
  label: string;
  class: string;
  frame?: RefObject<HTMLElement | null>;
  onScroll?: () => void;
  testId?: string;
  children: ComponentChildren;
}) {
  return (
    <section
      ref={props.frame ?? null}
      class={props.class}
      aria-label={props.label}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls is reached by the keyboard.
      tabIndex={0}
      onScroll={props.onScroll}
      data-testid={props.testId}
    >
      {props.children}
    </section>
  );
}

const JSON_LINES_MAX = 12;

/** JSON as it was given; long ones are cut until asked for. */
export function Json({ value, label }: { value: unknown; label: string }) {
  const [isWhole, setWhole] = useState(false);
  const lines = JSON.stringify(value, null, 2).split("\n");
  const isLong = lines.length > JSON_LINES_MAX;
  const shown = isLong && !isWhole ? [...lines.slice(0, JSON_LINES_MAX), "…"] : lines;
  return (
    <div class="json">
      <Scrolling label={label} class="json-frame">
        <pre>{shown.join("\n")}</pre>
      </Scrolling>
      {isLong && (
        <Button kind="quiet" size="small" onClick={() => setWhole(!isWhole)}>
          {isWhole ? "Show less" : `Show all ${lines.length} lines`}
        </Button>
      )}
    </div>
  );
}

/** A moment, and how far it is from now. */
export function When({ at }: { at: string }) {
  const now = useNow();
  return (
    <time dateTime={at} class="when">
      <span class="num">{moment(at)}</span> <span class="muted">· {relative(at, now)}</span>
    </time>
  );
}

export interface Happening {
  at: string;
  title: string;
  text?: string | null | undefined;
  tone?: Tone | undefined;
  /** It has not happened yet. */
  isDue?: boolean;
}

/** What has happened, oldest first, and what is due. */
export function Timeline({ label, happenings }: { label: string; happenings: readonly Happening[] }) {
  return (
    <ol class="timeline" aria-label={label}>
      {happenings.map((each) => (
        <li
          key={`${each.title} ${each.at}`}
          class={`timeline-item tone-${each.tone ?? "neutral"} ${each.isDue ? "is-due" : ""}`}
        >
          <p class="timeline-title">
            {each.isDue && <span class="visually-hidden">Due: </span>}
            {each.title}
          </p>
          <When at={each.at} />
          {each.text && <p class="timeline-text">{each.text}</p>}
        </li>
      ))}
    </ol>
  );
}

export interface Fact {
  label: string;
  value: ComponentChildren;
}

/** Names and values in two columns. */
export function Facts({ facts, testId }: { facts: readonly Fact[]; testId?: string }) {
  return (
    <dl class="facts" data-testid={testId}>
      {facts.map(({ label, value }) => (
        <div key={label} class="fact">
          <dt>{label}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
