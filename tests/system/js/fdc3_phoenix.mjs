// The unmodified npm clients of both transports in one private channel: Alice with `@finos/fdc3-agent-proxy`, Bob with
// `phoenix`. One line of JSON per step, for test_fdc3_phoenix.py to judge, and every frame of Alice's. Configuration comes
// in the environment: URL, TOKEN, OTHER_TOKEN, VSN (1.0.0 or 2.0.0), and IS_HASTY where a lost connection is not waited for.
import { Presence, Socket } from "phoenix"
import { Party, losable } from "./fdc3_client.mjs"
import { answered, plain, told, until } from "./steps.mjs"

const { URL: url, TOKEN, OTHER_TOKEN, VSN: vsn, IS_HASTY } = process.env
const LIFE = ["privateChannelOnAddContextListenerEvent", "privateChannelOnUnsubscribeEvent", "privateChannelOnDisconnectEvent"]
const frames = []
const heard = []
const next = (list, count) => until(() => list.length >= count && list.splice(0, count))

const alice = new Party({
  saw: (body, is_sent) => frames.push([body, is_sent]),
  heard: (_, value) => heard.push(value),
})
await alice.open(`${url.replace("/socket", "/socket/dacp")}?token=${TOKEN}`)
const { id } = await alice.create()
await alice.watch(id, null)
const invite = async () => (await alice.ask("createPrivateChannelInvitation", { channelId: id })).invitationToken
const token = await invite()

const way = await losable(url)
const socket = new Socket(way.url, {
  params: { token: OTHER_TOKEN, instance_id: `bob-${vsn}` }, vsn, reconnectAfterMs: () => 20, rejoinAfterMs: () => 20,
  ...(vsn.startsWith("1") ? plain : {}),
})
const opens = []
let phxErrors = 0
socket.onOpen(() => opens.push(true))
socket.onMessage(({ topic, event }) => { if (topic === id && event === "phx_error") phxErrors += 1 })
socket.connect()

// Bob joins, with the parameters that phoenix repeats after every reconnection.
const room = socket.channel(id, { invitation_token: token })
const presence = new Presence(room)
const pushed = []
for (const event of ["broadcastEvent", ...LIFE]) room.on(event, (payload) => pushed.push([event, payload]))
const joins = []
const joined = room.join()
joined.receive("ok", () => joins.push("ok")).receive("error", ({ reason }) => {
  joins.push(reason)
  room.leave() // As the documentation says: phoenix would try for ever.
})
const { ok: state } = await answered(joined)
told("joined", { channel: state.channel, roles: state.members.map(({ role }) => role) })
await until(() => presence.list().length === 2)
told("presence", presence.list((_, { metas }) => metas[0].role).sort())
told("alice hears of it", await next(heard, 1))

// Contexts and listeners, both ways.
await alice.broadcast(id, { type: "a", n: 1 })
told("bob is pushed", (await next(pushed, 1)).map(([event, { context }]) => [event, context]))
const push = (event, payload) => answered(room.push(event, payload))
await alice.listen(id, "b")
told("bob is told of a listener", (await next(pushed, 1)).map(([event, { contextType }]) => [event, contextType]))
told("bob broadcasts", await push("broadcastRequest", { context: { type: "b", n: 2 } }))
told("alice hears", await next(heard, 1))
told("current", [(await push("getCurrentContextRequest", { contextType: "a" })).ok, await alice.current(id, null)])
told("malformed", (await push("broadcastRequest", { context: {} })).error.reason)
told("no owner", (await push("createPrivateChannelInvitation", {})).error.reason)

// Bob loses his connection.
const cut = async () => {
  way.isBlocked = true
  const before = opens.length
  way.lose()
  await until(() => room.state === "errored")
  return { back: async () => { way.isBlocked = false; await until(() => opens.length > before) } }
}
if (IS_HASTY) {
  const { back } = await cut()
  told("alice hears that he is gone", await next(heard, 2))
  await back()
  await until(() => joins.length === 2)
  told("joins", joins)
  await until(() => room.state === "closed")
  const another = socket.channel(id, { invitation_token: await invite() })
  told("invited again", Object.keys(await answered(another.join())))
  told("joins in the end", joins)
} else {
  for (let turn = 0; turn < 3; turn += 1) {
    const { back } = await cut()
    await alice.broadcast(id, { type: "missed" })
    await back()
    await until(() => joins.length === turn + 2 && room.state === "joined")
    told(`current after ${turn}`, (await push("getCurrentContextRequest", { contextType: null })).ok.context.type)
  }
  await alice.broadcast(id, { type: "again" })
  told("pushed again", (await next(pushed, 1)).map(([event, { context }]) => [event, context.type]))
  await alice.info()
  told("joins", joins)
  told("alice heard meanwhile", heard.splice(0))
  told("bob leaves", await answered(room.leave()))
  told("alice hears it", await next(heard, 2))
  told("out", (await answered(socket.channel(id, { invitation_token: token }).join().receive("error", () => socket.channels.forEach((one) => one.leave())))).error.reason)
}
told("phx_errors", phxErrors)
await alice.goodbye()
told("frames", frames)
process.exit(0) // phoenix keeps its timers.
