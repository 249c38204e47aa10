import { pack } from "./session_id.js";

const WORDS = 5;
const SMALLEST = 1_024;
const LATEST = 0xffffffff;

/**
 * The ids of ended sessions until their `not_after`, exactly: an open-addressed table in one typed array, so that a
 * million entries cost neither objects nor work for the garbage collector. A slot is an id of four words and its
 * `not_after` in seconds; zero there means free.
 */
export class Denylist {
  /** @type {Uint32Array} */ #slots = new Uint32Array(SMALLEST * WORDS);
  #mask = SMALLEST - 1;
  #size = 0;
  #purgedAt = -Infinity;
  #key = new Uint32Array(4);

  /** @param {number} most */
  constructor(most) {
    this.most = most;
  }

  get size() {
    return this.#size;
  }

  /**
   * `false` means that the entry found no room among others that still matter.
   * @param {string} sid
   * @param {number} notAfter seconds
   * @param {number} now seconds
   */
  add(sid, notAfter, now) {
    if (notAfter < now) return true;
    if (this.#size >= this.most && now > this.#purgedAt) this.purge(now);
    if ((this.#size + 1) * 4 > (this.#mask + 1) * 3) this.#rebuild(now);
    pack(sid, this.#key);
    const at = this.#find(this.#key);
    const known = this.#slots[at + 4];
    if (known === 0 && this.#size >= this.most) return false;
    if (known === 0) this.#put(at, this.#key, Math.min(notAfter, LATEST));
    else this.#slots[at + 4] = Math.min(Math.max(notAfter, known), LATEST);
    return true;
  }

  /** @param {string} sid */
  has(sid) {
    pack(sid, this.#key);
    return this.#slots[this.#find(this.#key) + 4] !== 0;
  }

  /** Forget what has passed its `not_after`, once that is worth the work. @param {number} now seconds */
  purge(now) {
    this.#purgedAt = now;
    let passed = 0;
    for (let at = 4; at < this.#slots.length; at += WORDS) {
      if (this.#slots[at] !== 0 && this.#slots[at] < now) passed++;
    }
    if (passed * 8 > this.#size) this.#rebuild(now);
  }

  /** @param {Uint32Array} key @returns {number} where it is, or the free slot where it belongs */
  #find(key) {
    const slots = this.#slots;
    for (let slot = key[3] & this.#mask; ; slot = (slot + 1) & this.#mask) {
      const at = slot * WORDS;
      if (slots[at + 4] === 0) return at;
      if (slots[at + 3] === key[3] && slots[at + 2] === key[2] && slots[at + 1] === key[1] && slots[at] === key[0]) {
        return at;
      }
    }
  }

  /** @param {number} at @param {Uint32Array} key @param {number} notAfter */
  #put(at, key, notAfter) {
    this.#slots.set(key, at);
    this.#slots[at + 4] = notAfter;
    this.#size++;
  }

  /** A table of the right size with the entries that still matter. @param {number} now */
  #rebuild(now) {
    const old = this.#slots;
    let living = 0;
    for (let at = 4; at < old.length; at += WORDS) if (old[at] >= now && old[at] !== 0) living++;
    let capacity = SMALLEST;
    while ((living + 1) * 4 > capacity * 3) capacity *= 2;
    this.#slots = new Uint32Array(capacity * WORDS);
    this.#mask = capacity - 1;
    this.#size = 0;
    for (let at = 0; at < old.length; at += WORDS) {
      if (old[at + 4] < now || old[at + 4] === 0) continue;
      const key = old.subarray(at, at + 4);
      this.#put(this.#find(key), key, old[at + 4]);
    }
  }
}
