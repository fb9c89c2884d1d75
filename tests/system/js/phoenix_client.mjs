// The unmodified npm client `phoenix` against a server: one line of JSON per step, for test_phoenix_js.py to judge.
// Configuration comes in the environment: URL, TOKEN, OTHER_TOKEN, VSN (1.0.0 or 2.0.0).
import { Presence, Socket } from "phoenix"
import { answered, plain, told, until } from "./steps.mjs"

const { URL: url, TOKEN: token, OTHER_TOKEN: otherToken, VSN: vsn } = process.env

const open = (params) => {
  const socket = new Socket(url, {
    params, vsn, heartbeatIntervalMs: 300, reconnectAfterMs: () => 50, rejoinAfterMs: () => 50,
    ...(vsn.startsWith("1") ? plain : {}),
  })
  socket.connect()
  return socket
}

const alice = open({ token })
const bob = open({ token: otherToken })
const heard = []
const shouted = []

const aliceRoom = alice.channel("room:js", { key: "alice", meta: { mood: "calm" } })
const alicePresence = new Presence(aliceRoom)
const diffs = []
alicePresence.onJoin((key) => diffs.push(`+${key}`))
alicePresence.onLeave((key) => diffs.push(`-${key}`))
aliceRoom.on("shout", (payload) => shouted.push(payload))
aliceRoom.on("pushed", (payload) => heard.push(payload))
told("join", await answered(aliceRoom.join()))
await until(() => alicePresence.list().length === 1)

const bobRoom = bob.channel("room:js", { key: "bob" })
const bobHeard = []
bobRoom.on("shout", (payload) => bobHeard.push(payload))
bobRoom.on("shout_from", (payload) => bobHeard.push({ from: payload }))
await answered(bobRoom.join())
await until(() => alicePresence.list().length === 2)
told("presence", alicePresence.list((key, { metas }) => [key, metas.length]))
told("meta", alicePresence.list((key, { metas }) => metas[0])[0].mood)

told("deny", await answered(alice.channel("room:other", { deny: true }).join()))
told("unmatched", await answered(alice.channel("nowhere:1").join()))
told("echo", await answered(aliceRoom.push("echo", { a: [1, "ü", null] })))
told("error_reply", await answered(aliceRoom.push("error_reply", { b: 1 })))
told("unknown_event", (await answered(aliceRoom.push("sing", {}))).error.reason)
told("still joined", await answered(aliceRoom.push("echo", { c: 1 })))
aliceRoom.push("shout", { d: 1 })
await until(() => shouted.length === 1 && bobHeard.length === 1)
told("shout", [shouted, bobHeard])
await answered(aliceRoom.push("shout_from", { e: 1 }))
await until(() => bobHeard.length === 2)
told("shout_from", bobHeard[1])
await answered(aliceRoom.push("push_me", { f: 1 }))
await until(() => heard.length === 1)
told("push_me", heard)
await answered(aliceRoom.push("update_meta", { mood: "merry" }))
await until(() => alicePresence.list((key, { metas }) => metas[0].mood).includes("merry"))
told("update_meta", alicePresence.list((key, { metas }) => metas.length))
if (vsn.startsWith("2")) {
  const echoed = await answered(aliceRoom.push("echo", new Uint8Array([0, 1, 255]).buffer))
  told("binary", [...new Uint8Array(echoed.ok)])
}

let crashes = 0
aliceRoom.onError(() => { crashes += 1 })
aliceRoom.push("crash", {})
await until(() => crashes === 1)
await until(() => aliceRoom.state === "joined")
told("rejoined after a crash", await answered(aliceRoom.push("echo", { g: 1 })))

let opened = 0
alice.onOpen(() => { opened += 1 })
await answered(aliceRoom.push("disconnect_me", {}))
await until(() => opened === 1 && aliceRoom.state === "joined")
told("reconnected and rejoined", await answered(aliceRoom.push("echo", { h: 1 })))

await until(() => alicePresence.list().length === 2)
told("leave", await answered(bobRoom.leave()))
await until(() => alicePresence.list().length === 1)
told("left", diffs.includes("-bob"))
let closed = 0
aliceRoom.onClose(() => { closed += 1 })
await answered(aliceRoom.push("stop", {}))
await until(() => closed === 1)
told("stopped", aliceRoom.state)
told("heartbeats", await new Promise((resolve) => alice.ping((rtt) => resolve(rtt >= 0))))
alice.disconnect()
bob.disconnect()
told("done", true)
