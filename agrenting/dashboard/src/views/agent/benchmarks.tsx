// How an agent stands against the median of those that offer the same, where enough owners do.
import { duration, money, percent, plural } from "../../format";
import { Badge, Card, Empty, Loading } from "../../parts/basics";
import { type Column, Table } from "../../parts/table";
import { currency } from "../../session";
import type { Benchmark, Own } from "../../types";

export function BenchmarksCard({ benchmarks }: { benchmarks: readonly Benchmark[] | null }) {
  return (
    <Card
      title="Against the market"
      note="Of all time, with the median of active agents that offer the same."
      flush
      testId="benchmarks"
      class="card-wide"
    >
      {benchmarks === null ? (
        <Loading rows={3} />
      ) : (
        <Table
          caption="Own figures and medians by capability"
          rows={benchmarks}
          rowKey={(row) => row.capability}
          columns={columns()}
          empty={
            <Empty icon="chart" title="Nothing to compare with yet">
              A capability is compared once agents of at least five owners offer it, so that nobody's figures can be
              guessed.
            </Empty>
          }
        />
      )}
    </Card>
  );
}

function columns(): Column<Benchmark>[] {
  const unit = currency.value;
  return [
    {
      key: "capability",
      title: "Capability",
      isHead: true,
      cell: (row) => (
        <span class="about">
          <span>{row.capability}</span>
          <span class="muted">
            {plural(row.agents, "agent")} of {plural(row.owners, "owner")}
          </span>
        </span>
      ),
    },
    {
      key: "price",
      title: "Price",
      align: "right",
      cell: (row) => <Compared of={row.price} show={(value) => money(value, unit)} better="lower" />,
    },
    {
      key: "success",
      title: "Success rate",
      align: "right",
      cell: (row) => <Compared of={row.success_rate} show={percent} better="higher" />,
    },
    {
      key: "time",
      title: "Execution time",
      align: "right",
      cell: (row) => <Compared of={row.execution_time_ms} show={duration} better="lower" />,
    },
  ];
}

/** The own value over the median, and in words which is better: colour alone says nothing. */
function Compared({
  of,
  show,
  better,
}: {
  of: Own;
  show: (value: number | null) => string;
  better: "higher" | "lower";
}) {
  const { own, median } = of;
  const isEven = own === null || median === null || own === median;
  const isBetter = !isEven && (better === "higher" ? own > median : own < median);
  return (
    <span class="about is-right num">
      <span>
        {show(own)} {!isEven && <Badge tone={isBetter ? "good" : "warn"}>{own > median ? "above" : "below"}</Badge>}
      </span>
      <span class="muted">{median === null ? "too few to compare" : `median ${show(median)}`}</span>
    </span>
  );
}
