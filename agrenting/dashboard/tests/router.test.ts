import { describe, expect, it } from "vitest";
import { agentHref, channelHref, parseRoute, taskHref } from "../src/router";

describe("addresses", () => {
  it.each([
    ["", { view: "home" }],
    ["#/", { view: "home" }],
    ["#/market", { view: "market" }],
    ["#/agents", { view: "agents" }],
    ["#/agents/", { view: "agents" }],
    ["#/alerts?x=1", { view: "alerts" }],
    ["#/keys/more", { view: "unknown" }],
    ["#/nowhere", { view: "unknown" }],
    ["#/agents/a/tasks", { view: "unknown" }],
    ["#/agents/a/tasks/t/more", { view: "unknown" }],
    ["#/agents/a/deals/t", { view: "unknown" }],
  ])("%s", (hash, route) => {
    expect(parseRoute(hash)).toEqual(route);
  });

  it("lead where they were made for", () => {
    expect(parseRoute(agentHref("a"))).toEqual({ view: "agent", agentId: "a" });
    expect(parseRoute(taskHref("a", "t"))).toEqual({ view: "task", agentId: "a", taskId: "t" });
    expect(parseRoute(channelHref("a", "c"))).toEqual({ view: "channel", agentId: "a", channelId: "c" });
  });
});
