// API keys: which there are, what each may do, and how one is made, revoked and rotated.
import "../style/detail.css";
import "../style/keys.css";
import { useState } from "preact/hooks";
import { moment, money, plural, shortId } from "../format";
import { Badge, Button, Card, Empty, Loaded, ViewHead } from "../parts/basics";
import { Dialog, toast } from "../parts/controls";
import { type Column, Table } from "../parts/table";
import { listAll, refusalOf, send, useAsked } from "../rest";
import { currency, me } from "../session";
import { CreateKey } from "./keys/create";
import type { Key } from "./keys/told";
import { Scrolling } from "./live";

const KEYS_MAX = 1000;

interface Found {
  keys: Key[];
  agents: { id: string; handle: string }[];
}

async function readKeys(signal: AbortSignal): Promise<Found> {
  const isUser = me().agentId === null;
  // The names of agents are an extra: without the scope to read them the ids do.
  const agents = isUser ? listAll<Found["agents"][number]>("/agents", KEYS_MAX, { signal }).catch(() => []) : [];
  const keys = listAll<Key>("/keys", KEYS_MAX, { signal });
  const [found, named] = await Promise.all([keys, agents]);
  return { keys: found.reverse(), agents: named };
}

export function KeysView() {
  const asked = useAsked<Found>("keys", readKeys);
  const [isCreating, setCreating] = useState(false);
  const [revoking, setRevoking] = useState<Key | null>(null);
  const [isWhole, setWhole] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const { reload } = asked;
  const revoke = async (key: Key) => {
    setRevoking(null);
    setProblem(null);
    try {
      await send<Key>("DELETE", `/keys/${key.id}`);
      toast(`The key “${key.name}” is revoked.`, "good");
      reload();
    } catch (error) {
      setProblem(sentenceOf(error, key));
    }
  };
  const whose = [
    { value: "", label: me().handle },
    ...(asked.data?.agents ?? []).map((agent) => ({ value: agent.id, label: agent.handle })),
  ];
  const sub = me().agentId === null ? "Yours and those of your agents." : "Those of this agent.";
  return (
    <div class="detail" data-testid="keys-view">
      <ViewHead title="Keys" sub={`${sub} A key is shown once, when it is made; the market keeps only its hash.`}>
        <Button kind="primary" icon="plus" onClick={() => setCreating(true)}>
          Create key
        </Button>
      </ViewHead>
      {problem !== null && (
        <div class="banner tone-bad" role="alert">
          <strong>Not revoked</strong>
          <div>{problem}</div>
        </div>
      )}
      <Loaded asked={asked}>
        {({ keys, agents }) => {
          const live = keys.filter((key) => key.revoked_at === null);
          const revoked = keys.length - live.length;
          return (
            <Card
              title="API keys"
              note={plural(live.length, "key in use", "keys in use")}
              flush
              testId="keys"
              actions={
                revoked > 0 && (
                  <Button size="small" kind="quiet" onClick={() => setWhole(!isWhole)}>
                    {isWhole ? "Hide revoked" : `Show ${plural(revoked, "revoked key")}`}
                  </Button>
                )
              }
            >
              <Table
                caption="API keys, newest first"
                rows={isWhole ? keys : live}
                rowKey={(key) => key.id}
                columns={columnsOf(agents, setRevoking)}
                empty={
                  <Empty icon="keys" title="No keys">
                    A key that is created here appears in this list, without its secret.
                  </Empty>
                }
              />
            </Card>
          );
        }}
      </Loaded>
      <Rotation />
      {isCreating && <CreateKey whose={whose} onClose={() => setCreating(false)} onCreated={reload} />}
      {revoking !== null && (
        <Revoke revoking={revoking} onClose={() => setRevoking(null)} onConfirm={() => void revoke(revoking)} />
      )}
    </div>
  );
}

function sentenceOf(error: unknown, key: Key): string {
  const refusal = refusalOf(error);
  if (refusal.reason === "key_required") {
    return `${refusal.message} This page holds a session only: revoke “${key.name}” by REST with a key, or by the operator's command line.`;
  }
  return refusal.message;
}

function columnsOf(agents: Found["agents"], onRevoke: (key: Key) => void): Column<Key>[] {
  const handles = new Map(agents.map((agent) => [agent.id, agent.handle]));
  const unit = currency.value;
  return [
    {
      key: "name",
      title: "Name",
      isHead: true,
      sortBy: (key) => key.name,
      cell: (key) => (
        <span class="about">
          <span class="line" title={key.name}>
            {key.name}
          </span>
          <code class="mono muted line">{key.hint}…</code>
        </span>
      ),
    },
    {
      key: "of",
      title: "Acts as",
      cell: (key) => <span class="line">{handles.get(key.agent_id ?? "") ?? holderOf(key)}</span>,
    },
    { key: "scopes", title: "Scopes", cell: (key) => <Scopes scopes={key.scopes} /> },
    {
      key: "caps",
      title: "May spend",
      align: "right",
      cell: (key) => (
        <span class="about is-right num">
          {key.max_amount === null && key.max_amount_per_day === null && <span class="muted">no limit</span>}
          {key.max_amount !== null && <span>{money(key.max_amount, unit)} at once</span>}
          {key.max_amount_per_day !== null && <span>{money(key.max_amount_per_day, unit)} a day</span>}
        </span>
      ),
    },
    {
      key: "created",
      title: "Created",
      align: "right",
      sortBy: (key) => key.created_at,
      cell: (key) => <span class="num nowrap">{moment(key.created_at)}</span>,
    },
    {
      key: "revoke",
      title: "State",
      align: "right",
      cell: (key) =>
        key.revoked_at === null ? (
          <Button size="small" kind="quiet" onClick={() => onRevoke(key)} label={`Revoke ${key.name} ${key.hint}`}>
            Revoke
          </Button>
        ) : (
          <span title={moment(key.revoked_at)}>
            <Badge>revoked</Badge>
          </span>
        ),
    },
  ];
}

/** Whose key it is, where the list of agents does not say. */
function holderOf(key: Key): string {
  return key.agent_id === null || key.agent_id === me().agentId ? me().handle : shortId(key.agent_id);
}

const SCOPES_SHOWN = 3;

function Scopes({ scopes }: { scopes: readonly string[] }) {
  const rest = scopes.length - SCOPES_SHOWN;
  return (
    <span class="scope-list" title={scopes.join(", ")}>
      {scopes.slice(0, SCOPES_SHOWN).map((scope) => (
        <Badge key={scope}>{scope}</Badge>
      ))}
      {rest > 0 && (
        <span class="muted">
          and {rest} more<span class="visually-hidden">: {scopes.slice(SCOPES_SHOWN).join(", ")}</span>
        </span>
      )}
    </span>
  );
}

function Revoke({ revoking, onClose, onConfirm }: { revoking: Key; onClose: () => void; onConfirm: () => void }) {
  return (
    <Dialog
      title={`Revoke “${revoking.name}”?`}
      onClose={onClose}
      actions={
        <>
          <Button onClick={onClose}>Keep</Button>
          <Button kind="danger" onClick={onConfirm}>
            Revoke
          </Button>
        </>
      }
    >
      <p>
        <code class="mono">{revoking.hint}…</code> stops working at once, and so do the sessions and connections that
        were opened with it. This cannot be undone. Keys that it has made stay.
      </p>
      <p class="muted">If you have logged in with this very key, you are logged out here too.</p>
    </Dialog>
  );
}

/** Rotation needs the key itself, which this page has forgotten: it says how it is done elsewhere. */
function Rotation() {
  return (
    <Card title="Rotating a key" testId="rotation">
      <p>
        A rotation puts a new secret behind a key: its scopes, caps and what it has spent stay. It needs the key itself,
        and this page keeps only a session. So the program that holds the key does it, or you in a terminal:
      </p>
      <Scrolling class="json-frame" label="How a key is rotated">
        <pre>
          curl -X POST -H "X-API-Key: $AGRENTING_KEY" \{"\n"}
          {"  "}
          {location.origin}/api/v1/auth/rotate-key
        </pre>
      </Scrolling>
      <p class="muted">The old secret and its sessions end at once. The new one is in the answer, this once.</p>
    </Card>
  );
}
