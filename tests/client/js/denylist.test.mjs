import assert from "node:assert/strict";
import { test } from "node:test";
import { Denylist } from "../../../app/client/js/src/denylist.js";
import { createdMs, isSessionId, pack } from "../../../app/client/js/src/session_id.js";
import { Chance, sessionId } from "./chance.mjs";

const NOW = 1_800_000_000;

test("a random story leaves exactly what a plain map holds", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const chance = new Chance(seed);
    const ids = Array.from({ length: 4_000 }, () => sessionId(chance, 1.7e12 + chance.below(1e9)));
    const list = new Denylist(1e6);
    const model = new Map();
    let now = NOW;
    for (let step = 0; step < 10_000; step++) {
      const sid = chance.of(ids);
      const notAfter = now + chance.below(600);
      list.add(sid, notAfter, now);
      model.set(sid, Math.max(notAfter, model.get(sid) ?? 0));
      if (step % 500 === 0) list.purge((now += 30));
    }
    for (const [sid, notAfter] of model) if (notAfter >= now) assert.ok(list.has(sid), `seed ${seed}: ${sid} is lost`);
    for (const sid of ids) if (!model.has(sid)) assert.ok(!list.has(sid), `seed ${seed}: ${sid} was never added`);
    list.purge(now + 10_000);
    assert.equal(list.size, 0);
  }
});

test("ids that differ in one character are different entries", () => {
  const sid = "ses_01JZ5V7Q8RW3A4B5C6D7E8F9GH";
  const list = new Denylist(10_000);
  list.add(sid, NOW + 60, NOW);
  for (let place = 5; place < 30; place++) {
    for (const letter of "0123456789ABCDEFGHJKMNPQRSTVWXYZ") {
      const other = sid.slice(0, place) + letter + sid.slice(place + 1);
      assert.equal(list.has(other), other === sid, other);
    }
  }
});

test("packing loses nothing", () => {
  const chance = new Chance(7);
  const seen = new Map();
  for (let round = 0; round < 20_000; round++) {
    const sid = sessionId(chance, chance.below(2 ** 32) * 2 ** 13);
    const words = new Uint32Array(4);
    pack(sid, words);
    assert.equal(seen.get(words.join()) ?? sid, sid);
    seen.set(words.join(), sid);
  }
});

test("a full list says so, keeps what lives, and has room again once entries have passed", () => {
  const chance = new Chance(3);
  const list = new Denylist(1_000);
  const ids = Array.from({ length: 1_000 }, () => sessionId(chance));
  for (const sid of ids) assert.ok(list.add(sid, NOW + 60, NOW));
  const late = sessionId(chance);
  assert.equal(list.add(late, NOW + 120, NOW), false);
  assert.equal(list.has(late), false);
  assert.ok(list.add(ids[0], NOW + 90, NOW), "one that is known needs no room");
  assert.ok(ids.every((sid) => list.has(sid)));
  assert.ok(list.add(late, NOW + 120, NOW + 61));
  assert.equal(list.size, 2);
});

test("what has passed already takes no room", () => {
  const list = new Denylist(1);
  assert.ok(list.add(sessionId(new Chance(1)), NOW - 1, NOW));
  assert.equal(list.size, 0);
});

test("an id tells when its session was created", () => {
  const chance = new Chance(5);
  for (const ms of [0, 1, 1_705_745_700_123, 2 ** 45 - 1]) assert.equal(createdMs(sessionId(chance, ms)), ms);
  for (const bad of [
    "",
    "ses_",
    "ses_" + "0".repeat(25),
    "ses_1" + "0".repeat(25),
    "ses_0" + "U".repeat(25),
    7,
    null,
  ]) {
    assert.equal(isSessionId(bad), false);
  }
});
