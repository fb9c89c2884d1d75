// Who asks for contact, who was asked, and who may do business with the user and its agents.
import "../style/detail.css";
import "../style/inbox.css";
import { useEffect, useRef, useState } from "preact/hooks";
import { moment, money, words } from "../format";
import { Ago, Badge, Button, Card, Dot, Empty, Loaded, StatusBadge, ViewHead } from "../parts/basics";
import { Select, Tabs, toast } from "../parts/controls";
import { Table } from "../parts/table";
import { refreshPending } from "../pending";
import { refusalOf, useAsked } from "../rest";
import { currency, me } from "../session";
import { useTopic } from "../sockets";
import { AnswerDialog, RemoveDialog } from "./inbox/dialogs";
import {
  type Answer,
  answerRequest,
  type Contact,
  type ContactRequest,
  type RequestStatus,
  type Requests,
  readAgents,
  readContacts,
  readRequests,
  removeContact,
} from "./inbox/requests";

/** Requests to agents are told to the agents' own connections alone, so a page of their owner asks now and then. */
const ASK_MS = 5000;

type TabId = "received" | "sent" | "contacts";

export function InboxView() {
  const { agentId, userId } = me();
  const asked = useAsked<Requests>("requests", readRequests);
  const [version, setVersion] = useState(0);
  const [tab, setTab] = useState<TabId>("received");
  const { reload } = asked;
  const changed = () => {
    reload();
    setVersion((was) => was + 1);
    void refreshPending();
  };
  useTopic(agentId === null ? `user_contacts:${userId}` : `agent_contacts:${agentId}`, {
    onJoin: changed,
    on: {
      contact_request_received: changed,
      contact_request_updated: changed,
      contact_added: changed,
      contact_removed: changed,
    },
  });
  useEffect(() => {
    if (agentId !== null) return;
    const timer = setInterval(() => {
      if (!document.hidden) reload();
    }, ASK_MS);
    return () => clearInterval(timer);
  }, [agentId, reload]);
  const sub =
    agentId === null
      ? "Who wants to do business with you and your agents, and who may."
      : "Who wants to do business with this agent, and who may.";
  const waiting = asked.data?.received.length;
  const tabs = [
    { id: "received", label: "Waiting for you", ...(waiting === undefined ? {} : { count: waiting }) },
    { id: "sent", label: "Sent" },
    { id: "contacts", label: "Contacts" },
  ];
  return (
    <div class="detail" data-testid="inbox-view">
      <ViewHead title="Inbox" sub={sub} />
      <Tabs label="Contacts" tabs={tabs} selected={tab} onSelect={(id) => setTab(id as TabId)}>
        {tab === "contacts" ? (
          <Contacts version={version} onChange={changed} />
        ) : (
          <Loaded asked={asked}>
            {(requests) => <RequestList requests={requests[tab]} direction={tab} onChange={changed} />}
          </Loaded>
        )}
      </Tabs>
    </div>
  );
}

interface Answered {
  status: RequestStatus | "answering";
  /** Why it was refused; it then stands as before. */
  refusal: string | null;
}

/** Requests of one direction. An answer shows at once as under way, and as what the market has replied once it has. */
function RequestList({
  requests,
  direction,
  onChange,
}: {
  requests: readonly ContactRequest[];
  direction: "received" | "sent";
  onChange: () => void;
}) {
  const [answered, setAnswered] = useState<ReadonlyMap<string, Answered>>(new Map());
  const [asking, setAsking] = useState<{ request: ContactRequest; answer: Answer } | null>(null);
  const heading = useRef<HTMLParagraphElement>(null);
  const answer = async (request: ContactRequest, how: Answer, maxPrice: string | null) => {
    setAsking(null);
    const note = (now: Answered) => setAnswered((was) => new Map(was).set(request.id, now));
    note({ status: "answering", refusal: null });
    try {
      const status = await answerRequest(request.id, how, maxPrice);
      note({ status, refusal: null });
      toast(`${nameOf(request)}: ${status}.`, "good");
      // The button that was pressed is gone; the keyboard goes on here.
      heading.current?.focus();
      onChange();
    } catch (error) {
      note({ status: request.status, refusal: refusalOf(error).message });
    }
  };
  if (requests.length === 0) return <NoRequests direction={direction} />;
  return (
    <>
      <p class="visually-hidden" tabIndex={-1} ref={heading}>
        {direction === "received" ? "Requests that wait for you" : "Requests that were sent"}
      </p>
      <ul
        class="requests"
        aria-label={direction === "received" ? "Requests that wait for you" : "Requests that were sent"}
      >
        {requests.map((request) => (
          <RequestItem
            key={request.id}
            request={request}
            answered={answered.get(request.id) ?? { status: request.status, refusal: null }}
            onAnswer={(how) => setAsking({ request, answer: how })}
          />
        ))}
      </ul>
      {asking !== null && (
        <AnswerDialog
          request={asking.request}
          answer={asking.answer}
          onClose={() => setAsking(null)}
          onConfirm={(maxPrice) => void answer(asking.request, asking.answer, maxPrice)}
        />
      )}
    </>
  );
}

function NoRequests({ direction }: { direction: "received" | "sent" }) {
  if (direction === "sent") {
    return (
      <Empty icon="inbox" title="Nothing was asked">
        Requests that you or your agents send to others are listed here.
      </Empty>
    );
  }
  return (
    <Empty icon="check" title="Nobody waits for an answer">
      When somebody asks you or one of your agents for contact, the request appears here at once.
    </Empty>
  );
}

function nameOf(request: ContactRequest): string {
  const other = request.direction === "received" ? request.from : request.to;
  return other?.handle ?? "Somebody who is gone";
}

function RequestItem(props: { request: ContactRequest; answered: Answered; onAnswer: (answer: Answer) => void }) {
  const { request, answered } = props;
  const { from, to, direction, message } = request;
  const name = nameOf(request);
  const isBusy = answered.status === "answering";
  const isOpen = answered.status === "pending" || isBusy;
  return (
    <li class="request card" data-testid={`request-${request.id}`} aria-busy={isBusy}>
      <div class="request-head">
        <span class="avatar" aria-hidden="true">
          {name.charAt(0).toUpperCase()}
        </span>
        <div class="request-who">
          <p class="request-name">
            {direction === "received" ? (from?.name ?? name) : (to?.name ?? name)}{" "}
            <span class="muted block">{name}</span>
          </p>
          <p class="request-whom muted">
            {direction === "received" ? <>asks {to?.handle ?? "–"}</> : <>was asked by {from?.handle ?? "–"}</>} ·{" "}
            <Ago at={request.insertedAt} />
          </p>
        </div>
        {isOpen ? direction === "sent" && <StatusBadge status="pending" /> : <StatusBadge status={answered.status} />}
      </div>
      {message === null ? (
        <p class="request-note muted">No note was sent.</p>
      ) : (
        <blockquote class="request-note">{message}</blockquote>
      )}
      {answered.refusal !== null && (
        <p class="request-refusal" role="alert">
          {answered.refusal}
        </p>
      )}
      <div class="request-foot">
        <span class="muted">
          {request.respondedAt === null ? "Expires" : "Answered"}{" "}
          <span class="num">{moment(request.respondedAt ?? request.expiresAt)}</span>
        </span>
        {isOpen && direction === "received" && (
          <div class="request-actions">
            <Button onClick={() => props.onAnswer("reject")} disabled={isBusy} label={`Reject ${name}`}>
              Reject
            </Button>
            <Button
              kind="primary"
              icon="check"
              onClick={() => props.onAnswer("approve")}
              isBusy={isBusy}
              label={`Approve ${name}`}
            >
              Approve
            </Button>
          </div>
        )}
        {isOpen && direction === "sent" && (
          <Button onClick={() => props.onAnswer("cancel")} isBusy={isBusy} label={`Take back the request to ${name}`}>
            Take back
          </Button>
        )}
      </div>
    </li>
  );
}

const ORIGINS: Readonly<Record<string, string>> = {
  request: "asked for",
  owner: "owner",
  organisation: "same organisation",
};

function Contacts({ version, onChange }: { version: number; onChange: () => void }) {
  const { agentId, handle } = me();
  const [whose, setWhose] = useState("");
  const agents = useAsked(agentId === null ? "agents" : null, readAgents);
  const asked = useAsked<Contact[]>(`contacts of ${whose} ${version}`, (signal) =>
    readContacts(whose === "" ? null : whose, signal),
  );
  const [removing, setRemoving] = useState<Contact | null>(null);
  const options = [
    { value: "", label: handle },
    ...(agents.data?.items ?? []).map((agent) => ({ value: agent.id, label: agent.handle })),
  ];
  const remove = async (contact: Contact) => {
    setRemoving(null);
    try {
      await removeContact(contact.id);
      toast(`${contact.handle} is no contact any more.`, "good");
      onChange();
    } catch (error) {
      toast(refusalOf(error).message, "bad");
    }
  };
  return (
    <Card
      title="Contacts"
      note="May open negotiations, tasks and payment channels, as far as the approval goes."
      flush
      actions={
        agentId === null && (
          <Select label="Contacts of" options={options} value={whose} onChange={setWhose} isLabelled />
        )
      }
      testId="contacts"
    >
      <Loaded asked={asked}>
        {(contacts) => (
          <Table
            caption="Contacts"
            rows={contacts}
            rowKey={(contact) => contact.id}
            empty={
              <Empty icon="agents" title="No contacts yet">
                Whoever is approved becomes a contact.
              </Empty>
            }
            columns={[
              {
                key: "handle",
                title: "Who",
                isHead: true,
                sortBy: (contact) => contact.handle,
                cell: (contact) => (
                  <span class="about">
                    <span>{contact.handle}</span>
                    {contact.name !== contact.handle && <span class="muted">{contact.name}</span>}
                  </span>
                ),
              },
              { key: "type", title: "Kind", cell: (contact) => contact.type },
              {
                key: "online",
                title: "Now",
                cell: (contact) => (contact.online ? <Dot tone="good">online</Dot> : <Dot tone="neutral">offline</Dot>),
              },
              {
                key: "origin",
                title: "How",
                cell: (contact) => <Badge>{ORIGINS[contact.origin] ?? words(contact.origin)}</Badge>,
              },
              { key: "scope", title: "May", cell: (contact) => <span>{scopeWords(contact)}</span> },
              {
                key: "since",
                title: "Since",
                align: "right",
                sortBy: (contact) => contact.insertedAt,
                cell: (contact) => (
                  <span class="num nowrap">
                    <Ago at={contact.insertedAt} />
                  </span>
                ),
              },
              {
                key: "remove",
                title: "Change",
                align: "right",
                cell: (contact) => (
                  <Button
                    size="small"
                    kind="quiet"
                    onClick={() => setRemoving(contact)}
                    label={`Remove ${contact.handle}`}
                  >
                    Remove
                  </Button>
                ),
              },
            ]}
          />
        )}
      </Loaded>
      {removing !== null && (
        <RemoveDialog contact={removing} onClose={() => setRemoving(null)} onConfirm={() => void remove(removing)} />
      )}
    </Card>
  );
}

/** What an approval allows, in words. */
function scopeWords({ scope }: Contact): string {
  if (scope === null) return "everything";
  const parts: string[] = [];
  if (scope.kinds) parts.push(scope.kinds.map((kind) => kind.replaceAll("_", " ")).join(", "));
  if (scope.max_price !== null && scope.max_price !== undefined)
    parts.push(`up to ${money(scope.max_price, currency.value)}`);
  if (scope.max_open !== null && scope.max_open !== undefined) parts.push(`${scope.max_open} open at once`);
  if (scope.expires_at) parts.push(`until ${moment(scope.expires_at)}`);
  return parts.length === 0 ? "everything" : parts.join("; ");
}
