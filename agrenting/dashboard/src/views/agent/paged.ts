// A list that is read page by page, newest first, and kept up to date at its head.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { type Asking, list, type Refusal, refusalOf } from "../../rest";

export interface Paged<Item> {
  /** Null until the first page is there. */
  items: readonly Item[] | null;
  refusal: Refusal | null;
  hasMore: boolean;
  isReading: boolean;
  readMore: () => void;
  reload: () => void;
}

/**
 * Read a list's first page, more of it when asked, and its head again with each rise of `version`.
 *
 * Items that are there already are replaced in their place, so nothing moves under the reader's hand but what is new.
 */
export function usePaged<Item extends { id: string }>(
  path: string,
  query: NonNullable<Asking["query"]>,
  agentId: string | null,
  version: number,
): Paged<Item> {
  const key = JSON.stringify([path, query, agentId]);
  const [state, setState] = useState<{ key: string; items: readonly Item[] | null; cursor: string | null }>({
    key,
    items: null,
    cursor: null,
  });
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const [isReading, setReading] = useState(true);
  const latest = useRef({ key, query, agentId });
  latest.current = { key, query, agentId };
  const ask = useCallback(
    async (cursor: string | null) => {
      const asked = latest.current;
      setReading(true);
      try {
        const page = await list<Item>(path, { agentId: asked.agentId, query: { limit: 20, ...asked.query, cursor } });
        if (latest.current.key !== asked.key) return;
        setRefusal(null);
        setState((was) => {
          const before = was.key === asked.key ? (was.items ?? []) : [];
          const isHead = cursor === null && before.length > 0;
          return {
            key: asked.key,
            items: isHead ? withHead(before, page.items) : [...before, ...page.items],
            cursor: isHead ? was.cursor : page.nextCursor,
          };
        });
      } catch (error) {
        if (latest.current.key === asked.key) setRefusal(refusalOf(error));
      } finally {
        if (latest.current.key === asked.key) setReading(false);
      }
    },
    [path],
  );
  // biome-ignore lint/correctness/useExhaustiveDependencies: another question or version is what asks again.
  useEffect(() => {
    void ask(null);
  }, [key, version, ask]);
  const isCurrent = state.key === key;
  return {
    items: isCurrent ? state.items : null,
    refusal,
    hasMore: isCurrent && state.cursor !== null,
    isReading,
    readMore: () => void ask(state.cursor),
    reload: () => void ask(null),
  };
}

function withHead<Item extends { id: string }>(before: readonly Item[], head: readonly Item[]): Item[] {
  const fresh = new Map(head.map((item) => [item.id, item]));
  const known = new Set(before.map((item) => item.id));
  return [...head.filter((item) => !known.has(item.id)), ...before.map((item) => fresh.get(item.id) ?? item)];
}
