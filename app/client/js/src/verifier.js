import { compactVerify } from "jose";
import { Activity } from "./activity.js";
import { Api } from "./api.js";
import { Cache } from "./cache.js";
import { SessionClientError } from "./errors.js";
import { Feed } from "./feed.js";
import { Keys } from "./keys.js";
import { changedBy, Ledger, overlaid } from "./ledger.js";
import { read } from "./options.js";
import { createdMs } from "./session_id.js";
import { every, within } from "./timers.js";
import { checked, frozen, gate, invalid, objectOf, withAliases } from "./token.js";

/** @typedef {import("../index.d.ts").Claims} Claims */

const PURGE_EVERY_MS = 60_000;

/** @type {import("../index.d.ts").createVerifier} */
export function createVerifier(options) {
  return new Verifier(read(options));
}

/** Answers from memory; knows what the feed said; past `maxStaleness` does as `onStale` says. */
class Verifier {
  #options;
  #api;
  #keys;
  #ledger;
  #cache;
  #feed;
  #activity;
  #started = false;
  #closed = false;
  #stop = () => {};

  /** @param {ReturnType<typeof read>} options */
  constructor(options) {
    this.#options = options;
    this.#api = new Api(options.url, options.apiKey, options.fetch);
    const { breaker } = this.#api;
    this.#keys = new Keys(`${options.url}/.well-known/jwks.json`, options.fetch, options.keys, breaker);
    this.#ledger = new Ledger(options.tenantId, options.maxRevocations, options.maxUpdates);
    this.#cache = new Cache(options.maxTokens);
    const hear = {
      event: this.#hear.bind(this),
      reset: () => this.#ledger.restart(),
      keys: this.#keys.listed.bind(this.#keys),
    };
    this.#feed = new Feed(this.#api, hear, options.maxStaleness * 1000);
    this.#activity = new Activity((ids) => this.#api.report(ids), options.reportEvery * 1000);
  }

  get lag() {
    return this.#ledger.complete ? this.#feed.lag : Infinity;
  }

  get fresh() {
    return this.#feed.fresh && this.#ledger.complete;
  }

  ready() {
    this.#start();
    return within(this.#feed.ready(), this.#options.startTimeout * 1000);
  }

  /** @param {string | null | undefined} token @returns {Promise<Claims>} */
  async verify(token) {
    this.#start();
    if (!token) throw new SessionClientError("missing_token");
    if (typeof token !== "string") throw invalid("the token is not a string");
    let verified = this.#cache.get(token);
    if (verified === undefined || !this.#keys.has(verified.kid)) verified = await this.#read(token);
    const { claims } = verified;
    const expired = claims.exp * 1000 <= Date.now();
    if (expired || this.#ledger.hasEnded(claims.session_id, verified.created)) {
      this.#cache.drop(token);
      throw new SessionClientError(expired ? "token_expired" : "session_revoked");
    }
    if (!this.fresh && this.#options.onStale !== "allow") return this.#ask(token, verified);
    this.#activity.note(claims.session_id);
    return this.#shown(verified);
  }

  async close() {
    this.#started = this.#closed = true;
    this.#stop();
    this.#keys.close();
    await this.#feed.close();
    await this.#activity.close();
  }

  #start() {
    if (this.#started) return;
    this.#started = true;
    this.#feed.start();
    this.#activity.start();
    this.#stop = every(PURGE_EVERY_MS, () => this.#purge());
  }

  /** @param {string} token @returns {Promise<import("./cache.js").Verified>} */
  async #read(token) {
    const kid = gate(token);
    const found = await this.#keys.find(kid);
    const key = found === undefined ? await this.#vouchedFor(kid, token) : found;
    if (key === null) throw invalid("the key is not known");
    const { payload } = await compactVerify(token, key, { algorithms: ["EdDSA"] }).catch((cause) => {
      throw invalid("the signature is not valid", cause);
    });
    const now = Math.floor(Date.now() / 1000);
    const { issuer, tenantId } = this.#options;
    const claims = frozen(withAliases(checked(objectOf(payload), issuer, tenantId, now)));
    const verified = { claims, kid, created: createdMs(claims.session_id), shown: claims };
    this.#cache.put(token, verified);
    return verified;
  }

  /**
   * A token may be good whose key is newer than what is known here. Who may ask the service does so once in a cooldown:
   * an inventor of keys costs no more. Nobody's signature is taken on trust.
   * @param {string} kid @param {string} token
   */
  async #vouchedFor(kid, token) {
    const unsettled = new SessionClientError("verifier_stale", "the token's key is not known yet");
    if (this.#closed || this.#options.onStale !== "ask" || !this.#keys.mayAsk()) throw unsettled;
    await this.#api.verify(token);
    await this.#keys.expect(kid);
    const key = await this.#keys.find(kid);
    if (!key) throw unsettled;
    return key;
  }

  /** The claims with what has changed since the token was signed. @param {import("./cache.js").Verified} verified */
  #shown(verified) {
    const update = this.#ledger.updateOf(verified.claims.session_id, verified.claims.iat);
    if (update !== verified.update) {
      verified.update = update;
      verified.shown = update === undefined ? verified.claims : overlaid(verified.claims, update.changed);
    }
    return verified.shown;
  }

  /** What the service says now. @param {string} token @param {import("./cache.js").Verified} verified */
  async #ask(token, { claims, created }) {
    if (this.#options.onStale === "refuse") {
      throw new SessionClientError("verifier_stale", undefined, this.#feed.problem);
    }
    if (this.#closed) throw new SessionClientError("service_unavailable", "the verifier is closed");
    const session = await this.#api.verify(token, claims.session_id);
    if (this.#ledger.hasEnded(claims.session_id, created)) throw new SessionClientError("session_revoked");
    return overlaid(claims, changedBy(session));
  }

  /** @param {import("./ledger.js").FeedEvent} event */
  #hear(event) {
    this.#ledger.apply(event);
    if (event.type === "tenant.revoked") this.#cache.clear();
    else if (event.type !== "session.updated" && event.session_id) this.#cache.evict(event.session_id);
  }

  #purge() {
    this.#ledger.purge(Math.floor(Date.now() / 1000));
    if (!this.#ledger.complete && this.#ledger.hasRoom) this.#feed.resync();
  }
}
