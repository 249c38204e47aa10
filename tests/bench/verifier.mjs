/**
 * The JavaScript verifier alone, on one core: verifications per second with remembered and with new tokens, beside a
 * bare `jose.jwtVerify` in the same run; and the bytes of a denylist entry. After `npm ci` in app/client/js:
 *   node --expose-gc tests/bench/verifier.mjs
 */
import { generateKeyPairSync, sign } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { availableParallelism, cpus } from "node:os";
import { pathToFileURL } from "node:url";
import { createVerifier } from "../../app/client/js/src/index.js";
import { Denylist } from "../../app/client/js/src/denylist.js";

const client = createRequire(new URL("../../app/client/js/package.json", import.meta.url));
const { createLocalJWKSet, jwtVerify } = await import(pathToFileURL(client.resolve("jose")).href);

const TOKENS = 4_000;
const ENTRIES = 1_000_000;
const ROUNDS = 25;
const ISSUER = "https://sessions.example";
const TENANT = "tnt_0123456789ABCDEFGHJKMNPQRS";
const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

const letters = (count) => Array.from({ length: count }, () => ALPHABET[Math.floor(Math.random() * 32)]).join("");
const sessionId = () => "ses_01K" + letters(23);
const b64 = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

const pair = generateKeyPairSync("ed25519");
const { x } = pair.publicKey.export({ format: "jwk" });
const kid = "k".repeat(43);
const jwks = { keys: [{ kty: "OKP", crv: "Ed25519", x, kid, use: "sig", alg: "EdDSA" }] };

function token() {
  const iat = Math.floor(Date.now() / 1000);
  const claims = {
    plan: "pro",
    iss: ISSUER,
    aud: TENANT,
    sub: "usr_01HABCDEF123456",
    session_id: sessionId(),
    tenant_id: TENANT,
    mfa_verified: true,
    iat,
    exp: iat + 3_600,
    jti: letters(22),
    org_id: "org_1",
    role: "member",
  };
  const text = `${b64({ alg: "EdDSA", typ: "at+jwt", kid })}.${b64(claims)}`;
  return `${text}.${sign(null, Buffer.from(text), pair.privateKey).toString("base64url")}`;
}

/** A service that is always in time, and knows of no revocation. */
async function service() {
  const server = createServer((request, response) => {
    if (request.url.startsWith("/.well-known")) return response.end(JSON.stringify(jwks));
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const beat = () => response.write('event: heartbeat\nid: c\ndata: {"cursor":"c","lag_ms":1}\n\n');
    beat();
    const timer = setInterval(beat, 2_000);
    response.on("close", () => clearInterval(timer));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

async function perSecond(tokens, verify) {
  const began = performance.now();
  for (const each of tokens) await verify(each);
  return tokens.length / ((performance.now() - began) / 1000);
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const shown = (number) => Math.round(number).toLocaleString("en");

function bytesPerEntry() {
  const ids = Array.from({ length: ENTRIES }, () => Buffer.from(sessionId()).toString()); // flat, whatever reads them
  const until = Math.floor(Date.now() / 1000) + 3_600;
  const list = new Denylist(2 * ENTRIES);
  const used = () => (gc(), process.memoryUsage()).arrayBuffers + process.memoryUsage().heapUsed;
  const before = used();
  for (const sid of ids) list.add(sid, until, until - 3_600);
  const bytes = (used() - before) / list.size;
  const began = performance.now();
  let found = 0;
  for (const sid of ids) if (list.has(sid)) found++;
  const seconds = (performance.now() - began) / 1000;
  if (found !== ENTRIES) throw new Error("an entry is lost");
  return { bytes, perSecond: found / seconds };
}

const server = await service();
const url = `http://127.0.0.1:${server.address().port}`;
const verifier = createVerifier({ url, issuer: ISSUER, tenantId: TENANT, apiKey: "sk_live_x", reportEvery: 0 });
const forgetful = createVerifier({
  url,
  issuer: ISSUER,
  tenantId: TENANT,
  apiKey: "sk_live_x",
  reportEvery: 0,
  maxTokens: 0,
});
await Promise.all([verifier.ready(), forgetful.ready()]);

const keys = createLocalJWKSet(jwks);
const options = { issuer: ISSUER, audience: TENANT, algorithms: ["EdDSA"], typ: "at+jwt" };
const tokens = Array.from({ length: TOKENS }, token);
const copies = () => tokens.map((each) => Buffer.from(each).toString()); // as requests bring them: new strings
const found = { bare: [], uncached: [], cached: [], again: [] };
const measures = {
  bare: (some) => perSecond(some, (each) => jwtVerify(each, keys, options)),
  uncached: (some) => perSecond(some, (each) => forgetful.verify(each)),
};

await perSecond(tokens, (each) => verifier.verify(each));
for (let round = 0; round < ROUNDS; round++) {
  const order = round % 2 ? ["bare", "uncached"] : ["uncached", "bare"];
  for (const name of order) found[name].push(await measures[name](copies().slice(0, 500)));
  found.cached.push(await perSecond(Array.from({ length: 10 }, copies).flat(), (each) => verifier.verify(each)));
  const hot = tokens.slice(0, 100);
  found.again.push(await perSecond(Array.from({ length: 1_000 }, () => hot).flat(), (each) => verifier.verify(each)));
}
const ratio = median(found.bare.map((bare, round) => bare / found.uncached[round]));
await Promise.all([verifier.close(), forgetful.close()]);
server.closeAllConnections();
server.close();

const [bare, uncached, cached, again] = Object.values(found).map(median);
const denylist = bytesPerEntry();
console.log(
  `Node ${process.version}, ${process.platform} ${process.arch}, ${availableParallelism()} × ${cpus()[0].model}`,
);
console.log(`one verification after another, median of ${ROUNDS} rounds`);
console.log(`bare jose.jwtVerify        ${shown(bare).padStart(10)}/s`);
console.log(`new token                  ${shown(uncached).padStart(10)}/s   ${ratio.toFixed(2)} × the time of bare`);
console.log(
  `remembered, fresh string   ${shown(cached).padStart(10)}/s   ${TOKENS} tokens, each request its own string`,
);
console.log(`remembered, same string    ${shown(again).padStart(10)}/s   100 tokens`);
console.log(
  `denylist of ${shown(ENTRIES)}       ${denylist.bytes.toFixed(1)} bytes each, ${shown(denylist.perSecond)} look-ups/s`,
);
