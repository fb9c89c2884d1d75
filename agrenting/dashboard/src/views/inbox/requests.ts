// Contact requests and contacts, in one form for users and agents: the market answers the two differently.
import { get, list, listAll, type Page, send } from "../../rest";
import { me } from "../../session";

/** How many of a list are read; the rest is named, not shown. */
const ITEMS_MAX = 300;

export type RequestStatus = "pending" | "approved" | "rejected" | "cancelled" | "expired";

export interface Side {
  handle: string;
  name: string;
  description?: string | null | undefined;
}

export interface ContactRequest {
  id: string;
  direction: "received" | "sent";
  status: RequestStatus;
  /** Who asks; null where it has been deleted since. */
  from: Side | null;
  to: Side | null;
  message: string | null;
  insertedAt: string;
  expiresAt: string;
  respondedAt: string | null;
}

export interface ContactScope {
  kinds?: string[] | null;
  max_price?: number | null;
  max_open?: number | null;
  expires_at?: string | null;
}

export interface Contact {
  id: string;
  handle: string;
  name: string;
  type: "User" | "Agent";
  online: boolean;
  origin: string;
  isRequester: boolean;
  scope: ContactScope | null;
  insertedAt: string;
}

interface UserRequest {
  id: string;
  status: RequestStatus;
  requester: Side | null;
  recipient: Side | null;
  message: string | null;
  inserted_at: string;
  expires_at: string;
  responded_at: string | null;
}

interface AgentRequest {
  id: string;
  status: RequestStatus;
  from_handle?: string | null;
  from_name?: string | null;
  to_handle?: string | null;
  to_name?: string | null;
  message: string | null;
  inserted_at: string;
  expires_at: string;
  responded_at?: string | null;
}

interface UserContact {
  id: string;
  contact_type: "User" | "Agent";
  online: boolean;
  origin: string;
  is_requester: boolean;
  scope: ContactScope | null;
  inserted_at: string;
  user: Side;
}

interface AgentContact extends Side {
  id: string;
  type: "User" | "Agent";
  online: boolean;
  origin: string;
  is_requester: boolean;
  scope: ContactScope | null;
  inserted_at: string;
}

export interface Requests {
  received: ContactRequest[];
  sent: ContactRequest[];
}

/** What waits for an answer, and what was asked: of the user and its agents, or of the agent that is logged in. */
export async function readRequests(signal: AbortSignal): Promise<Requests> {
  const { agentId, handle } = me();
  if (agentId !== null) {
    const own = { handle, name: handle };
    const found = await get<{ received: AgentRequest[]; sent: AgentRequest[] }>("/agent/contacts/requests", {
      query: { page_size: 100, sent_status: "all" },
      signal,
    });
    return {
      received: found.received.map((each) => ofAgent(each, "received", own)),
      sent: found.sent.map((each) => ofAgent(each, "sent", own)).reverse(),
    };
  }
  const query = { whose: "all" };
  const [received, sent] = await Promise.all([
    listAll<UserRequest>("/me/contacts/requests", ITEMS_MAX, { query, signal }),
    listAll<UserRequest>("/me/contacts/requests/sent", ITEMS_MAX, { query: { ...query, status: "all" }, signal }),
  ]);
  return {
    received: received.map((each) => ofUser(each, "received")),
    sent: sent.map((each) => ofUser(each, "sent")).reverse(),
  };
}

function ofUser(request: UserRequest, direction: ContactRequest["direction"]): ContactRequest {
  const { id, status, requester, recipient, message, inserted_at, expires_at, responded_at } = request;
  const times = { insertedAt: inserted_at, expiresAt: expires_at, respondedAt: responded_at };
  return { id, direction, status, from: requester, to: recipient, message, ...times };
}

function ofAgent(request: AgentRequest, direction: ContactRequest["direction"], own: Side): ContactRequest {
  const { id, status, message, inserted_at, expires_at, responded_at } = request;
  const side = (handle?: string | null, name?: string | null): Side | null =>
    handle ? { handle, name: name ?? handle } : null;
  const isReceived = direction === "received";
  return {
    id,
    direction,
    status,
    from: isReceived ? side(request.from_handle, request.from_name) : own,
    to: isReceived ? own : side(request.to_handle, request.to_name),
    message,
    insertedAt: inserted_at,
    expiresAt: expires_at,
    respondedAt: responded_at ?? null,
  };
}

export type Answer = "approve" | "reject" | "cancel";

/** Answer a request, or take one's own back; what became of it. */
export async function answerRequest(id: string, answer: Answer, maxPrice: string | null): Promise<RequestStatus> {
  const scope = answer === "approve" && maxPrice !== null ? { scope: { max_price: maxPrice } } : {};
  const idempotencyKey = crypto.randomUUID?.() ?? `${id}-${Date.now()}`;
  if (me().agentId !== null) {
    const body = { action: answer, request_id: id, ...scope };
    return (await send<{ status: RequestStatus }>("POST", "/agent/contacts/requests/respond", body, { idempotencyKey }))
      .status;
  }
  if (answer === "cancel")
    return (await send<{ status: RequestStatus }>("DELETE", `/me/contacts/requests/${id}`)).status;
  return (
    await send<{ status: RequestStatus }>("POST", `/me/contacts/requests/${id}/${answer}`, scope, { idempotencyKey })
  ).status;
}

/** The contacts of the user itself, or of an agent that the session may act as. */
export async function readContacts(ofAgent: string | null, signal: AbortSignal): Promise<Contact[]> {
  if (ofAgent === null && me().agentId === null) {
    const found = await listAll<UserContact>("/me/contacts", ITEMS_MAX, { signal });
    return found.map(({ id, contact_type, online, origin, is_requester, scope, inserted_at, user }) => ({
      id,
      ...{ handle: user.handle, name: user.name, type: contact_type, online, origin },
      ...{ isRequester: is_requester, scope, insertedAt: inserted_at },
    }));
  }
  const found = await listAll<AgentContact>("/agent/contacts", ITEMS_MAX, { agentId: ofAgent, signal });
  return found.map(({ id, handle, name, type, online, origin, is_requester, scope, inserted_at }) => ({
    id,
    ...{ handle, name, type, online, origin },
    ...{ isRequester: is_requester, scope, insertedAt: inserted_at },
  }));
}

/** End a contact at once. */
export async function removeContact(id: string): Promise<void> {
  await send("POST", me().agentId === null ? "/me/contacts/remove" : "/agent/contacts/remove", { contact_id: id });
}

/** The user's agents, for choosing whose contacts are shown. */
export function readAgents(signal: AbortSignal): Promise<Page<{ id: string; handle: string }>> {
  return list("/agents", { query: { limit: 100 }, signal });
}
