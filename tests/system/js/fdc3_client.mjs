// The unmodified npm client `@finos/fdc3-agent-proxy` over a WebSocket: what FDC3 leaves to whoever embeds it. A browser
// gives the client a MessagePort; this gives it a socket, and a program that it can live in.
import { randomUUID } from "node:crypto"
import { registerHooks } from "node:module"
import { connect, createServer } from "node:net"

// The packages import their own files without the extension, as bundlers allow and Node.js does not.
registerHooks({
  resolve: (specifier, context, next) => {
    const isOwn = specifier.startsWith(".") && context.parentURL?.includes("/node_modules/@finos/")
    return next(isOwn && !specifier.endsWith(".js") ? `${specifier}.js` : specifier, context)
  },
})
const {
  AbstractMessaging, DefaultAppSupport, DefaultChannelSupport, DefaultHeartbeatSupport, DefaultIntentSupport,
  DesktopAgentProxy,
} = await import("@finos/fdc3-agent-proxy")
const { DefaultPrivateChannel } = await import("@finos/fdc3-agent-proxy/dist/src/channels/DefaultPrivateChannel.js")
const { LogLevel } = await import("@finos/fdc3-standard")

const TIMEOUT_MS = 30_000
const PAGE = "https://agent.example/"

// A way to the server that can be lost: a socket of the standard can only be closed well. While `isBlocked`, it is lost
// again at once.
export const losable = async (url) => {
  const { hostname, port } = new URL(url)
  const ends = new Set()
  const way = { isBlocked: false, lose: () => ends.forEach((end) => end.resetAndDestroy()), stop: () => relay.close() }
  const relay = createServer((near) => {
    if (way.isBlocked) return near.resetAndDestroy()
    const far = connect(Number(port), hostname)
    for (const end of [near, far]) {
      ends.add(end)
      end.on("error", () => {}).on("close", () => {
        ends.delete(end)
        near.destroy()
        far.destroy()
      })
    }
    near.pipe(far)
    far.pipe(near)
  })
  await new Promise((resolve) => relay.listen(0, "127.0.0.1", resolve))
  const near = new URL(url)
  near.port = relay.address().port
  near.hostname = "127.0.0.1"
  return Object.assign(way, { url: near.href })
}

class SocketMessaging extends AbstractMessaging {
  listeners = new Map()

  constructor(saw) {
    super({ appId: "anonymous" })
    this.saw = saw
  }
  async open(url) {
    this.way = await losable(url)
    this.socket = new WebSocket(this.way.url)
    this.closed = new Promise((resolve) => this.socket.addEventListener("close", ({ code }) => {
      this.way.stop()
      resolve(code)
    }))
    // Several frames may come in one turn of the loop: each has its own, so that what awaits the one before goes on first.
    this.socket.addEventListener("message", ({ data }) => setImmediate(() => this.take(JSON.parse(data))))
    await new Promise((resolve, reject) => {
      this.socket.addEventListener("open", resolve)
      this.socket.addEventListener("error", () => reject(new Error("the server takes no socket")))
    })
  }
  take(message) {
    this.saw(message, false)
    for (const listener of [...this.listeners.values()]) {
      if (listener.filter(message)) listener.action(message)
    }
  }
  createUUID() { return randomUUID() }
  createMeta() {
    return { requestUuid: this.createUUID(), timestamp: new Date(), source: this.getAppIdentifier() }
  }
  async post(message) {
    const text = JSON.stringify(message)
    this.saw(JSON.parse(text), true)
    this.socket.send(text)
  }
  register(listener) { this.listeners.set(listener.id, listener) }
  unregister(id) { this.listeners.delete(id) }
  async disconnect() {
    await this.post({ type: "WCP6Goodbye", meta: { timestamp: new Date() } })
    return this.closed
  }
}

const noSelector = { connect: async () => {}, disconnect: async () => {}, updateChannel() {}, setChannelChangeCallback() {} }
const noResolver = { connect: async () => {}, disconnect: async () => {}, chooseIntent: async () => null }

// One program that speaks FDC3. What reaches its handlers goes to `heard`, every frame to `saw`.
export class Party {
  channels = new Map()
  subscriptions = new Map()
  identity = {}

  constructor({ heard, saw }) {
    this.heard = heard
    this.messaging = new SocketMessaging(saw)
    const heartbeat = new DefaultHeartbeatSupport(this.messaging)
    this.agent = new DesktopAgentProxy(
      heartbeat,
      new DefaultChannelSupport(this.messaging, noSelector, TIMEOUT_MS),
      new DefaultIntentSupport(this.messaging, noResolver, TIMEOUT_MS, TIMEOUT_MS),
      new DefaultAppSupport(this.messaging, TIMEOUT_MS, TIMEOUT_MS),
      [heartbeat],
      LogLevel.ERROR,
    )
  }

  // The connection.
  async open(url) {
    await this.messaging.open(url)
    if (!this.isConnected) await this.agent.connect() // What it registers outlives the socket.
    this.isConnected = true
  }
  // FDC3's last handshake step, with which an instance comes back as itself.
  async attach(identity = this.identity) {
    const connectionAttemptUuid = randomUUID()
    const answer = this.messaging.waitFor(
      ({ type, meta }) => /^WCP5/.test(type) && meta.connectionAttemptUuid === connectionAttemptUuid, TIMEOUT_MS, "ApiTimeout")
    await this.messaging.post({
      type: "WCP4ValidateAppIdentity",
      payload: { identityUrl: PAGE, actualUrl: PAGE, ...identity },
      meta: { connectionAttemptUuid, timestamp: new Date() },
    })
    const { type, payload } = await answer
    if (type !== "WCP5ValidateAppIdentityResponse") throw new Error(payload.message ?? "refused")
    this.identity = { instanceId: payload.instanceId, instanceUuid: payload.instanceUuid }
    this.messaging.appIdentifier = { appId: payload.appId, instanceId: payload.instanceId }
    return payload
  }
  async lose() {
    this.messaging.way.lose()
    await this.messaging.closed
  }
  ended() { return this.messaging.closed }
  async goodbye() {
    await this.agent.disconnect()
    return this.messaging.closed
  }
  // A request that the client has no method for, sent as the client sends its own.
  async ask(type, payload, answer = type.replace(/(Request)?$/, "Response")) {
    return (await this.messaging.exchange({ type, payload, meta: this.messaging.createMeta() }, answer, TIMEOUT_MS)).payload
  }
  info() { return this.agent.getInfo() }
  // Anything else that the client can do.
  async call(method, ...args) { await this.agent[method](...args.map((arg) => arg === "HANDLER" ? () => {} : arg)) }

  // Channels.
  seat(id) { this.channels.set(id, new DefaultPrivateChannel(this.messaging, TIMEOUT_MS, id)) }
  async create() {
    const channel = await this.agent.createPrivateChannel()
    this.channels.set(channel.id, channel)
    return { id: channel.id, type: channel.type }
  }
  async join(channelId, invitationToken) {
    const payload = await this.ask("joinPrivateChannel", { channelId, invitationToken })
    this.seat(channelId)
    return payload
  }
  getOrCreate(id) { return this.agent.getOrCreateChannel(id) }
  broadcast(id, context) { return this.channels.get(id).broadcast(context) }
  current(id, type) { return this.channels.get(id).getCurrentContext(type) }
  disconnect(id) { return this.channels.get(id).disconnect() }

  // Listeners.
  async listen(id, type) {
    return this.keep(await this.channels.get(id).addContextListener(type, (context) => this.heard(type ?? "*", context)))
  }
  async watch(id, kind) {
    return this.keep(await this.channels.get(id).addEventListener(kind, (event) => this.heard(kind ?? "*", event)))
  }
  // The deprecated way returns before the server has answered: the answer is awaited by its frame.
  async watchAsBefore(id, method) {
    const answered = this.messaging.waitFor(({ type }) => type === "privateChannelAddEventListenerResponse", TIMEOUT_MS, "ApiTimeout")
    const listener = this.channels.get(id)[method]((contextType) => this.heard(method, contextType ?? null))
    await answered
    await new Promise(setImmediate)
    return this.keep(listener)
  }
  keep(listener) {
    this.subscriptions.set(listener.id, listener)
    return listener.id
  }
  unsubscribe(listenerId) { return this.subscriptions.get(listenerId).unsubscribe() }
}
