// What the scripts of the npm client share: a line of JSON a step, the form of V1 messages, replies and waiting.
export const told = (step, value) => console.log(JSON.stringify({ step, value }))

export const plain = {
  encode: (message, callback) => callback(JSON.stringify(message)),
  decode: (raw, callback) => callback(JSON.parse(raw)),
}

export const answered = (push) => new Promise((resolve, reject) => {
  push.receive("ok", (response) => resolve({ ok: response }))
    .receive("error", (response) => resolve({ error: response }))
    .receive("timeout", () => reject(new Error("no reply")))
})

export const until = (check, within_ms = 30_000) => new Promise((resolve, reject) => {
  const started = Date.now()
  const look = () => {
    const found = check()
    if (found) resolve(found)
    else if (Date.now() - started > within_ms) reject(new Error(`waited in vain for ${check}`))
    else setTimeout(look, 5)
  }
  look()
})
