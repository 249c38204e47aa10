import { SessionClientError } from "./errors.js";

const TIMEOUT_MS = 5_000;

/** The calls to the service that carry the tenant's key. No redirect is followed with it. */
export class Api {
  #key;
  #fetch;

  /** @param {string} url @param {string} key @param {typeof fetch} fetch */
  constructor(url, key, fetch) {
    this.url = url;
    this.#key = key;
    this.#fetch = fetch;
  }

  /**
   * The open stream of events after a cursor, or from a snapshot on.
   * @param {string | null} cursor
   * @param {AbortSignal} signal
   */
  events(cursor, signal) {
    /** @type {Record<string, string>} */
    const headers = { Accept: "text/event-stream", ...(cursor === null ? {} : { "Last-Event-ID": cursor }) };
    return this.#call(cursor === null ? "/v1/events?snapshot=true" : "/v1/events", { headers, signal });
  }

  /** The living session of a good token. Raises `SessionClientError`. @param {string} token */
  async verify(token) {
    const { valid, session, error } = await this.#post("/v1/sessions/verify", { token });
    if (valid === true) return session;
    throw new SessionClientError(codeOf(error?.code), error?.message);
  }

  /** @param {string[]} sessionIds */
  async report(sessionIds) {
    await this.#post("/v1/sessions/activity", { session_ids: sessionIds });
  }

  /** @param {string} path @param {object} body @returns {Promise<any>} */
  async #post(path, body) {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const headers = { "Content-Type": "application/json" };
    try {
      const answer = await this.#call(path, { method: "POST", headers, body: JSON.stringify(body), signal });
      if (answer.status === 200) return await answer.json();
      await answer.body?.cancel();
      throw new SessionClientError(answer.status === 401 ? "invalid_api_key" : "service_unavailable");
    } catch (cause) {
      throw cause instanceof SessionClientError
        ? cause
        : new SessionClientError("service_unavailable", undefined, cause);
    }
  }

  /** @param {string} path @param {RequestInit & {headers: Record<string, string>}} init */
  #call(path, init) {
    const headers = { Authorization: `Bearer ${this.#key}`, ...init.headers };
    return this.#fetch(this.url + path, { ...init, headers, redirect: "manual" });
  }
}

/** @param {string | undefined} code */
function codeOf(code) {
  if (code === "token_expired") return "token_expired";
  return code?.startsWith("session_") ? "session_revoked" : "invalid_token";
}
