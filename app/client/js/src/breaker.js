import { SessionClientError } from "./errors.js";

const TIMEOUT_MS = 5_000;
const REPEAT_MS = 60_000;

/**
 * Circuit breaker for calls to the service. A time-out opens it: calls are then refused at once, while one call at a
 * time probes the service in the background. Any response closes it. An outage is logged once when it begins, at most
 * once a minute while it lasts, and once when it ends.
 */
export class Breaker {
  #isOpen = false;
  #isProbing = false;
  #answeredAt = -Infinity;
  #loggedAt = -Infinity;
  /** When the outage began that was logged. @type {number | undefined} */ #beganAt;

  /**
   * The response to a call. Rejects with `service_unavailable` if there is none.
   * @template T
   * @param {(signal: AbortSignal) => Promise<T>} call
   * @param {number} [limitMs]
   * @returns {Promise<T>}
   */
  async run(call, limitMs = TIMEOUT_MS) {
    if (!this.#isOpen) return this.#attempt(call, limitMs);
    if (!this.#isProbing) {
      this.#isProbing = true;
      this.#attempt(call, limitMs)
        .catch(() => {})
        .finally(() => (this.#isProbing = false));
    }
    throw new SessionClientError("service_unavailable", "the session service does not answer in time");
  }

  /** The service has sent something that only it can send. */
  answered() {
    this.#close();
    if (this.#beganAt === undefined) return;
    console.warn(`session-client: the session service is available again after ${this.#seconds} s`);
    this.#beganAt = undefined;
  }

  /** A call failed. @param {string} reason */
  failed(reason) {
    const now = performance.now();
    if (now < this.#loggedAt + REPEAT_MS) return;
    this.#loggedAt = now;
    const since = this.#beganAt === undefined ? "is not available" : `has not been available for ${this.#seconds} s`;
    this.#beganAt ??= now;
    console.warn(`session-client: the session service ${since}: ${reason}`);
  }

  get #seconds() {
    return Math.round((performance.now() - (this.#beganAt ?? 0)) / 1000);
  }

  #close() {
    this.#isOpen = false;
    this.#answeredAt = performance.now();
  }

  /** @template T @param {(signal: AbortSignal) => Promise<T>} call @param {number} limitMs @returns {Promise<T>} */
  async #attempt(call, limitMs) {
    const began = performance.now();
    const signal = AbortSignal.timeout(limitMs);
    try {
      const answer = await call(signal);
      this.#close();
      return answer;
    } catch (cause) {
      this.#isOpen = signal.aborted && (this.#isOpen || began >= this.#answeredAt);
      const reason = signal.aborted ? "does not answer in time" : "cannot be reached";
      this.failed(`it ${reason}`);
      throw new SessionClientError("service_unavailable", `the session service ${reason}`, cause);
    }
  }
}
