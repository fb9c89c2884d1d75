/** The market as it happens: negotiations, tasks, channels and transfers of a scope, newest first. */

import { type ComponentChildren, Fragment } from "preact";
import { useEffect, useState } from "preact/hooks";
import { count } from "../format";
import { noteHandle } from "../handles";
import { answered, merged } from "../happened";
import { type Refusal, refusalOf } from "../rest";
import { agentHref, channelHref, taskHref } from "../router";
import { currency, session } from "../session";
import { type Joined, useTopic } from "../sockets";
import type { Activity, AnalyticsJoined } from "../types";
import { Ago, Dot, Empty, ErrorBox, Loading, Money, type Tone } from "./basics";
import { Icon, type IconName } from "./icons";

const SHOWN_MAX = 60;

interface Kind {
  words: string;
  icon: IconName;
  tone: Tone;
}

const KINDS: Readonly<Record<string, Kind>> = {
  negotiation_opened: { words: "Negotiation opened", icon: "deal", tone: "neutral" },
  offer: { words: "Offer", icon: "deal", tone: "accent" },
  negotiation_agreed: { words: "Agreed", icon: "deal", tone: "good" },
  negotiation_ended: { words: "Negotiation ended", icon: "deal", tone: "neutral" },
  task_opened: { words: "Task opened", icon: "task", tone: "accent" },
  task_started: { words: "Task started", icon: "task", tone: "accent" },
  task_completed: { words: "Task completed", icon: "task", tone: "good" },
  task_failed: { words: "Task failed", icon: "task", tone: "bad" },
  task_cancelled: { words: "Task cancelled", icon: "task", tone: "neutral" },
  task_disputed: { words: "Task disputed", icon: "warning", tone: "bad" },
  task_settled: { words: "Dispute settled", icon: "check", tone: "good" },
  channel_opened: { words: "Channel opened", icon: "money", tone: "accent" },
  channel_closed: { words: "Channel closed", icon: "money", tone: "neutral" },
  channel_disputed: { words: "Channel disputed", icon: "warning", tone: "bad" },
  transfer: { words: "Transfer", icon: "money", tone: "good" },
};

export interface ActivityState {
  /** Newest first; null until the first answer. */
  items: readonly Activity[] | null;
  /** How many were left out since, because more happened than a page can show. */
  skipped: number;
  refusal: Refusal | null;
}

/** Who takes part may be seen nowhere else: neither listed nor a contact. */
function noteHandles(items: readonly Activity[]): void {
  for (const { agents } of items) for (const { id, handle } of agents) noteHandle(id, handle);
}

/** Ask a joined analytics topic for what happens, and keep the newest. `isAsked` false asks nothing. */
export function useActivity(
  scope: string,
  topic: Joined<AnalyticsJoined>,
  isAsked = true,
  agentId: string | null = null,
): ActivityState {
  const [state, setState] = useState<ActivityState>({ items: null, skipped: 0, refusal: null });
  useTopic(isAsked ? `analytics:${scope}` : null, {
    agentId,
    on: {
      activity: ({ items, skipped }: { items: Activity[]; skipped: number }) => {
        noteHandles(items);
        setState((was) => ({
          items: merged(was.items ?? [], items, SHOWN_MAX),
          skipped: was.skipped + skipped,
          refusal: null,
        }));
      },
    },
  });
  const { joins, push } = topic;
  useEffect(() => {
    if (joins === 0 || !isAsked) return;
    push<{ activity: Activity[] }>("subscribe_activity")
      .then(({ activity }) => {
        noteHandles(activity);
        setState((was) => ({ ...was, items: answered(was.items ?? [], activity, SHOWN_MAX), refusal: null }));
      })
      .catch((error: unknown) => setState((was) => ({ ...was, refusal: refusalOf(error) })));
  }, [joins, push, isAsked]);
  return state;
}

/** The feed of a scope. Screen readers are told how much came, not every line. */
export function ActivityFeed(props: {
  state: ActivityState;
  /** Whose side links are made from: an agent's page, or of a user's own agents whichever takes part. */
  isOwn?: (agentId: string) => boolean;
  emptyText?: string;
}) {
  const { items, skipped, refusal } = props.state;
  if (items === null) return refusal === null ? <Loading rows={6} /> : <ErrorBox refusal={refusal} />;
  if (items.length === 0) {
    return (
      <Empty icon="market" title="Nothing yet">
        {props.emptyText ?? "Offers, tasks and transfers appear here as they happen."}
      </Empty>
    );
  }
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls is reached by the keyboard.
    // biome-ignore lint/a11y/useSemanticElements: a group of lines, not of fields.
    <div class="feed" data-testid="feed" role="group" aria-label="What has happened" tabIndex={0}>
      {skipped > 0 && <p class="feed-skipped">{count(skipped)} more happened faster than can be shown.</p>}
      <ol class="feed-list" aria-label="Live activity">
        {items.map((item) => (
          <FeedLine key={item.id} item={item} isOwn={props.isOwn} />
        ))}
      </ol>
    </div>
  );
}

function FeedLine({ item, isOwn }: { item: Activity; isOwn: ((agentId: string) => boolean) | undefined }) {
  const kind = KINDS[item.kind] ?? {
    words: item.kind.replaceAll("_", " "),
    icon: "info" as const,
    tone: "neutral" as const,
  };
  const href = hrefOf(item, isOwn ?? ((id) => id === session.value?.agentId));
  const title: ComponentChildren = href ? <a href={href}>{kind.words}</a> : kind.words;
  return (
    <li class="feed-line">
      <span class={`feed-icon tone-${kind.tone}`}>
        <Icon name={kind.icon} size={16} />
      </span>
      <div class="feed-text">
        <p class="feed-title">{title}</p>
        <p class="feed-agents">
          {item.capability !== null && <span class="feed-capability">{item.capability}</span>}
          {item.agents.map((agent, index) => (
            <Fragment key={agent.id}>
              <span>
                {agent.handle ?? "deleted agent"}
                {index < item.agents.length - 1 && (
                  <>
                    <span aria-hidden="true"> →</span>
                    <span class="visually-hidden"> to</span>
                  </>
                )}
              </span>{" "}
            </Fragment>
          ))}
        </p>
      </div>
      <div class="feed-end">
        {item.amount !== null && <Money minor={item.amount} unit={currency.value} />}
        <span class="feed-when">
          <Ago at={item.at} />
        </span>
      </div>
    </li>
  );
}

function hrefOf(item: Activity, isOwn: (agentId: string) => boolean): string | null {
  const own = item.agents.find((agent) => isOwn(agent.id));
  if (own === undefined) return null;
  const [kind, id] = item.topic.split(":");
  if (id === undefined) return null;
  if (kind === "task") return taskHref(own.id, id);
  return kind === "payment" ? channelHref(own.id, id) : agentHref(own.id);
}

/** Whether the feed moves: beside its heading. */
export function LiveMark({ state }: { state: Joined<unknown>["state"] }) {
  if (state === "joined") return <Dot tone="good">live</Dot>;
  return <Dot tone="neutral">{state === "waiting" ? "paused" : "…"}</Dot>;
}
