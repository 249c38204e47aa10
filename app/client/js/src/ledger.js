import { Denylist } from "./denylist.js";
import { isSessionId } from "./session_id.js";
import { RESERVED, frozen, withAliases } from "./token.js";

/** @typedef {import("../index.d.ts").Claims} Claims */
/**
 * @typedef {{type: string, tenant_id: string, session_id?: string, occurred_at: string, not_after: number, id: string,
 *   before?: number, org_id?: string | null, role?: string | null, mfa_verified?: boolean | null,
 *   claims?: Record<string, unknown> | null}} FeedEvent
 * @typedef {{occurredMs: number, notAfter: number, changed: Record<string, unknown>, told: string[]}} Update
 */

/** Entries stay this long past `not_after`, for a clock here that runs behind the service's. */
const SKEW_S = 60;
/** How far clocks of the service's processes may lie apart. */
const APART_S = 5;
/** So many updates of a session are known by their ids: told again they change nothing. New ones count as they come. */
const REMEMBERED = 16;

/**
 * What the feed has said about one tenant: ended sessions, the tenant's cut-off, changed claims. An end is final.
 * When it may hold no more it says so by `complete` and forgets nothing.
 */
export class Ledger {
  /** @type {Map<string, Update>} */ #updates = new Map();
  #ended;
  #cutOff = -1;
  /** False once something had to be left out; true again from the next `restart` on. */
  complete = true;

  /** @param {string} tenantId @param {number} most ended sessions @param {number} mostUpdates changed ones */
  constructor(tenantId, most, mostUpdates = most) {
    this.tenantId = tenantId;
    this.most = most;
    this.mostUpdates = mostUpdates;
    this.#ended = new Denylist(most);
  }

  get size() {
    return this.#ended.size + this.#updates.size;
  }

  /** Whether a snapshot would probably fit now. */
  get hasRoom() {
    return this.#ended.size < this.most * 0.9 && this.#updates.size < this.mostUpdates * 0.9;
  }

  restart() {
    this.complete = true;
  }

  /**
   * Raises `TypeError` for an event that cannot be understood, for then something may be missing here.
   * @param {FeedEvent} event
   */
  apply(event) {
    if (event.tenant_id !== this.tenantId) return;
    if (event.type === "tenant.revoked") this.#cut(event);
    else if (event.type === "session.updated") this.#update(event);
    else if (event.type === "session.revoked" || event.type === "session.expired") this.#end(event);
  }

  /** @param {string} sid @param {number} created */
  hasEnded(sid, created) {
    return created <= this.#cutOff || this.#ended.has(sid);
  }

  /** The newest change that a token of `iat` may not know, whoever's clock that is by. @param {string} sid @param {number} iat */
  updateOf(sid, iat) {
    const update = this.#updates.get(sid);
    return update !== undefined && (iat - APART_S) * 1000 <= update.occurredMs ? update : undefined;
  }

  /** @param {number} now seconds */
  purge(now) {
    this.#ended.purge(now - SKEW_S);
    for (const [sid, update] of this.#updates) if (update.notAfter < now - SKEW_S) this.#updates.delete(sid);
  }

  /** @param {FeedEvent} event */
  #end(event) {
    const now = Math.floor(Date.now() / 1000) - SKEW_S;
    this.#updates.delete(sessionOf(event));
    if (!this.#ended.add(sessionOf(event), whole(event.not_after), now)) this.complete = false;
  }

  /** @param {FeedEvent} event */
  #cut(event) {
    this.#cutOff = Math.max(this.#cutOff, whole(event.before));
  }

  /** @param {FeedEvent} event */
  #update(event) {
    const sid = sessionOf(event);
    const known = this.#updates.get(sid);
    const occurredMs = Date.parse(event.occurred_at);
    if (Number.isNaN(occurredMs)) throw new TypeError("an update without its time");
    if (this.#ended.has(sid) || known?.told.includes(event.id)) return;
    if (known === undefined && this.#updates.size >= this.mostUpdates) {
      this.complete = false;
      return;
    }
    const told = [...(known?.told ?? []).slice(1 - REMEMBERED), event.id];
    this.#updates.set(sid, { occurredMs, notAfter: whole(event.not_after), changed: changedBy(event), told });
  }
}

const CHANGEABLE = new Set(["org_id", "role", "mfa_verified"]);

/**
 * Claims as they are after a change: what the service decides stays, what the backend may change is replaced whole.
 * @param {Claims} claims
 * @param {Record<string, unknown>} changed
 * @returns {Claims}
 */
export function overlaid(claims, changed) {
  const kept = Object.entries(claims).filter(([name]) => RESERVED.has(name) && !CHANGEABLE.has(name));
  return /** @type {Claims} */ (Object.freeze(withAliases({ ...changed, ...Object.fromEntries(kept) })));
}

/**
 * The claims that a session's event, or the session itself, now says.
 * @param {{org_id?: string | null, role?: string | null, mfa_verified?: boolean | null,
 *   claims?: Record<string, unknown> | null}} said
 */
export function changedBy({ org_id, role, mfa_verified, claims }) {
  return frozen({
    ...Object.fromEntries(Object.entries(claims ?? {}).filter(([name]) => !RESERVED.has(name))),
    mfa_verified: mfa_verified ?? false,
    ...(org_id == null ? {} : { org_id }),
    ...(role == null ? {} : { role }),
  });
}

/** @param {FeedEvent} event */
function sessionOf(event) {
  if (!isSessionId(event.session_id)) throw new TypeError("an event without its session");
  return event.session_id;
}

/** @param {unknown} value */
function whole(value) {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) throw new TypeError("not a whole number");
  return value;
}
