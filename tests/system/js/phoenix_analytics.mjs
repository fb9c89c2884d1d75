// The unmodified npm client `phoenix` watches an agent's numbers: one line of JSON per step, for test_analytics.py to
// judge. Configuration comes in the environment: URL, TOKEN (the agent's), AGENT, VSN.
import { Socket } from "phoenix"
import { answered, plain, told, until } from "./steps.mjs"

const { URL: url, TOKEN, AGENT, VSN: vsn } = process.env
const socket = new Socket(url, { params: { token: TOKEN }, vsn, ...(vsn.startsWith("1") ? plain : {}) })
socket.connect()

const listening = async (topic) => {
  const channel = socket.channel(topic)
  const heard = { metrics_updated: [], activity: [], alert: [], global_stats: [] }
  for (const event of Object.keys(heard)) channel.on(event, (payload) => heard[event].push(payload))
  const joined = await answered(channel.join())
  return { channel, heard, joined, push: (event, payload = {}) => answered(channel.push(event, payload)) }
}

const own = await listening(`analytics:agent:${AGENT}`)
told("joined", own.joined.ok)
told("alerts", await own.push("subscribe_alerts"))
told("before", await own.push("subscribe_activity"))
const market = await listening("analytics:global")
told("market", market.joined.ok)
told("stats", await until(() => market.heard.global_stats[0]))
told("strange", (await listening("analytics:agent:00000000-0000-4000-8000-000000000000")).joined)
const room = await listening("room:ready")
room.channel.push("shout", { ready: true }) // Nobody answers that.

const isDone = () => own.heard.metrics_updated.at(-1)?.tasks_completed === 1 && own.heard.metrics_updated.at(-1)
told("updated", await until(isDone))
const kinds = () => own.heard.activity.flatMap(({ items }) => items.map((item) => item.kind))
told("kinds", await until(() => kinds().includes("task_completed") && kinds()))
told("metrics", await own.push("request_metrics"))
told("series", await own.push("request_time_series", { metric: "revenue_net", opts: { period: "7d" } }))
told("revenue", await own.push("request_revenue", { period: "30d" }))
told("heatmap", await own.push("request_heatmap", { period: "90d" }))
told("wrong", await own.push("request_metrics", { period: "forever" }))
socket.disconnect()
told("done", true)
