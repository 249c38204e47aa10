import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createVerifier, requireSession, withSession } from "../../../app/client/js/src/index.js";
import { Chance, sessionId } from "./chance.mjs";
import { serve, Signer } from "./signer.mjs";

const signer = new Signer();
const NOW = Math.floor(Date.now() / 1000);
let service, verifier;

before(async () => {
  service = await serve((request, response) => {
    if (request.url === "/.well-known/jwks.json") response.end(JSON.stringify({ keys: [signer.jwk] }));
    else response.writeHead(503).end();
  });
  verifier = createVerifier({ url: service.url, tenantId: "tnt_1", apiKey: "sk_test_x", onStale: "allow" });
});

after(async () => {
  await verifier.close();
  service.close();
});

function token(role) {
  const claims = { iss: service.url, aud: "tnt_1", sub: "usr_1", exp: NOW + 600, iat: NOW, jti: "j", tenant_id: "tnt_1" };
  return signer.sign(signer.header, { ...claims, session_id: sessionId(new Chance(1)), ...(role ? { role } : {}) });
}

/** What both forms of the middleware answer to the same request, which must be the same. */
async function asked(rules, { method = "GET", path = "/", headers = {}, by = verifier } = {}) {
  const fetched = await withSession(by, (_, claims) => new Response(String(claims?.sub ?? null)), rules)(
    new Request(`http://app.example${path}`, { method, headers }),
  );
  const request = { method, url: path, headers };
  let served = [200];
  await requireSession(by, rules)(
    request,
    { writeHead: (status, sent) => ({ end: (body) => (served = [status, body, sent["WWW-Authenticate"]]) }) },
    () => served.push(String(request.claims?.sub ?? null)),
  );
  const challenge = fetched.headers.get("www-authenticate") ?? undefined;
  const said = [fetched.status, await fetched.text(), ...(fetched.ok ? [] : [challenge])];
  assert.deepEqual(served, said);
  return [said[0], fetched.ok ? said[1] : JSON.parse(said[1]).code];
}

const bearer = (role) => ({ headers: { authorization: `Bearer ${token(role)}` } });

test("a role is required, in both forms", async () => {
  assert.deepEqual(await asked({ role: "admin" }, bearer("admin")), [200, "usr_1"]);
  for (const role of ["member", "Admin", "admin ", undefined]) {
    assert.deepEqual(await asked({ role: "admin" }, bearer(role)), [403, "insufficient_role"]);
  }
  assert.deepEqual(await asked({ role: "admin" }), [401, "missing_token"]);
});

test("a session may be optional, and paths public", async () => {
  assert.deepEqual(await asked({ required: false }), [200, "null"]);
  assert.deepEqual(await asked({ required: false }, bearer()), [200, "usr_1"]);
  assert.deepEqual(await asked({ required: false }, { headers: { authorization: "Bearer x" } }), [401, "invalid_token"]);
  assert.deepEqual(await asked({ required: false, role: "admin" }, bearer()), [403, "insufficient_role"]);
  assert.deepEqual(await asked({ public: ["/health"] }, { path: "/health?x" }), [200, "null"]);
  for (const path of ["/health/", "/", "/%ff", "/healthy"]) {
    assert.deepEqual(await asked({ public: ["/health"] }, { path }), [401, "missing_token"]);
  }
});

test("rules cannot be changed afterwards", async () => {
  const rules = { role: "admin", public: ["/health"] };
  const protect = withSession(verifier, () => new Response("in"), rules);
  delete rules.role;
  rules.public.push("/");
  assert.equal((await protect(new Request("http://app.example/", bearer("member")))).status, 403);
});

test("what goes wrong in a verifier is answered 503 and never thrown", async () => {
  for (const problem of [new TypeError("null has no members"), undefined, "text", { code: "missing_token" }]) {
    const by = { verify: () => Promise.reject(problem) };
    assert.deepEqual(await asked({}, { ...bearer(), by }), [503, "service_unavailable"]);
  }
});

test("claims have the names of the Python client too, beside what is listed", async () => {
  const claims = await verifier.verify(token());
  assert.deepEqual([claims.user_id, claims.expires_at], [claims.sub, claims.exp]);
  assert.ok(!Object.keys(claims).includes("user_id") && Object.isFrozen(claims));
});

test("ready() waits for a service that is away no longer than startTimeout, and a closed verifier says so", async () => {
  const options = { url: service.url, tenantId: "tnt_1", apiKey: "sk_test_x", startTimeout: 0.1 };
  const away = createVerifier(options);
  await away.ready();
  assert.equal(away.fresh, false);
  await away.close();
  await assert.rejects(away.ready(), /the verifier is closed/);
  await assert.rejects(away.verify(token()), { code: "service_unavailable" });
});

test("a handler that throws, and a response that somebody else has sent, end no process", async () => {
  const request = { method: "OPTIONS", url: "/", headers: { origin: "x", "access-control-request-method": "y" } };
  const said = [];
  const response = { headersSent: false, writeHead: (status) => ({ end: () => said.push(status) }) };
  await requireSession(verifier)(request, response, () => request.claims.sub);
  assert.deepEqual(said, [500]);
  await requireSession(verifier)({ method: "GET", url: "/", headers: {} }, { ...response, headersSent: true }, () => said.push("next"));
  assert.deepEqual(said, [500]);
});

test("a path that only decodes to a public one is not public", async () => {
  const rules = { public: ["/files/public", "/files", "/ä"] };
  for (const path of ["/files", "/files/public", "/files?x=1", "/%C3%A4"]) {
    assert.deepEqual(await asked(rules, { path }), [200, "null"]);
  }
  for (const path of ["/files%2Fpublic", "/%66iles", "/files/", "//files"]) {
    assert.deepEqual(await asked(rules, { path }), [401, "missing_token"]);
  }
});

test("a verifier that gives no claims lets nobody in", async () => {
  for (const nothing of [undefined, null, false, ""]) {
    const by = { verify: async () => nothing };
    assert.deepEqual(await asked({}, { ...bearer(), by }), [503, "service_unavailable"]);
  }
});
