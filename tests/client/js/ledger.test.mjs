import assert from "node:assert/strict";
import { test } from "node:test";
import { Ledger, overlaid } from "../../../app/client/js/src/ledger.js";
import { createdMs } from "../../../app/client/js/src/session_id.js";
import { Chance, sessionId } from "./chance.mjs";

const chance = new Chance(11);
const CREATED = Date.now() - 60_000;
const SID = sessionId(chance, CREATED);
const SOON = Math.floor(Date.now() / 1000) + 3_600;

function event(type, more = {}) {
  const at = more.ms ?? Date.now();
  return {
    id: `0V-${at}-${more.seq ?? 0}`,
    type,
    tenant_id: "tnt_1",
    user_id: "usr_1",
    session_id: SID,
    reason: "revoked",
    occurred_at: new Date(at).toISOString(),
    not_after: SOON,
    ...more,
  };
}

const ended = (ledger, sid = SID) => ledger.hasEnded(sid, createdMs(sid));

test("both kinds of end refuse the session, for this tenant alone", () => {
  for (const type of ["session.revoked", "session.expired"]) {
    const ledger = new Ledger("tnt_1", 10);
    ledger.apply(event(type, { tenant_id: "tnt_2" }));
    assert.equal(ended(ledger), false);
    ledger.apply(event(type));
    assert.equal(ended(ledger), true);
  }
});

test("a cut-off ends every session created at or before it and never moves back", () => {
  const ledger = new Ledger("tnt_1", 10);
  ledger.apply(event("tenant.revoked", { session_id: undefined, before: CREATED }));
  ledger.apply(event("tenant.revoked", { session_id: undefined, before: CREATED - 5_000 }));
  assert.equal(ended(ledger), true);
  assert.equal(ended(ledger, sessionId(chance, CREATED + 1)), false);
});

test("an update changes tokens signed before it, not those signed later", () => {
  const ledger = new Ledger("tnt_1", 10);
  ledger.apply(event("session.updated", { ms: 1_700_000_000_500, role: "admin" }));
  assert.ok(ledger.updateOf(SID, 1_700_000_005));
  assert.equal(ledger.updateOf(SID, 1_700_000_006), undefined);
});

test("updates count in the order in which they come, and told again they change nothing", () => {
  const ledger = new Ledger("tnt_1", 10);
  const updates = [9, 10, 4].map((seq) => event("session.updated", { ms: 1_700_000_000_000, seq, role: `r${seq}` }));
  for (const update of [...updates, ...updates.slice(0, 2)]) ledger.apply(update);
  assert.equal(ledger.updateOf(SID, 1_600_000_000).changed.role, "r4");
});

test("an update replaces what a backend may change and nothing that the service decides", () => {
  const ledger = new Ledger("tnt_1", 10);
  const claims = {
    sub: "usr_1",
    exp: 5,
    session_id: SID,
    role: "member",
    org_id: "org_1",
    mfa_verified: true,
    plan: "pro",
  };
  const changed = { org_id: "org_2", role: null, claims: { tier: { level: 2 }, sub: "usr_2", exp: 9 } };
  ledger.apply(event("session.updated", changed));
  const now = overlaid(claims, ledger.updateOf(SID, 0).changed);
  assert.deepEqual(now, {
    sub: "usr_1",
    exp: 5,
    session_id: SID,
    org_id: "org_2",
    mfa_verified: false,
    tier: { level: 2 },
  });
  assert.ok(Object.isFrozen(now) && Object.isFrozen(now.tier));
});

test("an end removes the update, and none comes after it", () => {
  const ledger = new Ledger("tnt_1", 10);
  ledger.apply(event("session.updated", { role: "admin" }));
  ledger.apply(event("session.revoked"));
  ledger.apply(event("session.updated", { role: "admin", ms: Date.now() + 5 }));
  assert.equal(ledger.size, 1);
});

test("when it is full it admits that it is not complete, and forgets nothing", () => {
  for (const type of ["session.revoked", "session.updated"]) {
    const ledger = new Ledger("tnt_1", 3);
    const ids = Array.from({ length: 4 }, () => sessionId(chance));
    for (const sid of ids.slice(0, 3)) ledger.apply(event(type, { session_id: sid }));
    assert.equal(ledger.complete, true);
    ledger.apply(event(type, { session_id: ids[3] }));
    assert.equal(ledger.complete, false);
    assert.equal(ledger.hasRoom, false);
    assert.equal(ledger.size, 3);
    ledger.purge(SOON + 3_600);
    assert.equal(ledger.size, 0);
    assert.equal(ledger.hasRoom, true);
  }
});

test("what cannot be understood is an error; what is new is not", () => {
  const ledger = new Ledger("tnt_1", 10);
  const broken = [
    event("session.revoked", { session_id: undefined }),
    event("session.revoked", { session_id: "ses_1" }),
    event("session.revoked", { not_after: "soon" }),
    event("session.revoked", { not_after: 1.5 }),
    event("session.updated", { occurred_at: "yesterday" }),
    event("tenant.revoked", { before: undefined }),
  ];
  for (const each of broken) assert.throws(() => ledger.apply(each), TypeError, JSON.stringify(each));
  ledger.apply(event("session.praised"));
  assert.equal(ledger.size, 0);
});
