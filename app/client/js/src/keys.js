import { importJWK } from "jose";
import { Breaker, KEYS } from "./breaker.js";
import { SessionClientError } from "./errors.js";

/** @typedef {Awaited<ReturnType<typeof importJWK>>} Key */

/** Between tries for a key that is listed and not yet here, and after a fetch that failed. */
const RETRY_MS = 1_000;
/** All verifiers hear of a new key in the same moment. */
const SPREAD_MS = 1_000;
const MOST_STRANGERS = 1_000;

/**
 * The issuer's public keys under the rules of jose's `createRemoteJWKSet`: a set is used for `cacheMaxAge`, an unknown
 * key asks for a new one at most every `cooldownDuration`, one fetch at a time. It is fetched again in the background
 * when it has reached 4/5 of that age. The feed says in between which keys there are: one that is gone is good no more
 * from then on, one that is new is fetched within a second or two.
 *
 * A key that is not here need not be a forgery: it may be newer than what is known. It is refuted by a list of all keys,
 * or a set, that is not older than the token that named it first; and one that was here by what came without it.
 */
export class Keys {
  #url;
  #fetch;
  #breaker;
  /** By `kid`, without those that no token of ours can be of. @type {Map<string, Key | undefined>} */ #set = new Map();
  /** @type {Set<string>} */ #withdrawn = new Set();
  /** Listed, and not yet here. @type {Set<string>} */ #expected = new Set();
  /** When each unknown key was first named. @type {Map<string, number>} */ #strangers = new Map();
  #fetchedAt = -Infinity;
  #fetchedAtWall = -Infinity;
  #listedAt = -Infinity;
  #triedAt = -Infinity;
  #askedAt = -Infinity;
  #tries = 0;
  /** @type {Promise<void> | undefined} */ #fetching;
  /** @type {any} */ #catchingUp;
  #closed = false;

  /**
   * @param {string} url
   * @param {typeof fetch} fetch
   * @param {import("../index.d.ts").KeyOptions} options
   * @param {Breaker} breaker
   */
  constructor(url, fetch, options, breaker = new Breaker()) {
    this.#breaker = breaker;
    this.#url = url;
    this.#fetch = fetch;
    this.maxAge = options.cacheMaxAge ?? 600_000;
    this.cooldown = options.cooldownDuration ?? 30_000;
    this.timeout = options.timeoutDuration ?? 5_000;
  }

  /**
   * Whether a set that is young enough has the key, and the feed has not taken it back. Never waits.
   * @param {string} kid
   */
  has(kid) {
    const age = this.#age;
    if (age >= this.maxAge) return false;
    if (age >= this.maxAge * 0.8 && performance.now() - this.#triedAt >= this.cooldown) this.#load().catch(() => {});
    return this.#set.get(kid) !== undefined && !this.#withdrawn.has(kid);
  }

  /**
   * The key, after a fetch if that can tell and may be made; `null` if it is proved that there is none, `undefined`
   * while nobody here can tell. Raises `SessionClientError` if the fetch fails.
   * @param {string} kid
   * @returns {Promise<Key | null | undefined>}
   */
  async find(kid) {
    if (!this.has(kid)) {
      this.#note(kid);
      if (this.#mayFetch(kid)) await this.#load();
    }
    if (this.has(kid)) return this.#set.get(kid);
    return this.#isRefuted(kid) ? null : undefined;
  }

  /**
   * At that moment or later these were all keys of the service. What was fetched since then is newer.
   * @param {string[]} kids @param {number} asOf by `performance.now()`
   */
  listed(kids, asOf) {
    if (asOf < this.#fetchedAt) return;
    const all = new Set(kids);
    this.#listedAt = Math.max(this.#listedAt, asOf);
    this.#withdrawn = new Set([...this.#withdrawn, ...this.#set.keys()].filter((kid) => !all.has(kid)));
    this.#expected = new Set(kids.filter((kid) => !this.#set.has(kid)));
    this.#catchUp(Math.random() * SPREAD_MS);
  }

  /** The service has vouched for a token of this key. @param {string} kid */
  expect(kid) {
    if (!this.#set.has(kid)) this.#expected.add(kid);
    return this.#load();
  }

  /** Whether the service may be asked about a token of a key that is not known; once in a cooldown. */
  mayAsk() {
    if (performance.now() < this.#askedAt + this.cooldown) return false;
    this.#askedAt = performance.now();
    return true;
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#catchingUp);
  }

  /** By the clock that says more: one of them may have been set, the other may have slept. */
  get #age() {
    return Math.max(performance.now() - this.#fetchedAt, Date.now() - this.#fetchedAtWall);
  }

  /** A key that is listed and not here is worth more haste than one that only a token names. @param {string} kid */
  #mayFetch(kid) {
    if (this.#age >= this.maxAge) return true;
    if (this.#withdrawn.has(kid)) return false;
    const pause = this.#expected.has(kid) ? Math.min(RETRY_MS, this.cooldown) : this.cooldown;
    return performance.now() >= this.#fetchedAt + pause;
  }

  /** @param {string} kid */
  #isRefuted(kid) {
    if (this.#withdrawn.has(kid)) return true;
    if (this.#set.has(kid)) return this.#set.get(kid) === undefined; // of another kind; else the set is too old to tell
    const since = this.#strangers.get(kid) ?? performance.now();
    return !this.#expected.has(kid) && since <= Math.max(this.#fetchedAt, this.#listedAt);
  }

  /** @param {string} kid @param {number} since */
  #note(kid, since = performance.now()) {
    if (this.#strangers.has(kid)) return;
    if (this.#strangers.size >= MOST_STRANGERS) this.#strangers.delete(this.#strangers.keys().next().value ?? "");
    this.#strangers.set(kid, since);
  }

  /**
   * Fetch until every key that is listed is here; less and less often, in the end once in a cooldown.
   * @param {number} ms
   */
  #catchUp(ms) {
    if (this.#expected.size === 0 || this.#catchingUp !== undefined || this.#closed) return;
    this.#catchingUp = setTimeout(async () => {
      if (this.#expected.size > 0) await this.#load().catch(() => {});
      this.#catchingUp = undefined;
      this.#tries = this.#expected.size > 0 ? this.#tries + 1 : 0;
      this.#catchUp(Math.max(RETRY_MS, Math.min(RETRY_MS * 2 ** this.#tries, this.cooldown)));
    }, ms);
    this.#catchingUp.unref?.();
  }

  /** Fetch now, or wait for the fetch under way; soon after one that failed, fail at once. */
  #load() {
    this.#fetching ??= this.#fetchSet().finally(() => (this.#fetching = undefined));
    return this.#fetching;
  }

  async #fetchSet() {
    const askedAt = performance.now();
    const askedAtWall = Date.now();
    let found;
    try {
      const hasFailed = this.#triedAt > this.#fetchedAt;
      if (hasFailed && askedAt < this.#triedAt + RETRY_MS) throw new Error("a fetch has just failed");
      this.#triedAt = askedAt;
      const headers = { Accept: "application/json", "Cache-Control": "no-cache" };
      found = await this.#breaker.run(async (signal) => {
        const answer = await this.#fetch(this.#url, { headers, signal, redirect: "manual" });
        const text = await answer.text();
        return answer.status === 200 ? imported(text) : undefined;
      }, this.timeout, KEYS);
      if (found === undefined) throw new TypeError("the answer is not a key set");
    } catch (cause) {
      if (cause instanceof TypeError) this.#breaker.failed("its public keys cannot be read", KEYS);
      throw new SessionClientError("service_unavailable", "the public keys cannot be read", cause);
    }
    this.#breaker.answered(KEYS);
    for (const kid of this.#set.keys()) if (!found.has(kid)) this.#note(kid, -Infinity);
    for (const kid of found.keys()) this.#expected.delete(kid);
    this.#set = found;
    this.#fetchedAt = askedAt;
    this.#fetchedAtWall = askedAtWall;
  }
}

/**
 * All that a set names; what is of another kind is for others (RFC 7517 §5). `undefined` if the text is not a key set.
 * @param {string} text @returns {Promise<Map<string, Key | undefined> | undefined>}
 */
async function imported(text) {
  const keys = keysIn(text);
  if (!Array.isArray(keys) || !keys.every((jwk) => typeof jwk === "object" && jwk !== null)) return undefined;
  const named = keys.filter((jwk) => typeof jwk.kid === "string");
  return new Map(await Promise.all(named.map(async (jwk) => /** @type {[string, Key | undefined]} */ ([jwk.kid, await keyOf(jwk)]))));
}

/** @param {string} text @returns {any} */
function keysIn(text) {
  try {
    return JSON.parse(text)?.keys;
  } catch {
    return undefined;
  }
}

/** @param {any} jwk @returns {Promise<Key | undefined>} */
async function keyOf({ kty, crv, x, use = "sig" }) {
  if (kty !== "OKP" || crv !== "Ed25519" || use !== "sig") return undefined;
  return importJWK({ kty, crv, x }, "EdDSA").catch(() => undefined);
}
