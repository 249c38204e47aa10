import { SILENCE } from "./api.js";
import { EVENTS } from "./breaker.js";
import { SessionClientError } from "./errors.js";
import { EventStream } from "./sse.js";
import { every, pause } from "./timers.js";

/** @typedef {import("./ledger.js").FeedEvent} FeedEvent */

const STREAM = "text/event-stream";
/** While it catches up the service says every second that it is there; what the network does takes longer at times. */
const SNAPSHOT_MS = 60_000;
const RESUME_MS = 15_000;
/** Heartbeats come at least every 5 s: after a longer silence nobody is at the other end. */
const SILENCE_MS = 6_000;
const UNDER_WAY_MS = 2_000;
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 5_000;
const LONGEST_RETRY_AFTER_MS = 30_000;
/** As long past their time ends and changes are kept, so that smaller steps of the wall clock lose none. */
const STEP_MS = 60_000;

/**
 * Follows the stream of events for as long as it is open: from a snapshot at first, from the last cursor after a break.
 *
 * `lag` never flatters. It counts on the monotonic clock from the last heartbeat, and when this process stood still,
 * the connection is given up: what waited in it was sent before, and proves nothing about the time since.
 */
export class Feed {
  #api;
  #hear;
  #maxMs;
  /** @type {string | null} */ #cursor = null;
  #beatAt = -Infinity;
  #behindMs = 0;
  #askedAt = 0;
  #whole = false;
  #failures = 0;
  #lookedAt = performance.now();
  #lookedAtWall = Date.now();
  #aheadMs = Date.now() - performance.now();
  #byteAt = Infinity;
  #patienceMs = SNAPSHOT_MS;
  #round = new AbortController();
  #running = Promise.resolve();
  #closed = false;
  #stop = () => {};
  /** @type {{resolve: () => void, reject: (problem: Error) => void}[]} */ #waiting = [];
  /** What last ended a connection, until the next heartbeat. @type {unknown} */
  problem;

  /**
   * @param {import("./api.js").Api} api
   * @param {{event: (event: FeedEvent) => void, reset: () => void, keys: (kids: string[], asOf: number) => void}} hear
   *   `keys`: all there were at some moment not before `asOf`, by `performance.now()`
   * @param {number} maxMs how long ago the last heartbeat may be
   */
  constructor(api, hear, maxMs) {
    this.#api = api;
    this.#hear = hear;
    this.#maxMs = maxMs;
  }

  start() {
    this.#lookedAt = performance.now();
    this.#lookedAtWall = Date.now();
    this.#stop = every(Math.min(250, Math.max(25, this.#maxMs / 16)), () => this.#look());
    this.#running = this.#run();
  }

  async close() {
    this.#closed = true;
    this.#whole = false;
    this.#stop();
    this.#round.abort();
    this.#settle(new SessionClientError("service_unavailable", "the verifier is closed"));
    await this.#running;
  }

  /** Seconds since everything that had happened was known here; infinite before that was so, and once closed. */
  get lag() {
    return this.#whole ? (performance.now() - this.#beatAt + this.#behindMs) / 1000 : Infinity;
  }

  get fresh() {
    this.#look();
    return this.#whole && this.#lookedAt - this.#beatAt + this.#behindMs <= this.#maxMs;
  }

  /** Resolves at a heartbeat. Rejects when the key is refused or the feed is closed. @returns {Promise<void>} */
  ready() {
    if (this.fresh) return Promise.resolve();
    if (this.#closed) return Promise.reject(new SessionClientError("service_unavailable", "the verifier is closed"));
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /** Begin again with a snapshot. */
  resync() {
    this.#cursor = null;
    this.#round.abort();
  }

  async #run() {
    while (!this.#closed) {
      this.#round = new AbortController();
      const { signal } = this.#round;
      const waitMs = await this.#follow(signal);
      this.#byteAt = Infinity;
      await pause(waitMs, signal);
    }
  }

  /** One connection, until it ends. @param {AbortSignal} signal @returns {Promise<number>} how long to wait then */
  async #follow(signal) {
    this.#byteAt = this.#askedAt = performance.now();
    this.#patienceMs = Math.max(this.#cursor === null ? SNAPSHOT_MS : RESUME_MS, this.#maxMs);
    try {
      const answer = await this.#api.events(this.#cursor, signal);
      if (answer.status !== 200 || answer.body === null) return await this.#refused(answer);
      if (!(answer.headers.get("Content-Type") ?? STREAM).startsWith(STREAM)) {
        await answer.body.cancel();
        this.#api.breaker.failed("its answer is not an event stream", EVENTS);
        throw new TypeError("the answer is not an event stream");
      }
      await this.#read(answer.body.getReader(), signal);
    } catch (problem) {
      if (!signal.aborted) this.problem = problem;
    }
    return this.#backoff();
  }

  /** @param {ReadableStreamDefaultReader<Uint8Array>} reader @param {AbortSignal} signal */
  async #read(reader, signal) {
    const stream = new EventStream((message) => this.#take(message));
    const end = () => void reader.cancel().catch(() => {}); // it may have failed already
    signal.addEventListener("abort", end); // the body of somebody's own `fetch` may know nothing of the signal
    try {
      while (!signal.aborted) {
        const { done, value } = await reader.read();
        this.#look();
        if (done || signal.aborted) return;
        this.#byteAt = this.#lookedAt;
        stream.push(value);
      }
    } finally {
      end();
    }
  }

  /** @param {Response} answer */
  async #refused(answer) {
    await answer.body?.cancel();
    const code = answer.status === 401 || answer.status === 403 ? "invalid_api_key" : "service_unavailable";
    this.problem = new SessionClientError(code, `the event stream was answered with ${answer.status}`);
    if (code === "invalid_api_key") this.#settle(/** @type {Error} */ (this.problem));
    if ((answer.status === 422 || answer.status === 410) && this.#cursor !== null) {
      this.#cursor = null;
      return 0;
    }
    this.#api.breaker.failed(`the event stream was answered with ${answer.status}`, EVENTS);
    const asked = Number(answer.headers.get("Retry-After")) * 1000 || 0;
    return Math.max(this.#backoff(), Math.min(asked, LONGEST_RETRY_AFTER_MS));
  }

  #backoff() {
    return Math.random() * Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#failures++);
  }

  /** @param {{type: string, data: string, id: string}} message */
  #take({ type, data, id }) {
    if (type === "heartbeat") this.#beat(id, JSON.parse(data));
    else if (type === "reset") {
      this.#whole = false;
      this.#hear.reset();
    } else this.#hear.event(JSON.parse(data));
  }

  /**
   * `lag_ms` is how old it was when the service wrote it, which says nothing of the way here. `since_open_ms` is how long
   * after the stream was opened its moment was, and nobody can have opened it before it was asked for: that bound holds
   * however long the bytes were under way. Where it lags behind (a slow link, clocks that run apart), a new stream has a
   * new one; a bound ahead of the present is drawn back. `kids` are all keys after that moment. Older services say neither.
   * @param {string} cursor @param {{cursor?: unknown, lag_ms?: unknown, since_open_ms?: unknown, kids?: unknown}} said
   */
  #beat(cursor, { cursor: named, lag_ms: behindMs = 0, since_open_ms: sinceMs, kids }) {
    const isDated = typeof behindMs === "number" && behindMs >= 0 && (sinceMs === undefined || typeof sinceMs === "number");
    if (!isDated || cursor === "" || named !== cursor) throw new TypeError("a heartbeat without its place in time");
    if (kids !== undefined && !isListOfTexts(kids)) throw new TypeError("a heartbeat whose keys are no names");
    let wayMs = 0;
    if (sinceMs !== undefined) {
      this.#askedAt = Math.min(this.#askedAt, this.#lookedAt - behindMs - sinceMs);
      wayMs = this.#lookedAt - behindMs - sinceMs - this.#askedAt;
    }
    this.#cursor = cursor;
    this.#beatAt = this.#lookedAt;
    this.#behindMs = behindMs + wayMs;
    if (kids !== undefined) this.#hear.keys(kids, this.#beatAt - this.#behindMs);
    this.#whole = true;
    this.#failures = 0;
    this.#patienceMs = Math.max(SILENCE_MS, this.#maxMs);
    this.problem = undefined;
    this.#api.breaker.answered(EVENTS);
    this.#settle();
    if (wayMs > Math.max(UNDER_WAY_MS, this.#maxMs / 2)) this.#round.abort();
  }

  /** @param {Error} [problem] */
  #settle(problem) {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { resolve, reject } of waiting) problem === undefined ? resolve() : reject(problem);
  }

  /**
   * Read the clocks, and give up a connection that nobody served: this process stood still, or the other end is silent.
   * The wall clock counts what the monotonic one may leave out while the machine sleeps. When it has been set back,
   * something was forgotten that matters again: everything is read anew.
   */
  #look() {
    const now = performance.now();
    const wall = Date.now();
    const still = now - this.#lookedAt;
    const unseen = wall - this.#lookedAtWall - still;
    this.#lookedAt = now;
    this.#lookedAtWall = wall;
    const limit = this.#maxMs / 4;
    if (unseen > limit) this.#behindMs += unseen;
    this.#aheadMs = Math.max(this.#aheadMs, wall - now);
    if (wall - now < this.#aheadMs - STEP_MS) {
      this.#aheadMs = wall - now;
      this.#whole = false;
      this.resync();
    }
    if (Math.max(still, unseen) > limit) this.#round.abort();
    else if (now - this.#byteAt > this.#patienceMs) this.#round.abort(SILENCE);
  }
}

/** @param {unknown} value @returns {value is string[]} */
function isListOfTexts(value) {
  return Array.isArray(value) && value.every((one) => typeof one === "string");
}
