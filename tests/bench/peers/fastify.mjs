// Fastify and one route that answers a small JSON object: what Node and its framework cost before anybody has a session.
import Fastify from "fastify"
import { port, ready, write } from "./requests.mjs"

const app = Fastify()
app.get("/json", async () => ({ status: "ok" }))
await app.listen({ port: Number(port), host: "127.0.0.1" })
write("fastify, JSON", [{ path: "/json" }])
ready()
