// The unmodified npm client `phoenix` pays over a payment channel: one line of JSON per step, for
// test_phoenix_js_payments.py to judge. Signatures are made by Node.js itself, from what the join reply tells.
// Configuration comes in the environment: URL, TOKEN, OTHER_TOKEN, SEED, OTHER_SEED (hex), CHANNEL, VSN.
import { createPrivateKey, sign } from "node:crypto"
import { Socket } from "phoenix"
import { answered, plain, told, until } from "./steps.mjs"

const { URL: url, TOKEN, OTHER_TOKEN, SEED, OTHER_SEED, CHANNEL, VSN: vsn } = process.env

// RFC 8410: an Ed25519 private key in DER is this prefix and the seed.
const keyOf = (seed) => createPrivateKey({
  key: Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), Buffer.from(seed, "hex")]),
  format: "der",
  type: "pkcs8",
})
const signed = (seed, domain, kind, ...fields) =>
  sign(null, Buffer.from(["agrenting-sig-v1", domain, kind, ...fields].join("\n")), keyOf(seed)).toString("base64")

const party = async (token, seed) => {
  const socket = new Socket(url, { params: { token }, vsn, ...(vsn.startsWith("1") ? plain : {}) })
  socket.connect()
  const channel = socket.channel(`payment:${CHANNEL}`)
  const heard = []
  for (const event of ["propose_transfer", "transfer_complete", "reject_transfer", "close_request", "channel_closed"]) {
    channel.on(event, (payload) => heard.push([event, payload]))
  }
  const expect = (event) => until(() => {
    const found = heard.findIndex(([name]) => name === event)
    return found >= 0 && heard.splice(found, 1)[0][1]
  })
  const { ok: state } = await answered(channel.join())
  const push = (event, payload) => answered(channel.push(event, payload))
  return { socket, channel, expect, push, seed, state }
}

const alice = await party(TOKEN, SEED)
const bob = await party(OTHER_TOKEN, OTHER_SEED)
told("same state", JSON.stringify(alice.state) === JSON.stringify(bob.state))
let state = alice.state

const transfer = ({ nonce, from_agent_id: payer, amount, balance_a: a, balance_b: b, task_id: task }, seed) =>
  signed(seed, state.signing_domain, "payment.transfer", state.channel_id, nonce, payer, amount, a, b, task ?? "-")
const pay = async (payer, payee, payerId, amount) => {
  const move = payerId === state.agent_a_id ? -amount : amount
  const terms = {
    nonce: state.next_nonce, from_agent_id: payerId, amount,
    balance_a: state.balance_a + move, balance_b: state.balance_b - move,
  }
  const proposed = await payer.push("propose_transfer", { amount, nonce: terms.nonce, signature: transfer(terms, payer.seed) })
  const relayed = await payee.expect("propose_transfer")
  const done = await payee.push("acknowledge_transfer", {
    amount: relayed.amount, nonce: relayed.nonce, signature: transfer(relayed, payee.seed),
  })
  const complete = [await payer.expect("transfer_complete"), await payee.expect("transfer_complete")]
  state = done.ok
  return { proposed: "ok" in proposed, complete: complete.map((one) => [one.nonce, one.balance_a, one.balance_b]) }
}

told("alice pays", await pay(alice, bob, state.agent_a_id, 700))
told("bob pays", await pay(bob, alice, state.agent_b_id, 200))
told("refused", (await alice.push("propose_transfer", { amount: 1, nonce: 9, signature: "-" })).error)

const close = (party) => signed(
  party.seed, state.signing_domain, "payment.close", state.channel_id, state.last_nonce, state.balance_a, state.balance_b)
const finals = { final_balance_a: state.balance_a, final_balance_b: state.balance_b }
await alice.push("close_request", { ...finals, signature: close(alice) })
const request = await bob.expect("close_request")
const closed = await bob.push("close", { ...finals, signature_a: request.signature, signature_b: close(bob) })
told("close", closed.ok.status)
told("closed", [await alice.expect("channel_closed"), await bob.expect("channel_closed")]
  .map((one) => [one.cause, one.final_balance_a, one.final_balance_b]))
alice.socket.disconnect()
bob.socket.disconnect()
told("done", true)
