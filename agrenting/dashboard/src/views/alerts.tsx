/** All alerts, also those of the past. */

import { useEffect, useState } from "preact/hooks";
import { alertChanges } from "../alerts";
import { AlertList } from "../parts/alert_list";
import { Button, Card, Loaded, ViewHead } from "../parts/basics";
import { type Option, Segmented, Select } from "../parts/controls";
import { listAll, useAsked, useList } from "../rest";
import { me } from "../session";
import type { Alert, AlertStatus, OwnAgent, Severity } from "../types";

const STATUSES: readonly Option<AlertStatus | "any">[] = [
  { value: "active", label: "Active" },
  { value: "acknowledged", label: "Acknowledged" },
  { value: "resolved", label: "Resolved" },
  { value: "any", label: "All" },
];
const SEVERITIES: readonly Option<Severity | "any">[] = [
  { value: "any", label: "Any severity" },
  { value: "critical", label: "Critical" },
  { value: "error", label: "Error" },
  { value: "warning", label: "Warning" },
  { value: "info", label: "Info" },
];
type Whose = "all" | "market" | "own";
const WHOSE: readonly Option<Whose>[] = [
  { value: "all", label: "Everybody's" },
  { value: "market", label: "The market's" },
  { value: "own", label: "My agents'" },
];
const OWN_MAX = 1000;
/** Alerts of others are not told to an operator's page, so it looks now and then. */
const LOOK_AGAIN_MS = 15_000;
const PAGE = 25;
/** A burst of alerts asks for one new list. */
const SETTLE_MS = 300;

export function AlertsView() {
  const { isOperator } = me();
  const [status, setStatus] = useState<AlertStatus | "any">("active");
  const [severity, setSeverity] = useState<Severity | "any">("any");
  const [whose, setWhose] = useState<Whose>(isOperator ? "all" : "own");
  const [cursors, setCursors] = useState<readonly string[]>([]);
  const restart = () => setCursors([]);
  const asked = useList<Alert>(whose === "own" ? "/alerts" : "/admin/alerts", {
    query: {
      whose: whose === "market" ? "market" : null,
      status: status === "any" ? null : status,
      severity: severity === "any" ? null : severity,
      limit: PAGE,
      cursor: cursors.at(-1),
    },
  });
  const own = useAsked<OwnAgent[]>(isOperator ? "own" : null, (signal) =>
    listAll<OwnAgent>("/agents", OWN_MAX, { signal }),
  );
  const ids = new Set(own.data?.map((agent) => agent.id));
  const changes = alertChanges.value;
  const { reload } = asked;
  // biome-ignore lint/correctness/useExhaustiveDependencies: a change of any alert is what asks anew.
  useEffect(() => {
    if (changes === 0) return;
    const timer = setTimeout(reload, SETTLE_MS);
    return () => clearTimeout(timer);
  }, [changes, reload]);
  useEffect(() => {
    if (whose !== "all") return;
    const timer = setInterval(reload, LOOK_AGAIN_MS);
    return () => clearInterval(timer);
  }, [whose, reload]);
  return (
    <>
      <ViewHead title="Alerts" sub="What went wrong, or is about to. Conditions that pass resolve themselves." />
      <Card
        title={status === "any" ? "All alerts" : `${STATUSES.find((one) => one.value === status)?.label} alerts`}
        flush
        actions={
          <>
            {isOperator && (
              <Segmented
                label="Whose"
                options={WHOSE}
                value={whose}
                onChange={(value) => {
                  setWhose(value);
                  restart();
                }}
              />
            )}
            <Segmented
              label="Status"
              options={STATUSES}
              value={status}
              onChange={(value) => {
                setStatus(value);
                restart();
              }}
            />
            <Select
              label="Severity"
              options={SEVERITIES}
              value={severity}
              onChange={(value) => {
                setSeverity(value);
                restart();
              }}
            />
          </>
        }
      >
        <Loaded asked={asked}>
          {(page) => (
            <>
              <AlertList
                alerts={page.items}
                isOwn={(id) => !isOperator || ids.has(id)}
                emptyTitle={severity === "any" && status === "active" ? "All is well" : "No such alerts"}
                {...(status === "active" ? {} : { emptyText: "Choose another status or severity to see more." })}
              />
              {(cursors.length > 0 || page.hasMore) && (
                <div class="pager">
                  <Button size="small" disabled={cursors.length === 0} onClick={() => setCursors(cursors.slice(0, -1))}>
                    Newer
                  </Button>
                  <Button
                    size="small"
                    disabled={!page.hasMore || page.nextCursor === null}
                    onClick={() => page.nextCursor !== null && setCursors([...cursors, page.nextCursor])}
                  >
                    Older
                  </Button>
                </div>
              )}
            </>
          )}
        </Loaded>
      </Card>
    </>
  );
}
