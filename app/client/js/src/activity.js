import { every } from "./timers.js";

const MOST_A_CALL = 500;
const MOST_WAITING = 50_000;

/**
 * Tells the service which sessions were seen in use, each at most once per interval. What fails is tried once more
 * with the next report and then dropped: it only moves `last_active_at`.
 */
export class Activity {
  /** @type {Set<string>} */ #seen = new Set();
  /** @type {Set<string>} */ #again = new Set();
  /** @type {Promise<void>} */ #sending = Promise.resolve();
  #stop = () => {};

  /** @param {(sessionIds: string[]) => Promise<void>} send @param {number} everyMs 0 is never */
  constructor(send, everyMs) {
    this.send = send;
    this.everyMs = everyMs;
  }

  start() {
    if (this.everyMs > 0) this.#stop = every(this.everyMs, () => this.flush());
  }

  /** @param {string} sid */
  note(sid) {
    if (this.everyMs > 0 && this.#seen.size < MOST_WAITING) this.#seen.add(sid);
  }

  /** Returns once everything that waits has been sent or dropped. */
  flush() {
    this.#sending = this.#sending.then(() => this.#report());
    return this.#sending;
  }

  close() {
    this.#stop();
    return this.flush();
  }

  async #report() {
    const fresh = this.#seen;
    const all = [...new Set([...this.#again, ...fresh])];
    this.#seen = new Set();
    this.#again = new Set();
    for (let start = 0; start < all.length; start += MOST_A_CALL) {
      const batch = all.slice(start, start + MOST_A_CALL);
      await this.send(batch).catch(() => batch.forEach((sid) => fresh.has(sid) && this.#again.add(sid)));
    }
  }
}
