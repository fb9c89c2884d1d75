// What an agent has, and when its owner is warned that it is little.
import { useState } from "preact/hooks";
import { decimal, money, shortMoney } from "../../format";
import { Button, Card, Loaded, Skeleton, Stat, Stats } from "../../parts/basics";
import { Field, toast } from "../../parts/controls";
import { type Asked, refusalOf, send, useGet } from "../../rest";
import { actingAs, currency } from "../../session";
import type { Balance } from "../../types";

/** The agent's balance, read again with each rise of `version`. */
export function BalanceTiles({ asked }: { asked: Asked<Balance> }) {
  const titles = {
    available: "Available",
    escrow: "Held for tasks",
    channels: "In channels",
    total: "Together",
  } as const;
  const hints = { available: "to spend now", escrow: "as a client", channels: "own side", total: "" } as const;
  return (
    <div class="balance-tiles">
      <Loaded
        asked={asked}
        skeleton={
          <Stats label="Balance">
            {Object.values(titles).map((label) => (
              <Stat key={label} label={label} value={<Skeleton width="6ch" />} />
            ))}
          </Stats>
        }
      >
        {(balance) => (
          <Stats label="Balance">
            {(["available", "escrow", "channels", "total"] as const).map((name) => (
              <Stat
                key={name}
                label={titles[name]}
                value={shortMoney(balance[name], balance)}
                title={money(balance[name], balance)}
                hint={hints[name] || balance.currency}
                testId={`balance-${name}`}
              />
            ))}
          </Stats>
        )}
      </Loaded>
    </div>
  );
}

interface Thresholds {
  balance_below: number | null;
}

/** Warn when the available money falls below an amount. */
export function ThresholdCard({ agentId }: { agentId: string }) {
  const path = `/agents/${agentId}/alert-thresholds`;
  const asked = useGet<Thresholds>(path);
  return (
    <Card title="Low balance" note="An alert comes when less than this is available." testId="alert-threshold">
      <Loaded asked={asked}>
        {(told) => <ThresholdForm key={told.balance_below} path={path} told={told} onSaved={asked.reload} />}
      </Loaded>
    </Card>
  );
}

function ThresholdForm({ path, told, onSaved }: { path: string; told: Thresholds; onSaved: () => void }) {
  const { exponent, currency: unit } = currency.value;
  const before = told.balance_below === null ? "" : shortest(decimal(told.balance_below, exponent));
  const [text, setText] = useState(before);
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const below = minorOf(text.trim(), exponent);
  const isWrong = text.trim() !== "" && below === null;
  const save = async () => {
    if (isWrong) return;
    setBusy(true);
    setProblem(null);
    try {
      await send<Thresholds>("PUT", path, { balance_below: below });
      toast(
        below === null
          ? "No alert for a low balance any more."
          : `You are warned below ${money(below, currency.value)}.`,
        "good",
      );
      onSaved();
    } catch (error) {
      setProblem(refusalOf(error).message);
    } finally {
      setBusy(false);
    }
  };
  return (
    <form
      class="threshold"
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
    >
      <Field
        label={`Alert below, in ${unit}`}
        value={text}
        onInput={setText}
        inputMode="decimal"
        placeholder="never"
        error={isWrong ? `An amount of ${unit}${exponent > 0 ? ` with at most ${exponent} decimals` : ""}.` : problem}
        hint="Empty: never."
      />
      <Button type="submit" isBusy={isBusy} disabled={isWrong || text.trim() === before}>
        Save
      </Button>
    </form>
  );
}

/** Minor units of an amount as people write it; null where it is none. Nothing is rounded. */
function minorOf(text: string, exponent: number): number | null {
  const found = /^(\d+)(?:\.(\d+))?$/.exec(text);
  if (found === null || (found[2]?.length ?? 0) > exponent) return null;
  const minor = Number(`${found[1]}${(found[2] ?? "").padEnd(exponent, "0")}`);
  return Number.isSafeInteger(minor) ? minor : null;
}

function shortest(text: string): string {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

/** The agent's balance as it is asked for. */
export function useBalance(agentId: string): Asked<Balance> {
  return useGet<Balance>("/ledger/balance", { agentId: actingAs(agentId) });
}
