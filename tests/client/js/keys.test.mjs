import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { Keys } from "../../../app/client/js/src/keys.js";
import { serve, Signer } from "./signer.mjs";

/** A service whose key set says what it likes, and counts how often it is asked. */
async function withKeys(options, act) {
  const [one, two, three] = [new Signer(), new Signer(), new Signer()];
  const jwks = { keys: [one.jwk], status: 200, asked: 0 };
  const server = await serve((request, response) => {
    jwks.asked++;
    assert.equal(request.headers["cache-control"], "no-cache");
    response.writeHead(jwks.status).end(JSON.stringify({ keys: jwks.keys }));
  });
  const keys = new Keys(`${server.url}/.well-known/jwks.json`, fetch, options);
  try {
    await act({ keys, jwks, one, two, three });
  } finally {
    keys.close();
    server.close();
  }
}

test("a hundred who need a key fetch once, and then not before the cooldown", async () => {
  await withKeys({}, async ({ keys, jwks, one }) => {
    const found = await Promise.all(Array.from({ length: 100 }, () => keys.find(one.kid)));
    assert.ok(found.every((key) => key !== undefined && key === found[0]));
    for (let number = 0; number < 100; number++) assert.equal(await keys.find(`forged ${number}`), undefined);
    assert.equal(jwks.asked, 1);
    assert.ok(keys.mayAsk());
    assert.ok(!keys.mayAsk());
  });
});

test("without a cooldown each unknown key is looked for", async () => {
  await withKeys({ cooldownDuration: 0 }, async ({ keys, jwks, one }) => {
    assert.ok(await keys.find(one.kid));
    assert.equal(await keys.find("forged"), null);
    assert.equal(jwks.asked, 2);
  });
});

test("a key is refuted by a list that is no older than the first token that names it", async () => {
  await withKeys({}, async ({ keys, jwks, one }) => {
    await keys.find(one.kid);
    const before = performance.now();
    await wait(2);
    assert.equal(await keys.find("new"), undefined);
    keys.listed([one.kid], before);
    assert.equal(await keys.find("new"), undefined);
    keys.listed([one.kid], performance.now());
    assert.equal(await keys.find("new"), null);
    await wait(2);
    assert.equal(await keys.find("newer"), undefined);
    assert.equal(jwks.asked, 1);
  });
});

test("of unknown keys so many are remembered, and none that is forgotten is refuted", async () => {
  await withKeys({}, async ({ keys, one }) => {
    await keys.find(one.kid);
    for (let number = 0; number < 3_000; number++) await keys.find(`invented ${number}`);
    keys.listed([one.kid], performance.now());
    await wait(2);
    assert.equal(await keys.find("invented 2999"), null);
    assert.equal(await keys.find("invented 0"), undefined);
  });
});

test("a key that is no longer listed comes back by a newer list only", async () => {
  await withKeys({ cacheMaxAge: 200, cooldownDuration: 0 }, async ({ keys, jwks, one, two }) => {
    jwks.keys = [one.jwk, two.jwk];
    const before = performance.now();
    await wait(2);
    await keys.find(one.kid);
    keys.listed([two.kid], before);
    assert.ok(keys.has(one.kid));
    keys.listed([two.kid], performance.now());
    assert.ok(!keys.has(one.kid) && keys.has(two.kid));
    assert.equal(await keys.find(one.kid), null);
    await wait(220);
    assert.equal(await keys.find(one.kid), null);
    assert.equal(jwks.asked, 2);
    keys.listed([one.kid, two.kid], performance.now());
    assert.ok(keys.has(one.kid) && keys.has(two.kid));
  });
});

test("a key that is listed is fetched soon, and asked for less and less often", async () => {
  await withKeys({}, async ({ keys, jwks, one, two }) => {
    await keys.find(one.kid);
    for (let round = 0; round < 45; round++) {
      keys.listed([one.kid, two.kid], performance.now());
      await wait(100);
    }
    assert.ok(jwks.asked >= 3 && jwks.asked <= 5, `${jwks.asked} times`);
    jwks.keys.push(two.jwk);
    await wait(1_000);
    assert.ok(await keys.find(two.kid));
    const { asked } = jwks;
    await wait(1_500);
    assert.equal(jwks.asked, asked);
  });
});

test("a key that the service has vouched for is fetched at once", async () => {
  await withKeys({}, async ({ keys, jwks, one, two }) => {
    await keys.find(one.kid);
    jwks.keys.push(two.jwk);
    assert.equal(await keys.find(two.kid), undefined);
    await keys.expect(two.kid);
    assert.ok(await keys.find(two.kid));
    assert.equal(jwks.asked, 2);
  });
});

test("a key that was here and is no longer published is gone", async () => {
  await withKeys({}, async ({ keys, jwks, one, two, three }) => {
    await keys.find(one.kid);
    jwks.keys = [two.jwk];
    await keys.expect(two.kid);
    assert.equal(await keys.find(one.kid), null);
    assert.equal(await keys.find(three.kid), undefined);
  });
});

test("a fetch that fails keeps the keys, and is not repeated at once", async () => {
  await withKeys({ cooldownDuration: 0 }, async ({ keys, jwks, one, two }) => {
    await keys.find(one.kid);
    jwks.status = 503;
    for (let round = 0; round < 5; round++) await assert.rejects(keys.find(two.kid), { code: "service_unavailable" });
    assert.equal(jwks.asked, 2);
    assert.ok(keys.has(one.kid));
  });
});

test("keys that are too old are believed no more, and are fetched in time when they are used", async () => {
  await withKeys({ cacheMaxAge: 500, cooldownDuration: 100 }, async ({ keys, jwks, one }) => {
    await keys.find(one.kid);
    await wait(420);
    assert.ok(keys.has(one.kid));
    await wait(100);
    assert.ok(keys.has(one.kid));
    assert.equal(jwks.asked, 2);
    await wait(520);
    assert.ok(!keys.has(one.kid));
    assert.ok(await keys.find(one.kid));
  });
});

test("keys of other kinds are left to others", async () => {
  await withKeys({}, async ({ keys, jwks, one, two, three }) => {
    jwks.keys = [{ kty: "RSA", kid: "rsa", n: "AQAB", e: "AQAB" }, { ...two.jwk, use: "enc" }, one.jwk];
    jwks.keys.push({ ...three.jwk, x: "AA" }, { kty: "OKP" });
    assert.ok(await keys.find(one.kid));
    for (const kid of ["rsa", two.kid, three.kid]) assert.equal(await keys.find(kid), null);
  });
});
