// Programs of the unmodified FDC3 client that a test leads: a line of JSON comes for each step, `{id, who, step, args}`,
// and each is answered with `{id, value}` or `{id, error}`. In between stand all that the programs hear and every frame,
// in their order: `{who, heard: [listener, value]}` and `{who, frame, sent}`. Ends with its input.
import { createInterface } from "node:readline"
import { Party } from "./fdc3_client.mjs"

const parties = new Map()
const tell = (line) => process.stdout.write(`${JSON.stringify(line)}\n`)
const party = (who) => {
  if (!parties.has(who)) {
    parties.set(who, new Party({
      heard: (listener, value) => tell({ who, heard: [listener, value] }),
      saw: (frame, sent) => tell({ who, frame, sent }),
    }))
  }
  return parties.get(who)
}

for await (const line of createInterface({ input: process.stdin })) {
  const { id, who, step, args } = JSON.parse(line)
  // Not awaited: a test may let two take a step at once.
  Promise.resolve()
    .then(() => party(who)[step](...args))
    .then((value) => tell({ id, value: value ?? null }), (error) => tell({ id, error: error.message }))
}
process.exit(0) // Sockets that are still open would keep it.
