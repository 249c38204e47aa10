/**
 * @typedef {import("../index.d.ts").Claims} Claims
 * @typedef {{claims: Claims, kid: string, created: number, update?: object, shown: Claims}} Verified
 */

/** Tokens whose signature has been verified, the first in being the first out, each to be found by its session. */
export class Cache {
  /** @type {Map<string, Verified>} */ #tokens = new Map();
  /** @type {Map<string, Set<string>>} */ #sessions = new Map();

  /** @param {number} most */
  constructor(most) {
    this.most = most;
  }

  /** @param {string} token */
  get(token) {
    return this.#tokens.get(token);
  }

  /** @param {string} token @param {Verified} verified */
  put(token, verified) {
    if (this.most === 0) return;
    this.drop(token);
    if (this.#tokens.size >= this.most) this.drop(/** @type {string} */ (this.#tokens.keys().next().value));
    this.#tokens.set(token, verified);
    const sid = verified.claims.session_id;
    this.#sessions.set(sid, (this.#sessions.get(sid) ?? new Set()).add(token));
  }

  /** @param {string} token */
  drop(token) {
    const verified = this.#tokens.get(token);
    if (verified === undefined) return;
    this.#tokens.delete(token);
    const others = this.#sessions.get(verified.claims.session_id);
    others?.delete(token);
    if (others?.size === 0) this.#sessions.delete(verified.claims.session_id);
  }

  /** @param {string} sid */
  evict(sid) {
    for (const token of this.#sessions.get(sid) ?? []) this.drop(token);
  }

  clear() {
    this.#tokens.clear();
    this.#sessions.clear();
  }
}
