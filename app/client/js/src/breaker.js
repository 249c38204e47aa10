import { SessionClientError } from "./errors.js";

const TIMEOUT_MS = 5_000;
const REPEAT_MS = 60_000;
/** Of a timer: beyond it engines fire at once. */
const LONGEST_MS = 0x7fffffff;

/**
 * What a call needs of the service, in ascending order: a success ends an outage of its own kind and of lesser ones.
 * Public keys are answered from memory even where the service's store is away.
 */
export const KEYS = 1;
export const CALLS = 2;
export const EVENTS = 3;

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
  #kind = 0;

  /**
   * The response to a call. Rejects with `service_unavailable` if there is none.
   * @template T
   * @param {(signal: AbortSignal) => Promise<T>} call
   * @param {number} [limitMs]
   * @param {number} [kind]
   * @returns {Promise<T>}
   */
  async run(call, limitMs = TIMEOUT_MS, kind = CALLS) {
    if (!this.#isOpen) return this.#attempt(call, limitMs, kind);
    if (!this.#isProbing) {
      this.#isProbing = true;
      this.#attempt(call, limitMs, kind)
        .catch(() => {})
        .finally(() => (this.#isProbing = false));
    }
    throw new SessionClientError("service_unavailable", "the session service does not answer in time");
  }

  /** The service has sent something that only it can send. @param {number} kind */
  answered(kind = CALLS) {
    this.#close();
    if (kind < this.#kind) return;
    this.#kind = 0;
    if (this.#beganAt === undefined) return;
    console.warn(`session-client: the session service is available again after ${this.#seconds} s`);
    this.#beganAt = undefined;
  }

  /** A call failed. @param {string} reason @param {number} kind */
  failed(reason, kind = CALLS) {
    this.#kind = Math.max(this.#kind, kind);
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

  /** @template T @param {(signal: AbortSignal) => Promise<T>} call @param {number} limitMs @param {number} kind @returns {Promise<T>} */
  async #attempt(call, limitMs, kind) {
    const began = performance.now();
    const signal = AbortSignal.timeout(Math.min(Math.ceil(limitMs), LONGEST_MS));
    try {
      const answer = await Promise.race([call(signal), aborted(signal)]);
      this.#close();
      return answer;
    } catch (cause) {
      this.#isOpen = signal.aborted && (this.#isOpen || began >= this.#answeredAt);
      const reason = signal.aborted ? "does not answer in time" : "cannot be reached";
      this.failed(`it ${reason}`, kind);
      throw new SessionClientError("service_unavailable", `the session service ${reason}`, cause);
    }
  }
}

/** Rejects when the time is over, for somebody's own `fetch` may know nothing of the signal. @param {AbortSignal} signal @returns {Promise<never>} */
function aborted(signal) {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true }));
}
