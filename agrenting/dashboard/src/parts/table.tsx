/** Tables, which turn into a list of small cards where the screen is narrow. */

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { classes } from "./basics";

export interface Column<Row> {
  key: string;
  title: string;
  /** Numbers go right. */
  align?: "right";
  /** The column that names the row; it is the row's heading. */
  isHead?: boolean;
  cell: (row: Row) => ComponentChildren;
  /** Whether a row has nothing here; where the table is a list of cards, the line is left out. */
  isEmpty?: (row: Row) => boolean;
  /** What to sort by; a column without it cannot be sorted. Null goes last. */
  sortBy?: (row: Row) => number | string | null;
}

interface Order {
  key: string;
  isDescending: boolean;
}

export function Table<Row>(props: {
  /** What the table holds, for screen readers. */
  caption: string;
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  rowKey: (row: Row) => string;
  /** Shown in place of the table where there are no rows. */
  empty?: ComponentChildren;
  sorted?: Order;
}) {
  const [order, setOrder] = useState<Order | null>(props.sorted ?? null);
  if (props.rows.length === 0 && props.empty !== undefined) return <>{props.empty}</>;
  const rows = order === null ? props.rows : sortedRows(props.rows, props.columns, order);
  const turn = (key: string) => setOrder((was) => ({ key, isDescending: was?.key === key ? !was.isDescending : true }));
  return (
    <div class="table-frame">
      <table class="table">
        <caption class="visually-hidden">{props.caption}</caption>
        <thead>
          <tr>
            {props.columns.map((column) => {
              const isOrder = order?.key === column.key;
              const direction = order?.isDescending ? "descending" : "ascending";
              return (
                <th
                  key={column.key}
                  scope="col"
                  class={classes(column.align === "right" && "right")}
                  aria-sort={isOrder ? direction : undefined}
                >
                  {column.sortBy ? (
                    <button type="button" class="sort" onClick={() => turn(column.key)}>
                      {column.title}
                      <span class={classes("sort-mark", isOrder && direction)} aria-hidden="true" />
                    </button>
                  ) : (
                    column.title
                  )}
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={props.rowKey(row)}>
              {props.columns.map((column) => {
                const isEmpty = column.isEmpty?.(row) ?? false;
                const common = {
                  key: column.key,
                  class: classes(column.align === "right" && "right", isEmpty && "is-empty"),
                };
                return column.isHead ? (
                  <th {...common} scope="row">
                    {column.cell(row)}
                  </th>
                ) : (
                  <td {...common} data-label={column.title}>
                    {column.cell(row)}
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function sortedRows<Row>(rows: readonly Row[], columns: readonly Column<Row>[], order: Order): Row[] {
  const by = columns.find((column) => column.key === order.key)?.sortBy;
  if (by === undefined) return [...rows];
  const sign = order.isDescending ? -1 : 1;
  return [...rows].sort((left, right) => {
    const [a, b] = [by(left), by(right)];
    if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
    if (a === b) return 0;
    return (a < b ? -1 : 1) * sign;
  });
}
