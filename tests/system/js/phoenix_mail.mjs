// The unmodified npm client `phoenix` reads a mailbox: one line of JSON per step, for test_mail_clients.py to judge.
// Configuration comes in the environment: URL, TOKEN (the receiver's), OTHER_TOKEN (the sender's), RECEIVER, SENDER, VSN.
import { Socket } from "phoenix"
import { answered, plain, told, until } from "./steps.mjs"

const { URL: url, TOKEN, OTHER_TOKEN, RECEIVER, SENDER, VSN: vsn } = process.env

const mailbox = async (token, agentId) => {
  const socket = new Socket(url, { params: { token }, vsn, ...(vsn.startsWith("1") ? plain : {}) })
  socket.connect()
  const channel = socket.channel(`messages:${agentId}`)
  const heard = { new_message: [], message_updated: [] }
  for (const event of Object.keys(heard)) channel.on(event, (payload) => heard[event].push(payload))
  const joined = await answered(channel.join())
  return { socket, channel, heard, joined: joined.ok, push: (event, payload) => answered(channel.push(event, payload)) }
}

const sender = await mailbox(OTHER_TOKEN, SENDER)
const receiver = await mailbox(TOKEN, RECEIVER)
told("joined", receiver.joined)
const count = receiver.joined.undelivered
const messages = await until(() => receiver.heard.new_message.length === count && receiver.heard.new_message)
told("messages", messages)
const [first, second] = messages.map((message) => message.id)
told("acknowledged", await receiver.push("acknowledge", { message_id: first }))
told("again", await receiver.push("acknowledge", { message_id: first }))
told("rejected", await receiver.push("reject", { message_id: second, reason: "We do not do that." }))
told("too late", await receiver.push("acknowledge", { message_id: second }))
told("wrong", await receiver.push("acknowledge", {}))
const updated = await until(() => sender.heard.message_updated.length === count + 2 && sender.heard.message_updated)
told("updated", updated.map((one) => [one.id, one.status, one.reason]))
receiver.socket.disconnect()
sender.socket.disconnect()
told("done", true)
