/** What every view is made of: cards, figures, badges, buttons, times, and the states of what is not there yet. */

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { useNow } from "../clock";
import { type Currency, moment, money, relative, shortMoney } from "../format";
import { visible } from "../marks";
import type { Asked, Refusal } from "../rest";
import { currency } from "../session";
import { connection } from "../sockets";
import type { AgentStatus, AlertStatus, Severity } from "../types";
import { Icon, type IconName } from "./icons";

export type Tone = "neutral" | "accent" | "good" | "warn" | "bad";

/** A class list without what is not there. */
export function classes(...names: (string | false | null | undefined)[]): string {
  return names.filter(Boolean).join(" ");
}

/** The head of a view: its one h1, a sentence, and what can be done. `back` leads up. */
export function ViewHead(props: {
  title: ComponentChildren;
  sub?: ComponentChildren;
  back?: { href: string; label: string } | undefined;
  children?: ComponentChildren;
}) {
  useEffect(() => {
    if (typeof props.title === "string") document.title = `${visible(props.title)} · Agrenting`;
  }, [props.title]);
  return (
    <div class="view-head">
      <div class="view-head-text">
        {props.back && (
          <a class="back" href={props.back.href}>
            <Icon name="back" size={16} /> {props.back.label}
          </a>
        )}
        <h1 tabIndex={-1}>{props.title}</h1>
        {props.sub !== undefined && <p class="sub">{props.sub}</p>}
      </div>
      {props.children !== undefined && <div class="view-head-actions">{props.children}</div>}
    </div>
  );
}

/** A region with a heading. `actions` stand beside the heading, `note` under it; `flush` lets tables reach the edge. */
export function Card(props: {
  title: string;
  level?: 2 | 3;
  note?: ComponentChildren;
  actions?: ComponentChildren;
  flush?: boolean;
  class?: string;
  testId?: string;
  children: ComponentChildren;
}) {
  const id = useId();
  const Heading = props.level === 3 ? "h3" : "h2";
  return (
    <section
      class={classes("card", props.flush && "card-flush", props.class)}
      aria-labelledby={id}
      data-testid={props.testId}
    >
      <header class="card-head">
        <div class="card-head-text">
          <Heading id={id}>{props.title}</Heading>
          {props.note !== undefined && <p class="card-note">{props.note}</p>}
        </div>
        {props.actions !== undefined && <div class="card-actions">{props.actions}</div>}
      </header>
      <div class="card-body">{props.children}</div>
    </section>
  );
}

/** A group of figures with a name for screen readers. */
export function Stats({ label, children }: { label: string; children: ComponentChildren }) {
  return (
    <section class="stats-region" aria-label={label}>
      <dl class="stats">{children}</dl>
    </section>
  );
}

/** One figure. `title` holds it in full where `value` is short; `testId` goes on the value. */
export function Stat(props: {
  label: string;
  value: ComponentChildren;
  hint?: ComponentChildren;
  title?: string;
  tone?: Tone;
  isLoading?: boolean;
  testId?: string;
}) {
  return (
    <div class={classes("stat", props.tone && `tone-${props.tone}`)}>
      <dt>{props.label}</dt>
      <dd class="stat-value" title={props.title} data-testid={props.testId}>
        {props.isLoading ? <Skeleton width="5ch" /> : props.value}
      </dd>
      {props.hint !== undefined && <dd class="stat-hint">{props.isLoading ? <Skeleton width="9ch" /> : props.hint}</dd>}
    </div>
  );
}

export function Badge({
  tone = "neutral",
  children,
  icon,
}: {
  tone?: Tone;
  children: ComponentChildren;
  icon?: IconName;
}) {
  return (
    <span class={`badge tone-${tone}`}>
      {icon && <Icon name={icon} size={14} />}
      {children}
    </span>
  );
}

/** A dot with a word: never the colour alone. */
export function Dot({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return (
    <span class={`dot tone-${tone}`}>
      <span class="dot-mark" aria-hidden="true" />
      {children}
    </span>
  );
}

const SEVERITY_TONES: Record<Severity, Tone> = { critical: "bad", error: "bad", warning: "warn", info: "accent" };

export function SeverityBadge({ severity }: { severity: Severity }) {
  const icon = severity === "info" ? "info" : "warning";
  return (
    <Badge tone={SEVERITY_TONES[severity] ?? "neutral"} icon={icon}>
      {severity}
    </Badge>
  );
}

const STATUS_TONES: Record<string, Tone> = {
  active: "good",
  open: "good",
  completed: "good",
  agreed: "good",
  approved: "good",
  closed: "neutral",
  acknowledged: "accent",
  in_progress: "accent",
  pending: "warn",
  closing: "warn",
  suspended: "warn",
  disputed: "bad",
  failed: "bad",
  banned: "bad",
};

/** A state of anything, coloured by what it means. `active` of an alert is bad news: use `AlertStatusBadge`. */
export function StatusBadge({ status }: { status: string }) {
  return <Badge tone={STATUS_TONES[status] ?? "neutral"}>{status.replaceAll("_", " ")}</Badge>;
}

export function AlertStatusBadge({ status }: { status: AlertStatus }) {
  const tone = status === "active" ? "bad" : status === "acknowledged" ? "accent" : "good";
  return <Badge tone={tone}>{status}</Badge>;
}

/** Whether an agent is connected; its status, where that is not `active`, matters more. */
export function PresenceDot({ online, status = "active" }: { online: boolean | null; status?: AgentStatus }) {
  if (status !== "active") return <StatusBadge status={status} />;
  if (online === null) return <Dot tone="neutral">unknown</Dot>;
  return online ? <Dot tone="good">online</Dot> : <Dot tone="neutral">offline</Dot>;
}

/** Money with its full amount on hover. */
export function Money(props: { minor: number | null | undefined; unit?: Currency; short?: boolean }) {
  const unit = props.unit ?? currency.value;
  const whole = money(props.minor, unit);
  return (
    <span class="num" title={props.short ? whole : undefined}>
      {props.short ? shortMoney(props.minor, unit) : whole}
    </span>
  );
}

/** How long ago, kept up to date; the moment itself on hover. */
export function Ago({ at }: { at: string }) {
  const now = useNow();
  return (
    <time dateTime={at} title={moment(at)}>
      {relative(at, now)}
    </time>
  );
}

export type ButtonKind = "primary" | "plain" | "quiet" | "danger";

export function Button(props: {
  kind?: ButtonKind;
  size?: "small" | "normal";
  icon?: IconName;
  type?: "button" | "submit";
  /** Under way: the button keeps its place and takes no second press. */
  isBusy?: boolean;
  disabled?: boolean;
  onClick?: () => void;
  /** The name for screen readers, where the text alone does not say what it is about. */
  label?: string;
  children?: ComponentChildren;
}) {
  return (
    <button
      type={props.type ?? "button"}
      class={classes(
        "button",
        `button-${props.kind ?? "plain"}`,
        props.size === "small" && "button-small",
        !props.children && "button-icon",
      )}
      aria-label={props.label}
      aria-busy={props.isBusy}
      disabled={props.disabled || props.isBusy}
      onClick={props.onClick}
    >
      {props.icon && <Icon name={props.icon} size={props.size === "small" ? 16 : 18} />}
      {props.children}
    </button>
  );
}

/** Put a text on the clipboard, and say so. */
export function Copy({ text, label }: { text: string; label: string }) {
  const [isDone, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setDone(true);
      setTimeout(() => setDone(false), 2000);
    } catch {
      // Pages that are not served securely have no clipboard; the text can be selected.
    }
  };
  return (
    <button
      type="button"
      class="button button-quiet button-small button-icon"
      aria-label={isDone ? "Copied" : label}
      onClick={copy}
    >
      <Icon name={isDone ? "check" : "copy"} size={16} />
    </button>
  );
}

const ANNOUNCE_EVERY_MS = 60_000;

/** Live numbers for screen readers: said politely when they are there, then once a minute if they have changed. */
export function Announce({ text }: { text: string | null }) {
  const [said, setSaid] = useState<string | null>(null);
  const latest = useRef(text);
  latest.current = text;
  const isKnown = text !== null;
  useEffect(() => {
    if (!isKnown) return;
    setSaid(latest.current);
    const timer = setInterval(() => setSaid(latest.current), ANNOUNCE_EVERY_MS);
    return () => clearInterval(timer);
  }, [isKnown]);
  return (
    <p class="visually-hidden" role="status">
      {said}
    </p>
  );
}

/** A grey bar where a text will be. */
export function Skeleton({ width = "100%", height }: { width?: string; height?: string }) {
  return <span class="skeleton" aria-hidden="true" style={height ? { width, height } : { width }} />;
}

/** What stands for a list or chart that is on its way. */
export function Loading({ rows = 4, label = "Loading" }: { rows?: number; label?: string }) {
  return (
    <div class="loading" role="status">
      <span class="visually-hidden">{label}…</span>
      {Array.from({ length: rows }, (_, row) => (
        <Skeleton key={row} width={`${92 - ((row * 17) % 40)}%`} height="14px" />
      ))}
    </div>
  );
}

/** What stands where there is nothing, and what would bring something. */
export function Empty(props: {
  icon?: IconName;
  title: string;
  children?: ComponentChildren;
  action?: ComponentChildren;
}) {
  return (
    <div class="empty">
      <span class="empty-icon">
        <Icon name={props.icon ?? "chart"} size={24} />
      </span>
      <p class="empty-title">{props.title}</p>
      {props.children !== undefined && <p class="empty-text">{props.children}</p>}
      {props.action}
    </div>
  );
}

const FINAL: Readonly<Record<string, string>> = {
  unauthorized: "You may not see this.",
  forbidden: "You may not see this.",
  not_found: "This does not exist, or you may not see it.",
  missing_scope: "The key that you logged in with does not have the scope for this.",
};

/** A refusal in words, with a way to try again where that makes sense. */
export function ErrorBox({ refusal, onRetry }: { refusal: Refusal; onRetry?: (() => void) | undefined }) {
  return (
    <div class="error-box" role="alert">
      <Icon name="warning" />
      <div>
        <p class="error-title">{FINAL[refusal.reason] ?? "This could not be loaded."}</p>
        <p class="error-text">{refusal.message}</p>
      </div>
      {onRetry && (
        <Button size="small" icon="refresh" onClick={onRetry}>
          Try again
        </Button>
      )}
    </div>
  );
}

/**
 * Show what was asked for in whichever state it is: on its way, refused, or there.
 *
 * An answer that is there stays shown while a newer one is under way or refused; the refusal then stands above it.
 */
export function Loaded<Data>(props: {
  asked: Asked<Data>;
  /** What stands for it on its way; rows of grey bars unless told. */
  skeleton?: ComponentChildren;
  children: (data: Data) => ComponentChildren;
}) {
  const { data, error, reload } = props.asked;
  const { state } = connection.value;
  const isUnreached = error?.status === 0;
  // biome-ignore lint/correctness/useExhaustiveDependencies: only the connection's return asks again by itself.
  useEffect(() => {
    if (state === "open" && isUnreached) reload();
  }, [state]);
  if (data === null) {
    if (error !== null) return <ErrorBox refusal={error} onRetry={reload} />;
    return <>{props.skeleton ?? <Loading />}</>;
  }
  return (
    <>
      {error !== null && <ErrorBox refusal={error} onRetry={reload} />}
      {props.children(data)}
    </>
  );
}
