// Express with express-session and connect-redis as their READMEs set them up: a GET that answers what the session holds.
import express from "express"
import session from "express-session"
import { RedisStore } from "connect-redis"
import { createClient } from "redis"
import { base, cookie, count, each, port, ready, redisUrl, USER_AGENT, write } from "./requests.mjs"

const redis = await createClient({ url: redisUrl }).connect()
const app = express()
app.use(
  session({
    secret: "a secret of forty characters for testing",
    store: new RedisStore({ client: redis, prefix: "express:" }),
    cookie: { maxAge: 86_400_000 },
    saveUninitialized: false,
    resave: false,
  }),
)
app.post("/sign-in", express.json(), (request, response) => {
  request.session.user = { id: request.body.user, role: "member", userAgent: request.headers["user-agent"] }
  response.json({ status: "ok" })
})
app.get("/me", (request, response) => {
  if (!request.session.user) return response.status(401).json({ status: "none" })
  response.json({ user: request.session.user })
})
app.listen(Number(port), "127.0.0.1", async () => {
  const made = await each(Number(count), async (number) => {
    const headers = { "Content-Type": "application/json", "User-Agent": USER_AGENT }
    return cookie(await fetch(`${base}/sign-in`, { method: "POST", headers, body: JSON.stringify({ user: `usr_${number}` }) }))
  })
  write("express-session, GET", made.map((Cookie) => ({ path: "/me", headers: { Cookie } })))
  ready()
})
