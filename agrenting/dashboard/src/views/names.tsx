// Agents by their handles, as far as these are known.
import { useEffect } from "preact/hooks";
import { shortId } from "../format";
import { askHandle, handleOf } from "../handles";

/** An agent's handle, as far as `agentId` sees it; else the end of its id. */
export function useHandle(id: string | null, agentId: string): string {
  useEffect(() => {
    if (id !== null) void askHandle(id, agentId);
  }, [id, agentId]);
  if (id === null) return "–";
  return handleOf(id) ?? shortId(id);
}

/** An agent by its handle; the whole id is its tooltip. */
export function AgentName({ id, agentId }: { id: string; agentId: string }) {
  const handle = useHandle(id, agentId);
  return (
    <span class="party-name" title={id}>
      {handle}
    </span>
  );
}
