// Fastify with @fastify/session and connect-redis: a GET that answers what the session holds. `rolling: false`: an
// answer does not write the session again, the cheapest that it can do.
import Fastify from "fastify"
import cookies from "@fastify/cookie"
import session from "@fastify/session"
import { RedisStore } from "connect-redis"
import { createClient } from "redis"
import { base, cookie, count, each, port, ready, redisUrl, USER_AGENT, write } from "./requests.mjs"

const redis = await createClient({ url: redisUrl }).connect()
const app = Fastify()
app.register(cookies)
app.register(session, {
  secret: "a secret of forty characters for testing",
  store: new RedisStore({ client: redis, prefix: "fastify:" }),
  cookie: { secure: false, maxAge: 86_400_000 },
  saveUninitialized: false,
  rolling: false,
})
app.post("/sign-in", async (request) => {
  request.session.user = { id: request.body.user, role: "member", userAgent: request.headers["user-agent"] }
  return { status: "ok" }
})
app.get("/me", async (request, reply) => {
  if (!request.session.user) return reply.code(401).send({ status: "none" })
  return { user: request.session.user }
})
await app.listen({ port: Number(port), host: "127.0.0.1" })

const made = await each(Number(count), async (number) => {
  const headers = { "Content-Type": "application/json", "User-Agent": USER_AGENT }
  return cookie(await fetch(`${base}/sign-in`, { method: "POST", headers, body: JSON.stringify({ user: `usr_${number}` }) }))
})
write("fastify-session, GET", made.map((Cookie) => ({ path: "/me", headers: { Cookie } })))
ready()
