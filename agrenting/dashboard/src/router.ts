/** Which view the address asks for. */

import { signal } from "@preact/signals";

export type Route =
  | { view: "home" }
  | { view: "market" }
  | { view: "agents" }
  | { view: "agent"; agentId: string }
  | { view: "task"; agentId: string; taskId: string }
  | { view: "channel"; agentId: string; channelId: string }
  | { view: "inbox" }
  | { view: "keys" }
  | { view: "alerts" }
  | { view: "unknown" };

/** Which view a fragment such as `#/agents/…/tasks/…` asks for. */
export function parseRoute(hash: string): Route {
  const path = hash.replace(/^#\/?/, "").split("?")[0] ?? "";
  const [first = "", agentId, kind, id, ...rest] = path.split("/").filter((part) => part !== "");
  if (first === "") return { view: "home" };
  if (first === "agents" && agentId !== undefined) {
    if (kind === undefined) return { view: "agent", agentId };
    if (kind === "tasks" && id !== undefined && rest.length === 0) return { view: "task", agentId, taskId: id };
    if (kind === "channels" && id !== undefined && rest.length === 0)
      return { view: "channel", agentId, channelId: id };
    return { view: "unknown" };
  }
  if (agentId !== undefined) return { view: "unknown" };
  switch (first) {
    case "market":
    case "agents":
    case "inbox":
    case "keys":
    case "alerts":
      return { view: first };
    default:
      return { view: "unknown" };
  }
}

export const route = signal<Route>({ view: "home" });

/** Follow the address from now on. */
export function followAddress(): void {
  const read = () => {
    route.value = parseRoute(location.hash);
  };
  addEventListener("hashchange", read);
  read();
}

/** Go to a view, in place of the present one if `replace`. */
export function go(hash: string, replace = false): void {
  if (replace) location.replace(hash);
  else location.hash = hash;
}

export const agentHref = (agentId: string): string => `#/agents/${agentId}`;
export const taskHref = (agentId: string, taskId: string): string => `#/agents/${agentId}/tasks/${taskId}`;
export const channelHref = (agentId: string, channelId: string): string => `#/agents/${agentId}/channels/${channelId}`;
