import { createRemoteJWKSet, customFetch, jwksCache } from "jose";

/** Errors of jose that say something about the token; all others are about the key list. */
const ABOUT_THE_TOKEN = new Set([
  "ERR_JWKS_NO_MATCHING_KEY",
  "ERR_JWS_INVALID",
  "ERR_JWS_SIGNATURE_VERIFICATION_FAILED",
  "ERR_JOSE_ALG_NOT_ALLOWED",
]);

/** @param {unknown} error */
export function isAboutTheToken(error) {
  return ABOUT_THE_TOKEN.has(/** @type {{code: string}} */ (error)?.code);
}

/**
 * The issuer's public keys under the rules of jose's `createRemoteJWKSet`: a list is used for `cacheMaxAge`, an unknown
 * key asks for a new one at most every `cooldownDuration`, one fetch at a time. It adds a refresh in the background
 * when the list has reached 4/5 of that age, and the question whether a key is still listed.
 */
export class Keys {
  /** @type {{jwks?: {keys: {kid?: string}[]}, uat?: number}} jose writes here what it has fetched */ #cache = {};
  /** @type {object | undefined} */ #read;
  /** @type {Set<string | undefined>} */ #kids = new Set();
  #triedAt = -Infinity;

  /**
   * @param {string} url
   * @param {typeof fetch} fetch
   * @param {import("../index.d.ts").KeyOptions} options
   */
  constructor(url, fetch, options) {
    this.maxAge = options.cacheMaxAge ?? 600_000;
    this.cooldown = options.cooldownDuration ?? 30_000;
    /** For jose: finds the key of a header. */
    this.find = createRemoteJWKSet(new URL(url), {
      timeoutDuration: options.timeoutDuration ?? 5_000,
      cooldownDuration: this.cooldown,
      cacheMaxAge: this.maxAge,
      [customFetch]: fetch,
      [jwksCache]: /** @type {any} */ (this.#cache),
    });
  }

  /** Whether a list that is young enough names the key. Never waits. @param {string} kid */
  list(kid) {
    if (!this.find.fresh) return false;
    if (this.#cache.jwks !== this.#read) {
      this.#read = this.#cache.jwks;
      this.#kids = new Set(this.#cache.jwks?.keys.map((key) => key.kid));
    }
    this.#refreshInTime();
    return this.#kids.has(kid);
  }

  #refreshInTime() {
    const now = Date.now();
    if (now - (this.#cache.uat ?? now) < this.maxAge * 0.8 || this.find.reloading) return;
    if (now - this.#triedAt < this.cooldown) return;
    this.#triedAt = now;
    this.find.reload().catch(() => {}); // the list stays good until its age is reached; then the fetch is awaited
  }
}
