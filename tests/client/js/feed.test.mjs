import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { createVerifier } from "../../../app/client/js/src/index.js";
import { Chance, sessionId } from "./chance.mjs";
import { serve, Signer } from "./signer.mjs";

/** The other end of the wire contract, by script: what the real service does only in rare hours. */

const TENANT = "tnt_1";
const signer = new Signer();
const chance = new Chance(21);

const soon = () => Math.floor(Date.now() / 1000) + 600;
const end = (sid, notAfter = soon()) => ({
  id: `0V-${Date.now()}-0`,
  type: "session.revoked",
  tenant_id: TENANT,
  user_id: "usr_1",
  session_id: sid,
  reason: "revoked",
  occurred_at: new Date().toISOString(),
  not_after: notAfter,
});
const say = (type, data, id) => `event: ${type}\n${id ? `id: ${id}\n` : ""}data: ${JSON.stringify(data)}\n\n`;
const beat = (cursor, lag_ms = 0, since_open_ms = undefined, kids = undefined) =>
  say("heartbeat", { cursor, lag_ms, since_open_ms, kids }, cursor);
const reset = (reason = "snapshot") => say("reset", { reason });
const told = (event) => say(event.type, event);

/** Answers the n-th request for events with the n-th scene, and with the last one from then on. */
async function peer(...scenes) {
  const asked = [];
  const streams = [];
  const server = await serve((request, response) => {
    if (request.url === "/.well-known/jwks.json") return response.end(JSON.stringify({ keys: [signer.jwk] }));
    if (!request.url.startsWith("/v1/events")) return response.writeHead(503).end();
    const scene = scenes[Math.min(asked.length, scenes.length - 1)];
    asked.push({ url: request.url, ...request.headers, at: performance.now() });
    if (typeof scene === "number") return response.writeHead(scene).end();
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    streams.push(response);
    if (scene !== undefined) response.write(scene);
  });
  return { ...server, asked, streams };
}

async function withVerifier(scenes, options, act) {
  const service = await peer(...scenes);
  const given = { url: service.url, tenantId: TENANT, apiKey: "sk_test_x", onStale: "refuse", ...options };
  const verifier = createVerifier(given);
  const token = (sid = sessionId(chance)) => {
    const iat = Math.floor(Date.now() / 1000);
    const claims = { iss: service.url, aud: TENANT, sub: "usr_1", iat, exp: iat + 300, jti: "j", tenant_id: TENANT };
    return signer.sign(signer.header, { ...claims, session_id: sid });
  };
  const code = (text) =>
    verifier.verify(text).then(
      () => "good",
      (problem) => problem.code,
    );
  try {
    await act({ service, verifier, token, code });
  } finally {
    await verifier.close();
    service.close();
  }
}

async function until(holds, what, seconds = 8) {
  const limit = performance.now() + seconds * 1000;
  while (!(await holds())) {
    if (performance.now() > limit) assert.fail(`waited for ${what}`);
    await wait(5);
  }
}

test("it asks for a snapshot with its key, and is ready at the heartbeat, not before", async () => {
  const sid = sessionId(chance);
  await withVerifier([reset() + told(end(sid))], {}, async ({ service, verifier, token, code }) => {
    let ready = false;
    const waiting = verifier.ready().then(() => (ready = true));
    await until(() => service.streams.length, "the request");
    assert.equal(service.asked[0].url, "/v1/events?snapshot=true");
    assert.equal(service.asked[0].authorization, "Bearer sk_test_x");
    assert.equal(service.asked[0]["last-event-id"], undefined);
    assert.equal(await code(token()), "verifier_stale");
    await until(async () => (await code(token(sid))) === "session_revoked", "the snapshot to be applied");
    assert.equal(ready, false);
    assert.equal(verifier.lag, Infinity);
    service.streams[0].write(beat("c1"));
    await waiting;
    assert.equal(await code(token()), "good");
    assert.ok(verifier.lag < 1);
  });
});

test("it comes back with the cursor of the last heartbeat", async () => {
  await withVerifier(
    [reset() + beat("c1") + told(end(sessionId(chance))) + beat("c2"), beat("c3")],
    {},
    async ({ service, verifier }) => {
      await verifier.ready();
      service.streams[0].end();
      await until(() => service.asked.length === 2, "the second request");
      assert.equal(service.asked[1].url, "/v1/events");
      assert.equal(service.asked[1]["last-event-id"], "c2");
    },
  );
});

test("a cursor of another log makes it begin with a snapshot, at once", async () => {
  for (const status of [422, 410]) {
    await withVerifier([reset() + beat("c1"), status, reset() + beat("d1")], {}, async ({ service, verifier }) => {
      await verifier.ready();
      service.streams[0].end();
      await until(() => service.asked.length === 3, "the third request");
      assert.equal(service.asked[2].url, "/v1/events?snapshot=true");
      assert.ok(service.asked[2].at - service.asked[1].at < 200);
    });
  }
});

test("from a reset to its heartbeat it is not up to date, and keeps every end it knew", async () => {
  const [before, after] = [sessionId(chance), sessionId(chance)];
  await withVerifier([reset() + told(end(before)) + beat("c1")], {}, async ({ service, verifier, token, code }) => {
    await verifier.ready();
    service.streams[0].write(reset("cursor_lost") + told(end(after)));
    await until(() => !verifier.fresh, "the reset");
    assert.equal(await code(token()), "verifier_stale");
    service.streams[0].write(beat("d1"));
    await verifier.ready();
    for (const sid of [before, after]) assert.equal(await code(token(sid)), "session_revoked");
    assert.equal(await code(token()), "good");
  });
});

test("the lag counts what the service itself was behind", async () => {
  await withVerifier([reset() + beat("c1", 4_000)], { maxStaleness: 5 }, async ({ service, verifier, token, code }) => {
    await verifier.ready();
    assert.ok(verifier.lag >= 4 && verifier.lag < 5);
    service.streams[0].write(beat("c2", 20_000));
    await until(() => verifier.lag > 20, "the heartbeat");
    assert.equal(await code(token()), "verifier_stale");
  });
});

test("a heartbeat is no newer than the time since the stream was asked for proves", async () => {
  await withVerifier([reset() + beat("c1", 0, -1_500)], { maxStaleness: 8 }, async ({ service, verifier }) => {
    await verifier.ready();
    assert.ok(verifier.lag >= 1.5 && verifier.lag < 3, `${verifier.lag}`);
    await wait(1_000);
    service.streams[0].write(beat("c2", 0, -1_400)); // a second later, of a tenth of a second later
    await until(() => service.asked.length === 1 && verifier.lag >= 2.4, "the heartbeat");
    assert.ok(verifier.lag < 4, `${verifier.lag}`);
  });
});

test("a service's clock that runs ahead of ours wins nothing by it", async () => {
  await withVerifier([reset() + beat("c1", 0, 60_000)], { maxStaleness: 8 }, async ({ service, verifier }) => {
    await verifier.ready();
    service.streams[0].write(beat("c2", 0, 58_000));
    await until(() => verifier.lag >= 2, "the second heartbeat");
    assert.ok(verifier.lag < 3, `${verifier.lag}`);
  });
});

test("where the bound lags far behind what the service says, it asks for a new stream from there", async () => {
  await withVerifier(
    [reset() + beat("c1", 0, -5_000), beat("c2", 0, 0)],
    { maxStaleness: 8 },
    async ({ service, verifier }) => {
      await verifier.ready();
      await until(() => service.asked.length === 2, "the second request");
      assert.equal(service.asked[1]["last-event-id"], "c1");
      await until(() => verifier.lag < 1, "the second stream");
    },
  );
});

test("a refused key rejects ready and is asked again rarely", async () => {
  await withVerifier([401], {}, async ({ service, verifier, token }) => {
    await assert.rejects(verifier.ready(), { code: "invalid_api_key", status: 503 });
    await assert.rejects(verifier.verify(token()), (problem) => {
      return problem.code === "verifier_stale" && problem.cause.code === "invalid_api_key";
    });
    await wait(500);
    assert.ok(service.asked.length < 5);
  });
});

test("an event that cannot be understood never counts as heard", async () => {
  const broken = { ...end("ses_1") };
  await withVerifier(
    [reset() + beat("c1"), told(broken) + beat("c2")],
    { maxStaleness: 1 },
    async ({ service, verifier, token, code }) => {
      await verifier.ready();
      service.streams[0].end();
      await until(() => service.asked.length >= 3, "another try");
      await until(async () => (await code(token())) === "verifier_stale", "the policy");
      assert.ok(service.asked.every((request) => request["last-event-id"] !== "c2"));
    },
  );
});

test("more revocations than it may hold make it stale, until it has room for a whole snapshot", async (context) => {
  context.mock.timers.enable({ apis: ["setInterval"] }); // the purge of each minute comes when the test says so
  const ids = Array.from({ length: 4 }, () => sessionId(chance));
  const passing = Math.floor(Date.now() / 1000) - 58;
  const many = ids
    .slice(0, 3)
    .map((sid) => told(end(sid, passing)))
    .join("");
  const scenes = [reset() + many + told(end(ids[3])) + beat("c1"), reset() + told(end(ids[3])) + beat("c2")];
  await withVerifier(scenes, { maxRevocations: 3 }, async ({ service, verifier, token, code }) => {
    await verifier.ready();
    assert.equal(verifier.fresh, false);
    assert.equal(verifier.lag, Infinity);
    assert.equal(await code(token()), "verifier_stale");
    await wait(3_500);
    context.mock.timers.tick(60_000);
    await until(() => verifier.fresh, "the second snapshot");
    assert.equal(service.asked[1].url, "/v1/events?snapshot=true");
    assert.equal(await code(token(ids[3])), "session_revoked");
    assert.equal(await code(token()), "good");
  });
});

test("a silent connection is given up", async () => {
  await withVerifier([reset() + beat("c1")], { maxStaleness: 1 }, async ({ service, verifier }) => {
    await verifier.ready();
    await until(() => service.asked.length > 1, "another request", 9);
    const silence = service.asked[1].at - service.asked[0].at;
    assert.ok(silence > 5_900 && silence < 7_500, `${silence} ms`);
  });
});

test("a service that has yet to catch up is waited for", async () => {
  await withVerifier([reset()], { maxStaleness: 1 }, async ({ service, verifier }) => {
    const ready = verifier.ready();
    await wait(7_000);
    service.streams[0].write(":\n\n" + beat("c1"));
    await ready;
    assert.equal(service.asked.length, 1);
  });
});

test("a process that stood still trusts nothing that waited in its connection", async () => {
  await withVerifier(
    [reset() + beat("c1"), undefined],
    { maxStaleness: 2 },
    async ({ service, verifier, token, code }) => {
      await verifier.ready();
      service.streams[0].write(beat("c2"));
      const until = performance.now() + 2_500;
      while (performance.now() < until); // the loop stands still, with a heartbeat on its way
      const answers = [];
      for (let round = 0; round < 50; round++) {
        answers.push(await code(token()));
        await wait(10);
      }
      assert.deepEqual(new Set(answers), new Set(["verifier_stale"]));
      assert.equal(service.asked[1]["last-event-id"], "c1");
      service.streams[1].write(beat("c3"));
      await verifier.ready();
      assert.equal(await code(token()), "good");
    },
  );
});

test("not even when what waited is the first thing it meets", async () => {
  let stream;
  const encoded = (text) => new TextEncoder().encode(text);
  const asked = [];
  const fetch = async (url, init) => {
    asked.push(init.headers["Last-Event-ID"]);
    return new Response(new ReadableStream({ start: (controller) => (stream = controller) }), { status: 200 });
  };
  const options = { url: "http://127.0.0.1:1", tenantId: TENANT, apiKey: "sk_test_x", maxStaleness: 1, fetch };
  const verifier = createVerifier(options);
  const ready = verifier.ready();
  await until(() => stream, "the request");
  stream.enqueue(encoded(reset() + beat("c1")));
  await ready;
  for (const end = performance.now() + 1_200; performance.now() < end;);
  stream.enqueue(encoded(beat("c2")));
  await until(() => asked.length === 2, "another request");
  assert.equal(asked[1], "c1");
  assert.equal(verifier.fresh, false);
  await verifier.close();
});

test("a wall clock that was ahead for a while costs no end", async (t) => {
  const sid = sessionId(chance);
  const scene = () => reset() + told(end(sid)) + beat("c1");
  await withVerifier([reset() + beat("c1"), scene()], {}, async ({ service, verifier, token, code }) => {
    const text = token(sid);
    await verifier.ready();
    assert.equal(await code(text), "good");
    const now = Date.now;
    t.mock.method(Date, "now", () => now() + 2 * 86_400_000);
    await until(() => service.asked.length === 2, "another request");
    await until(() => verifier.fresh, "the heartbeat"); // by then the end seems past its time and is not kept
    assert.equal(await code(text), "token_expired");
    t.mock.restoreAll();
    assert.notEqual(await code(token()), "good");
    await until(() => service.asked.length === 3, "a snapshot");
    assert.match(service.asked[2].url, /snapshot=true/);
    await until(async () => (await code(text)) === "session_revoked", "the end");
  });
});

test("a heartbeat's keys withdraw what was there", async () => {
  await withVerifier([reset() + beat("c1")], {}, async ({ service, verifier, token, code }) => {
    const text = token();
    await verifier.ready();
    assert.equal(await code(text), "good");
    service.streams[0].write(beat("c2", 0, undefined, ["a"]));
    await until(async () => (await code(text)) === "invalid_token", "the withdrawal");
    service.streams[0].write(beat("c3", 0, undefined, [signer.kid, "a"]));
    await until(async () => (await code(text)) === "good", "its return");
    service.streams[0].write(say("heartbeat", { cursor: "c4", kids: [7] }, "c4"));
    await until(() => service.asked.length === 2, "another request");
    assert.equal(service.asked[1]["last-event-id"], "c3");
  });
});

test("nothing is opened before it is needed, and nothing stays open", async () => {
  await withVerifier([reset() + beat("c1")], {}, async ({ service, verifier, code }) => {
    await wait(50);
    assert.equal(service.asked.length, 0);
    await verifier.ready();
    await verifier.close();
    await until(() => service.streams[0].destroyed, "the stream to be closed");
    await assert.rejects(verifier.ready(), { code: "service_unavailable" });
  });
});
