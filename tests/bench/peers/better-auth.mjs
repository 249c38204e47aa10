// Better Auth with sessions in Redis (its secondary storage), on node:http. Its users are in an SQLite in memory, which
// costs less than anybody's database; a password is compared as it is, for the cost of scrypt is no session's.
import { createServer } from "node:http"
import { DatabaseSync } from "node:sqlite"
import { betterAuth } from "better-auth"
import { createAuthEndpoint } from "better-auth/api"
import { setSessionCookie } from "better-auth/cookies"
import { getMigrations } from "better-auth/db/migration"
import { toNodeHandler } from "better-auth/node"
import { Redis } from "ioredis"
import { base, cookie, count, each, port, ready, redisUrl, write } from "./requests.mjs"

const USERS = 2_000
const redis = new Redis(redisUrl, { enableAutoPipelining: true, keyPrefix: "ba:" })
const password = "correct horse battery staple"

/** A session of a user who has proved who he is, and nothing else: the least that a sign-in can do. */
const begin = createAuthEndpoint("/begin", { method: "POST" }, async (ctx) => {
  const user = { id: ctx.body.user }
  const session = await ctx.context.internalAdapter.createSession(user.id)
  await setSessionCookie(ctx, { session, user })
  return ctx.json({ token: session.token })
})

const options = {
  baseURL: base,
  secret: "a secret of forty characters for testing",
  database: new DatabaseSync(":memory:"),
  secondaryStorage: {
    get: (key) => redis.get(key),
    set: (key, value, ttl) => (ttl ? redis.set(key, value, "EX", ttl) : redis.set(key, value)),
    delete: (key) => redis.del(key),
  },
  emailAndPassword: {
    enabled: true,
    password: { hash: async (plain) => plain, verify: async ({ hash, password }) => hash === password },
  },
  plugins: [{ id: "begin", endpoints: { begin } }],
  rateLimit: { enabled: false },
  logger: { disabled: true },
  telemetry: { enabled: false },
}
await (await getMigrations(options)).runMigrations()
const auth = betterAuth(options)
createServer(toNodeHandler(auth)).listen(Number(port), "127.0.0.1", prepare)

async function post(path, body) {
  const headers = { "Content-Type": "application/json", Origin: base }
  return fetch(`${base}/api/auth${path}`, { method: "POST", headers, body: JSON.stringify(body) })
}

async function prepare() {
  const email = (number) => `user${number % USERS}@example.com`
  const users = await each(USERS, async (number) => {
    const answer = await post("/sign-up/email", { email: email(number), password, name: `User ${number}` })
    return (await answer.json()).user.id
  })
  const cookies = await each(Number(count), async (number) => cookie(await post("/sign-in/email", { email: email(number), password })))
  write("Better Auth, get-session", cookies.map((Cookie) => ({ path: "/api/auth/get-session", headers: { Cookie } })))
  const numbers = Array.from({ length: USERS }, (_, number) => number)
  const to = (path, body) => ({
    method: "POST",
    path: `/api/auth${path}`,
    headers: { "Content-Type": "application/json", Origin: base },
    body: JSON.stringify(body),
  })
  write("Better Auth, sign-in", numbers.map((number) => to("/sign-in/email", { email: email(number), password })))
  write("Better Auth, createSession", numbers.map((number) => to("/begin", { user: users[number] })))
  ready()
}
