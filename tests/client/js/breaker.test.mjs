import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { Breaker, CALLS, EVENTS, KEYS } from "../../../app/client/js/src/breaker.js";
import { Keys } from "../../../app/client/js/src/keys.js";
import { serve } from "./signer.mjs";

/** A server that takes each request and answers none until it is told to. */
async function silent(act) {
  const state = { open: 0, most: 0, requests: 0, isAway: true };
  const server = await serve((request, response) => {
    state.requests++;
    state.most = Math.max(state.most, ++state.open);
    response.on("close", () => state.open--);
    if (!state.isAway) response.end('{"keys":[]}');
  });
  try {
    await act(state, server.url);
  } finally {
    server.close();
  }
}

test("after a time-out calls are refused at once, and one at a time tries again", async () => {
  await silent(async (state, url) => {
    const breaker = new Breaker();
    const ask = () =>
      breaker
        .run(async (signal) => (await fetch(url, { signal })).text(), 200)
        .then(
          () => true,
          ({ code }) => code !== "service_unavailable",
        );
    assert.deepEqual(await Promise.all([ask(), ask(), ask()]), [false, false, false]);
    await wait(20);
    state.most = state.open;
    state.requests = 0;
    const began = performance.now();
    for (let number = 0; number < 500; number++) assert.equal(await ask(), false);
    assert.ok(performance.now() - began < 2_000, "rather than 500 waits of 0.2 s");
    while (state.requests < 3) {
      assert.equal(await ask(), false);
      await wait(10);
    }
    assert.ok(state.most <= 2, "one is going while another begins, at most"); // the server hears of an end a moment later
    state.isAway = false;
    for (let number = 0; number < 200 && !(await ask()); number++) await wait(10);
    assert.deepEqual(await Promise.all([ask(), ask(), ask()]), [true, true, true]);
  });
});

test("a fetch of keys opens it, and is refused by it", async () => {
  await silent(async (state, url) => {
    const breaker = new Breaker();
    const keys = new Keys(url, fetch, { timeoutDuration: 200, cooldownDuration: 0 }, breaker);
    await assert.rejects(keys.find("k1"), { code: "service_unavailable" });
    const began = performance.now();
    await assert.rejects(breaker.run((signal) => fetch(url, { signal })), { code: "service_unavailable" });
    assert.ok(performance.now() - began < 1_000);
    keys.close();
  });
});

test("an outage is logged when it begins, once a minute, and when it ends", (t) => {
  const lines = [];
  t.mock.method(console, "warn", (line) => lines.push(line));
  let now = 1_000_000;
  t.mock.method(performance, "now", () => now);
  const breaker = new Breaker();
  breaker.answered();
  for (let second = 0; second < 150; second++, now += 1_000) breaker.failed("no answer");
  breaker.answered();
  breaker.answered();
  assert.deepEqual(lines, [
    "session-client: the session service is not available: no answer",
    "session-client: the session service has not been available for 60 s: no answer",
    "session-client: the session service has not been available for 120 s: no answer",
    "session-client: the session service is available again after 150 s",
  ]);
  for (let number = 0; number < 20; number++) {
    breaker.failed("it comes and goes");
    breaker.answered();
  }
  assert.equal(lines.length, 4);
});

test("an outage lasts until what failed works again", (t) => {
  const lines = [];
  t.mock.method(console, "warn", (line) => lines.push(line));
  const breaker = new Breaker();
  breaker.failed("it answers 503", EVENTS);
  for (const kind of [KEYS, CALLS]) breaker.answered(kind);
  assert.equal(lines.length, 1);
  breaker.answered(EVENTS);
  assert.equal(lines.length, 2);
});

test("a call that knows nothing of the signal is given up all the same, whatever number the limit is", async () => {
  const breaker = new Breaker();
  await assert.rejects(breaker.run(() => new Promise(() => {}), 20.5), { code: "service_unavailable" });
  assert.equal(await new Breaker().run(async () => "answered", 1e12), "answered");
});
