import { describe, expect, it } from "vitest";
import { activeOf, afterAlert, afterAnswer, allKnown, countText, KEPT_MAX, NO_ALERTS } from "../src/known_alerts";
import type { Alert, AlertStatus } from "../src/types";

const at = (second: number) => new Date(Date.UTC(2026, 0, 1) + second * 1000).toISOString();
const alert = (number: number, status: AlertStatus = "active", changed = number) =>
  ({ id: `alert-${number}`, status, inserted_at: at(number), updated_at: at(changed) }) as Alert;
const byId = (...alerts: Alert[]) => new Map(alerts.map((each) => [each.id, each]));
const ids = (known: { alerts: readonly Alert[] }) => known.alerts.map(({ id }) => id);

describe("what a page knows of the open alerts", () => {
  it("is what the answer says: what was resolved while the connection was lost is gone", () => {
    // Arrange
    const before = afterAnswer([alert(3), alert(2), alert(1)], false, new Map());
    expect(activeOf(before.alerts)).toBe(3);

    // Act
    const after = afterAnswer([alert(4), alert(2)], false, new Map());

    // Assert
    expect(ids(after)).toEqual(["alert-4", "alert-2"]);
  });

  it("keeps what was pushed while the answer was under way, whichever is newer", () => {
    // Arrange: 5 came and 1 was resolved after the answer was written, 2 was acknowledged before it.
    const told = [alert(2, "acknowledged", 30), alert(1, "active", 1)];
    const heard = byId(alert(5), alert(1, "resolved", 40), alert(2, "active", 2));

    // Act
    const known = afterAnswer(told, false, heard);

    // Assert
    expect(known.alerts.map(({ id, status }) => [id, status])).toEqual([
      ["alert-5", "active"],
      ["alert-2", "acknowledged"],
    ]);
  });

  it("lets the oldest go where there are too many, and says that there are more", () => {
    // Arrange
    let known = afterAnswer([alert(3), alert(2), alert(1)], false, new Map());

    // Act
    for (let number = 4; number <= KEPT_MAX; number += 1) known = afterAlert(known, alert(number));
    const full = known;
    known = afterAlert(known, alert(KEPT_MAX + 1));

    // Assert
    expect([full.alerts.length, full.hasMore]).toEqual([KEPT_MAX, false]);
    expect([known.alerts.length, known.hasMore]).toEqual([KEPT_MAX, true]);
    expect(ids(known)).toContain(`alert-${KEPT_MAX + 1}`);
    expect(ids(known)).not.toContain("alert-1");
  });

  it("gives no place to what is resolved", () => {
    const known = afterAlert(afterAnswer([alert(2), alert(1)], false, new Map()), alert(2, "resolved", 9));
    expect(ids(known)).toEqual(["alert-1"]);
    expect(afterAlert(NO_ALERTS, alert(1, "resolved"))).toEqual(NO_ALERTS);
  });

  it("is one list of all scopes, each alert once, and there are more if any scope has more", () => {
    const own = afterAnswer([alert(3), alert(1)], false, new Map());
    const market = afterAnswer([alert(3), alert(2)], true, new Map());
    expect(ids(allKnown([own, market]))).toEqual(["alert-3", "alert-2", "alert-1"]);
    expect(allKnown([own, market]).hasMore).toBe(true);
    expect(allKnown([own]).hasMore).toBe(false);
  });

  it("is counted exactly only where all are known", () => {
    expect(countText(7, false)).toBe("7");
    expect(countText(100, false)).toBe("100");
    expect(countText(100, true)).toBe("100+");
    expect(countText(150, false)).toBe("100+");
  });
});
