import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { after, before, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { createVerifier } from "../../../app/client/js/src/index.js";
import { Chance, sessionId } from "./chance.mjs";
import { serve, Signer } from "./signer.mjs";

const signer = new Signer();
const other = new Signer();
const TENANT = "tnt_1";
const ISSUER = "https://sessions.example";
const NOW = Math.floor(Date.now() / 1000);
const CLAIMS = {
  iss: ISSUER,
  aud: TENANT,
  sub: "usr_1",
  exp: NOW + 600,
  iat: NOW,
  jti: "j",
  session_id: sessionId(new Chance(1)),
  tenant_id: TENANT,
  plan: { name: "pro" },
};

let keys, verifier;

before(async () => {
  keys = await serve((request, response) => {
    if (request.url === "/.well-known/jwks.json") response.end(JSON.stringify({ keys: [signer.jwk] }));
    else response.writeHead(503).end();
  });
  verifier = createVerifier({ url: keys.url, issuer: ISSUER, tenantId: TENANT, apiKey: "sk_test_x", onStale: "allow" });
});

after(async () => {
  await verifier.close();
  keys.close();
});

const token = (header = {}, claims = {}) => signer.sign({ ...signer.header, ...header }, { ...CLAIMS, ...claims });
const codeOf = (text) =>
  verifier.verify(text).then(
    () => "good",
    (problem) => problem.code,
  );
const refused = async (text, code = "invalid_token") =>
  assert.equal(await codeOf(text), code, String(text).slice(0, 200));

test("a good token is read, twice alike, and what is handed out cannot be changed", async () => {
  const text = token();
  const claims = await verifier.verify(text);
  assert.deepEqual(claims, CLAIMS);
  assert.equal(await verifier.verify(text), claims);
  assert.throws(() => (claims.plan.name = "free"), TypeError);
});

test("expiry has no leeway", async () => {
  await refused(token({}, { exp: NOW }), "token_expired");
  await refused(token({}, { exp: NOW - 3_600 }), "token_expired");
});

test("a remembered token expires too", async () => {
  const text = token({}, { exp: Math.floor(Date.now() / 1000) + 1 });
  assert.equal(await codeOf(text), "good");
  await wait(1_010);
  await refused(text, "token_expired");
});

test("no token is a code of its own", async () => {
  for (const nothing of [undefined, null, ""]) await refused(nothing, "missing_token");
  for (const odd of [7, {}, [token()], true]) await refused(odd);
});

test("each claim must be there and of its type", async () => {
  for (const claim of ["iss", "aud", "sub", "exp", "iat", "jti", "session_id", "tenant_id"]) {
    for (const value of [undefined, null, [], {}, true, 1.5, ""]) await refused(token({}, { [claim]: value }));
  }
});

test("a token for someone or sometime else is refused", async () => {
  const changes = [
    { iss: ISSUER + "/" },
    { aud: [TENANT] },
    { aud: "tnt_2" },
    { tenant_id: "tnt_2" },
    { aud: "tnt_2", tenant_id: "tnt_2" },
    { iat: NOW + 90 },
    { nbf: NOW + 90 },
    { exp: String(NOW + 60) },
    { session_id: "ses_1" },
  ];
  for (const change of changes) await refused(token({}, change));
});

test("a clock here may be a minute behind the service's", async () => {
  const now = () => Math.floor(Date.now() / 1000);
  for (const name of ["iat", "nbf"]) {
    assert.equal(await codeOf(token({}, { [name]: now() + 60 })), "good");
    await refused(token({}, { [name]: now() + 62 }));
  }
});

test("any other header is refused even with a genuine signature", async () => {
  const changes = [
    { alg: "none" },
    { alg: "Ed25519" },
    { alg: "eddsa" },
    { alg: "HS256" },
    { alg: ["EdDSA"] },
    { typ: "JWT" },
    { typ: "logout+jwt" },
    { crit: ["exp"] },
    { b64: false },
    { jku: "https://evil.example/jwks" },
    { jwk: signer.jwk },
    { kid: "../../etc/passwd" },
    { kid: 1 },
    { kid: undefined },
    { typ: undefined },
  ];
  for (const change of changes) await refused(token(change));
  await refused(signer.sign(JSON.stringify(signer.header).slice(0, -1) + ',"__proto__":{}}', CLAIMS));
});

test("a key that no list names is not known yet, and whatever the policy nothing is taken on trust", async () => {
  await refused(other.sign(other.header, CLAIMS), "verifier_stale");
  await refused(token({ kid: other.kid }), "verifier_stale");
});

test("the public key is no HMAC secret, and another key of the same name is refused", async () => {
  const [head, body] = token({ alg: "HS256" }).split(".");
  for (const secret of [signer.raw, signer.jwk.x, JSON.stringify(signer.jwk)]) {
    const mac = createHmac("sha512", secret).update(`${head}.${body}`).digest("base64url");
    await refused(`${head}.${body}.${mac}`);
  }
  await refused(other.sign(signer.header, CLAIMS));
});

test("header and payload must be strict objects", async () => {
  const text = JSON.stringify(CLAIMS).slice(0, -1);
  const payloads = [
    "[]",
    '"text"',
    "null",
    "{",
    "\uFEFF" + text + "}",
    new Uint8Array([0xff, 0xfe]),
    text + ', "exp": 9999999999}',
    text + ', "ex\\u0070": 9999999999}',
    text + ', "x": {"a":1,"b":2,"a":3}}',
    text + ', "x": NaN}',
    `${text}, "x": ${"[".repeat(20)}${"]".repeat(20)}}`,
    `${text}, "x": ${"[".repeat(900)}${"]".repeat(900)}}`,
  ];
  for (const payload of payloads) await refused(signer.sign(signer.header, payload));
  await refused(signer.sign(JSON.stringify(signer.header).slice(0, -1) + ', "alg": "EdDSA"}', CLAIMS));
});

test("equal names in different objects, and in texts, are no doubles", async () => {
  const claims = { ...CLAIMS, x: [{ a: 1 }, { a: '{"a":1,"a":2}' }], y: { x: { x: 1 } }, 'q"': 1 };
  assert.deepEqual(await verifier.verify(signer.sign(signer.header, claims)), claims);
});

test("only the compact form is read", async () => {
  const good = token();
  const damaged = ["=", "==", "\n", ".", ".x", "\0"].map((end) => good + end);
  for (const text of [...damaged, " " + good, "." + good, "a.b.c", "a".repeat(5_000)]) await refused(text);
});

test("every changed character is noticed, a second spelling of the same bytes too", async () => {
  const good = token();
  for (let place = 0; place < good.length; place++) {
    if (good[place] === ".") continue;
    const code = await codeOf(good.slice(0, place) + (good[place] === "A" ? "B" : "A") + good.slice(place + 1));
    const isOtherKey = place < good.indexOf(".") && code === "verifier_stale";
    assert.ok(code === "invalid_token" || isOtherKey, `${code} at ${place}`);
  }
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const twin = good.slice(0, -1) + alphabet[alphabet.indexOf(good.at(-1)) ^ 1];
  assert.ok(Buffer.from(twin.split(".")[2], "base64url").equals(Buffer.from(good.split(".")[2], "base64url")));
  await refused(twin);
});

test("a wrong option is refused by its name", () => {
  const good = { url: keys.url, tenantId: TENANT, apiKey: "sk_test_x" };
  const wrong = [
    [{ onstale: "refuse" }, /onstale/],
    [{ onStale: "no" }, /onStale/],
    [{ maxStaleness: 0 }, /maxStaleness/],
    [{ maxStaleness: "10" }, /maxStaleness/],
    [{ tenantId: "" }, /tenantId/],
    [{ apiKey: undefined }, /apiKey/],
    [{ maxRevocations: NaN }, /maxRevocations/],
  ];
  for (const [change, name] of wrong) assert.throws(() => createVerifier({ ...good, ...change }), name);
});
