// The unmodified npm client `phoenix` streams a task both ways, is cut off on both sides, and resumes: one line of JSON
// per step, for test_phoenix_js_streams.py to judge. What resumes is phoenix's own reconnecting and rejoining: the join's
// parameters are a function, and say from where on. Configuration comes in the environment: URL, TOKEN, OTHER_TOKEN,
// TASK, VSN (1.0.0 or 2.0.0).
import { createHash } from "node:crypto"
import { Socket } from "phoenix"
import { answered, plain, told, until } from "./steps.mjs"

const { URL: url, TOKEN, OTHER_TOKEN, TASK, VSN: vsn } = process.env
const isV2 = vsn.startsWith("2")
const COUNT = 300, IN_FLIGHT = 16

const seqBytes = (seq) => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(seq))
  return bytes
}
const frame = (seq, bytes) => new Uint8Array(Buffer.concat([seqBytes(seq), bytes])).buffer
const payloadOf = (seq, bytes) => {
  if (seq % 3 === 0) return { seq, chunk: bytes.toString("utf8") }
  if (seq % 3 === 1 || !isV2) return { seq, chunk: bytes.toString("base64"), encoding: "base64" }
  return frame(seq, bytes)
}
const chunkOf = (payload) => {
  if (payload instanceof ArrayBuffer) {
    const bytes = Buffer.from(payload)
    return { seq: Number(bytes.readBigUInt64BE(0)), bytes: bytes.subarray(8), form: "binary" }
  }
  return { seq: payload.seq, bytes: Buffer.from(payload.chunk, payload.encoding), form: payload.encoding }
}
const digestOf = (chunks) => chunks.reduce(
  (digest, bytes, seq) => createHash("sha256").update(Buffer.concat([digest, seqBytes(seq), bytes])).digest(),
  Buffer.alloc(32),
).toString("hex")
const closing = (chunks) => {
  const whole = Buffer.concat(chunks)
  return { checksum: createHash("sha256").update(whole).digest("hex"), total_size: whole.length }
}

// One side: sends the chunks of `outgoing` as they come to be, takes those of the other direction, and resumes.
const party = (token, { sends, takes, binary, onChunk = () => {} }) => {
  const socket = new Socket(url, {
    params: { token }, vsn, reconnectAfterMs: () => 20, rejoinAfterMs: () => 20, ...(isV2 ? {} : plain),
  })
  socket.connect()
  const self = { socket, outgoing: [], held: [], forms: {}, faults: [], joins: 0, acked: 0, sent: 0, replays: 0 }
  self.channel = socket.channel(`task:${TASK}`, () => ({ [`${takes}_from`]: self.held.length, binary }))
  self.pump = () => {
    while (self.channel.state === "joined" && self.sent < self.outgoing.length && self.sent - self.acked < IN_FLIGHT) {
      const seq = self.sent
      const join = self.joins
      self.sent += 1
      self.channel.push(`${sends}_stream`, payloadOf(seq, self.outgoing[seq]))
        .receive("ok", ({ next_seq: next }) => {
          if (join !== self.joins) return
          self.acked = next
          self.pump()
        })
        .receive("error", (response) => self.faults.push(response))
    }
  }
  self.channel.on(`${takes}_stream`, (payload) => {
    const { seq, bytes, form } = chunkOf(payload)
    if (seq !== self.held.length) self.faults.push(`${seq} came, and ${self.held.length} was to come`)
    self.held.push(bytes)
    self.forms[`${seq % 3} ${form}`] = true
    if (payload.replay) self.replays += 1
    onChunk(seq, bytes)
  })
  self.joined = new Promise((resolve) => {
    self.channel.join().receive("ok", (state) => {
      self.joins += 1
      self.acked = self.sent = state.streams[sends].next_seq
      self.held.length = Math.min(self.held.length, state.streams[takes].next_seq)
      resolve(state)
      setTimeout(self.pump, 0) // Phoenix has it joined once every hook has run.
    })
  })
  self.cut = () => socket.conn.close()
  return self
}

let cuts = 0
const bob = party(OTHER_TOKEN, {
  sends: "output", takes: "input", binary: true,
  onChunk: (seq, bytes) => {
    bob.outgoing[seq] = Buffer.from(bytes.toString("utf8").toUpperCase())
    bob.pump()
    if (seq === 100) { cuts += 1; bob.cut() }
  },
})
const alice = party(TOKEN, {
  sends: "input", takes: "output", binary: false,
  onChunk: (seq) => { if (seq === 200 && cuts === 1) { cuts += 1; alice.cut() } },
})
for (let seq = 0; seq < COUNT; seq += 1) alice.outgoing.push(Buffer.from(`word ${seq} ü `))
const first = await bob.joined
await alice.joined
told("checkpoint", first.checkpoint)
alice.pump()
await until(() => alice.held.length === COUNT && bob.acked === COUNT && alice.acked === COUNT, 30_000)

told("cuts", cuts)
told("joins", [alice.joins, bob.joins])
told("faults", [...alice.faults, ...bob.faults])
told("whole", [
  Buffer.concat(bob.held).equals(Buffer.concat(alice.outgoing)),
  Buffer.concat(alice.held).equals(Buffer.concat(bob.outgoing)),
])
told("forms", [Object.keys(alice.forms).sort(), Object.keys(bob.forms).sort()])
told("bad", (await answered(bob.channel.push("output_stream", isV2 ? frame(0, Buffer.alloc(0)) : { seq: 0, chunk: "" }))).error.reason)
await answered(bob.channel.push("checkpoint", { seq: COUNT, state: { done: COUNT } }))
const input = (await answered(alice.channel.push("input_complete", closing(alice.outgoing)))).ok
const output = (await answered(bob.channel.push("output_complete", closing(bob.outgoing)))).ok
told("verified", [input.verified, output.verified])
told("digests", [input.digest === digestOf(bob.held), output.digest === digestOf(alice.held)])
const ended = new Promise((resolve) => alice.channel.on("task_completed", ({ task }) => resolve(task.status)))
await answered(bob.channel.push("complete", {}))
told("completed", await ended)
bob.cut()
await until(() => bob.joins === 3, 30_000)
told("checkpoint after", (await answered(bob.channel.push("output_stream", payloadOf(0, bob.outgoing[0])))).ok.duplicate)
alice.socket.disconnect()
bob.socket.disconnect()
told("done", true)
process.exit(0) // The pushes that a cut has lost would be waited for, until they time out.
