// node oidc-provider with its tokens in Redis: introspection (RFC 7662) of opaque access tokens of users.
import { Provider } from "oidc-provider"
import { Redis } from "ioredis"
import { base, count, each, port, ready, redisUrl, write } from "./requests.mjs"

const redis = new Redis(redisUrl, { enableAutoPipelining: true })

/** What introspection and the making of tokens ask of an adapter; each model a JSON string. */
class RedisAdapter {
  constructor(name) {
    this.prefix = `oidc:${name}:`
  }
  async upsert(id, payload, seconds) {
    await redis.set(this.prefix + id, JSON.stringify(payload), "EX", seconds)
  }
  async find(id) {
    const stored = await redis.get(this.prefix + id)
    return stored ? JSON.parse(stored) : undefined
  }
  async destroy(id) {
    await redis.del(this.prefix + id)
  }
}

const client = { client_id: "backend", client_secret: "a secret of forty characters for testing" }
const provider = new Provider(base, {
  adapter: RedisAdapter,
  clients: [{ ...client, redirect_uris: ["https://backend.example/callback"], grant_types: ["authorization_code"] }],
  cookies: { keys: [client.client_secret] },
  features: { introspection: { enabled: true, allowedPolicy: () => true }, devInteractions: { enabled: false } },
  findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
  ttl: { AccessToken: 3600, Grant: 86_400 },
})
provider.listen(Number(port), "127.0.0.1", prepare)

async function prepare() {
  const found = await provider.Client.find(client.client_id)
  const tokens = await each(Number(count), async (number) => {
    const accountId = `usr_${number}`
    const grant = new provider.Grant({ clientId: client.client_id, accountId })
    grant.addOIDCScope("openid")
    const grantId = await grant.save()
    const token = new provider.AccessToken({ accountId, client: found, grantId, scope: "openid", gty: "authorization_code" })
    return token.save()
  })
  const Authorization = `Basic ${Buffer.from(`${client.client_id}:${encodeURIComponent(client.client_secret)}`).toString("base64")}`
  const headers = { Authorization, "Content-Type": "application/x-www-form-urlencoded" }
  const all = tokens.map((token) => ({
    method: "POST",
    path: "/token/introspection",
    headers,
    body: `token=${token}&token_type_hint=access_token`,
  }))
  const { method, path, body } = all[0]
  const answer = await (await fetch(base + path, { method, headers, body })).json()
  if (!answer.active) throw new Error(JSON.stringify(answer))
  write("oidc-provider, introspection", all)
  ready()
}
