import { Breaker, EVENTS } from "./breaker.js";
import { SessionClientError } from "./errors.js";
import { isSessionId } from "./session_id.js";

/** Why `Feed` gives up a connection on which nothing arrives. */
export const SILENCE = new Error("nothing has arrived for too long");

/** What the service's own codes are called here; any other is `invalid_token`. */
const CODES = /** @type {const} */ ({
  token_expired: "token_expired",
  session_revoked: "session_revoked",
  session_expired: "session_revoked",
  session_not_found: "session_revoked",
});

/**
 * The calls to the service that carry the tenant's key. No redirect is followed with it. A response that has not the
 * form of ours, as a proxy may send it, means that the service is not available.
 */
export class Api {
  #key;
  #fetch;

  /** @param {string} url @param {string} key @param {typeof fetch} fetch @param {Breaker} breaker */
  constructor(url, key, fetch, breaker = new Breaker()) {
    this.url = url;
    this.breaker = breaker;
    this.#key = key;
    this.#fetch = fetch;
  }

  /**
   * The open stream of events after a cursor, or from a snapshot on.
   * @param {string | null} cursor
   * @param {AbortSignal} signal
   */
  async events(cursor, signal) {
    /** @type {Record<string, string>} */
    const headers = { Accept: "text/event-stream", ...(cursor === null ? {} : { "Last-Event-ID": cursor }) };
    try {
      return await this.#call(cursor === null ? "/v1/events?snapshot=true" : "/v1/events", { headers, signal });
    } catch (cause) {
      if (!signal.aborted || signal.reason === SILENCE) this.breaker.failed("the event stream broke", EVENTS);
      throw cause;
    }
  }

  /**
   * The living session of a good token; of this session, where it is known. Raises `SessionClientError`.
   * @param {string} token @param {string} [sid]
   */
  async verify(token, sid) {
    const verdict = await this.#post("/v1/sessions/verify", { token });
    const code = verdict?.valid === false ? verdict.error?.code : undefined;
    const isVerdict = typeof code === "string" || (verdict?.valid === true && isSession(verdict.session, sid));
    if (!isVerdict) throw this.#strange("a verification");
    this.breaker.answered();
    if (code === undefined) return verdict.session;
    throw new SessionClientError(CODES[/** @type {keyof typeof CODES} */ (code)] ?? "invalid_token");
  }

  /** @param {string[]} sessionIds */
  async report(sessionIds) {
    const said = await this.#post("/v1/sessions/activity", { session_ids: sessionIds });
    if (!Number.isInteger(said?.accepted)) throw this.#strange("a report of activity");
    this.breaker.answered();
  }

  /** @param {string} path @param {object} body @returns {Promise<any>} the JSON of an answer 200 */
  async #post(path, body) {
    const headers = { "Content-Type": "application/json" };
    const { status, said } = await this.breaker.run(async (signal) => {
      const answer = await this.#call(path, { method: "POST", headers, body: JSON.stringify(body), signal });
      const text = await answer.text();
      return { status: answer.status, said: answer.status === 200 ? parsed(text) : undefined };
    });
    if (status === 200) return said;
    this.breaker.failed(`it answers ${status} to ${path}`);
    throw new SessionClientError(status === 401 ? "invalid_api_key" : "service_unavailable");
  }

  /** @param {string} what */
  #strange(what) {
    this.breaker.failed(`its response to ${what} has an unknown form`);
    return new SessionClientError("service_unavailable", "the response is not one of the session service");
  }

  /** @param {string} path @param {RequestInit & {headers: Record<string, string>}} init */
  #call(path, init) {
    const headers = { Authorization: `Bearer ${this.#key}`, ...init.headers };
    return this.#fetch(this.url + path, { ...init, headers, redirect: "manual" });
  }
}

/** The value of a JSON text; `undefined` if it is none. @param {string} text @returns {any} */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Whether this is a session of the service, and this one where its id is known. @param {any} said @param {string} [sid] */
function isSession(said, sid) {
  const { id, role, org_id, mfa_verified, claims } = said ?? {};
  return (
    isSessionId(id) &&
    (sid === undefined || id === sid) &&
    [role, org_id].every((text) => text == null || typeof text === "string") &&
    (mfa_verified == null || typeof mfa_verified === "boolean") &&
    (claims == null || (typeof claims === "object" && !Array.isArray(claims)))
  );
}
