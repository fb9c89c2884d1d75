/** Alerts with what can be done about them. */

import { useState } from "preact/hooks";
import { acknowledge, resolve } from "../alerts";
import { sentences, words } from "../format";
import { agentHref, channelHref, taskHref } from "../router";
import { me } from "../session";
import type { Alert } from "../types";
import { Ago, AlertStatusBadge, Button, Empty, Loading, SeverityBadge } from "./basics";

export interface AlertListProps {
  alerts: readonly Alert[];
  /** False: the first answer is on its way. */
  isKnown?: boolean;
  emptyTitle?: string;
  emptyText?: string;
  /** Show what has happened, and leave what follows from it to the list of all alerts. */
  isBrief?: boolean;
  /** Whose alerts can be answered and whose pages opened; an operator also sees those of others. Usually everybody's. */
  isOwn?: (agentId: string) => boolean;
}

export function AlertList(props: AlertListProps) {
  if (props.alerts.length === 0) {
    if (props.isKnown === false) return <Loading rows={3} label="Loading alerts" />;
    return (
      <Empty icon="check" title={props.emptyTitle ?? "No open alerts"}>
        {props.emptyText ?? "Failures, disputes and low balances appear here at once."}
      </Empty>
    );
  }
  const isOwn = props.isOwn ?? (() => true);
  return (
    <ul class="alert-list">
      {props.alerts.map((alert) => (
        <AlertLine
          key={alert.id}
          alert={alert}
          isBrief={props.isBrief ?? false}
          isOwn={alert.agent_id === null ? me().isOperator : isOwn(alert.agent_id)}
        />
      ))}
    </ul>
  );
}

interface Subject {
  href: string;
  label: string;
}

function subjectOf(alert: Alert, agentId: string): Subject {
  const { task_id: taskId, channel_id: channelId } = alert.data;
  if (typeof taskId === "string") return { href: taskHref(agentId, taskId), label: "See the task" };
  if (typeof channelId === "string") return { href: channelHref(agentId, channelId), label: "See the channel" };
  return { href: agentHref(agentId), label: "See the agent" };
}

function AlertLine({ alert, isOwn, isBrief }: { alert: Alert; isOwn: boolean; isBrief: boolean }) {
  const [busy, setBusy] = useState<"acknowledge" | "resolve" | null>(null);
  const act = async (verb: "acknowledge" | "resolve") => {
    setBusy(verb);
    await (verb === "acknowledge" ? acknowledge(alert) : resolve(alert));
    setBusy(null);
  };
  const [what, then] = sentences(alert.message);
  const subject = isOwn && alert.agent_id !== null ? subjectOf(alert, alert.agent_id) : null;
  return (
    <li class={`alert-line severity-${alert.severity}`} data-testid={`alert-${alert.id}`}>
      <div class="alert-text">
        <p class="alert-message" title={isBrief ? alert.message : undefined}>
          {what}
        </p>
        {!isBrief && then !== "" && <p class="alert-then">{then}</p>}
        <p class="alert-facts">
          <SeverityBadge severity={alert.severity} />
          <span>{words(alert.type)}</span>
          <Ago at={alert.inserted_at} />
          {alert.status !== "active" && <AlertStatusBadge status={alert.status} />}
          {subject !== null && <a href={subject.href}>{subject.label}</a>}
        </p>
      </div>
      {isOwn && alert.status !== "resolved" && (
        <div class="alert-actions">
          {alert.status === "active" && (
            <Button
              size="small"
              label={`Acknowledge: ${what}`}
              isBusy={busy === "acknowledge"}
              onClick={() => void act("acknowledge")}
            >
              Acknowledge
            </Button>
          )}
          <Button
            size="small"
            icon="check"
            label={`Resolve: ${what}`}
            isBusy={busy === "resolve"}
            onClick={() => void act("resolve")}
          >
            Resolve
          </Button>
        </div>
      )}
    </li>
  );
}
