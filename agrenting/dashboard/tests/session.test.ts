import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { clockOffset } from "../src/clock";
import { login, logout, notice, resume, type Session, session, storedSession } from "../src/session";

const DAY_MS = 86_400_000;
const NOW = Date.UTC(2026, 0, 10, 12);
const SESSION: Session = {
  ...{ token: "ags_1", expiresAt: new Date(NOW + DAY_MS).toISOString(), userId: "u", agentId: null, handle: "alice" },
  ...{ scopes: ["analytics"], isOperator: false },
};
const stored = new Map<string, string>();
/** What the market answers, by its own clock, whatever the browser's says. */
let marketMs = NOW;
const ANSWERS: Record<string, unknown> = {
  "/api/v1/auth/authenticate": { session_token: "ags_1", user_id: "u", agent_id: null, handle: "alice", scopes: [] },
  "/api/v1/me": { is_operator: false },
  "/api/v1/meta": { currency: "USD", exponent: 2 },
};

beforeEach(() => {
  vi.useFakeTimers({ now: NOW });
  marketMs = NOW;
  clockOffset.value = null;
  stored.clear();
  vi.stubGlobal("location", { origin: "http://market.example" });
  vi.stubGlobal("sessionStorage", {
    getItem: (key: string) => stored.get(key) ?? null,
    setItem: (key: string, value: string) => void stored.set(key, value),
    removeItem: (key: string) => void stored.delete(key),
  });
  vi.stubGlobal("fetch", async (url: URL) => {
    const data = { ...(ANSWERS[url.pathname] ?? {}), expires_at: new Date(marketMs + DAY_MS).toISOString() };
    return new Response(JSON.stringify({ data }), { headers: { date: new Date(marketMs).toUTCString() } });
  });
});
afterEach(async () => {
  if (session.value !== null) await logout();
  notice.value = null;
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

describe("a session that a tab has kept", () => {
  it("is taken up as it was", () => {
    stored.set("agrenting.session", JSON.stringify({ ...SESSION, clockOffsetMs: 0 }));
    resume();
    expect(session.value).toEqual(SESSION);
  });

  it.each([
    ["no JSON", "{"],
    ["nothing", "null"],
    ["a list", "[]"],
    ["of an older page", '{"expiresAt":"2999-01-01T00:00:00Z"}'],
    ["without scopes", JSON.stringify({ ...SESSION, scopes: undefined })],
    ["with scopes that are none", JSON.stringify({ ...SESSION, scopes: [1] })],
    ["with an agent that is none", JSON.stringify({ ...SESSION, agentId: 7 })],
    ["without an end", JSON.stringify({ ...SESSION, expiresAt: "soon" })],
  ])("is forgotten where it is %s", (_, text) => {
    stored.set("agrenting.session", text);
    resume();
    expect(storedSession(text)).toBeNull();
    expect(session.value).toBeNull();
    expect(stored.size).toBe(0);
  });

  it("is over when the market's clock says so", () => {
    stored.set("agrenting.session", JSON.stringify({ ...SESSION, clockOffsetMs: 2 * DAY_MS }));
    resume();
    expect(session.value).toBeNull();
    expect(notice.value).toContain("expired");
  });
});

describe("a browser whose clock is wrong", () => {
  it.each([-40, -2, 2, 40])(
    "logs in when it is %i days off, stays so when loaded anew, and notices the end",
    async (days) => {
      // Arrange
      marketMs = NOW - days * DAY_MS;

      // Act
      await login("agk_1");
      expect(session.peek()?.handle).toBe("alice");
      const kept = stored.get("agrenting.session") ?? "";
      session.value = null;
      clockOffset.value = null;
      stored.set("agrenting.session", kept);
      resume();

      // Assert
      expect(session.peek()?.handle).toBe("alice");
      vi.advanceTimersByTime(DAY_MS - 5000);
      expect(session.value).not.toBeNull();
      vi.advanceTimersByTime(10_000);
      expect(session.value).toBeNull();
      expect(notice.value).toContain("expired");
    },
  );
});
