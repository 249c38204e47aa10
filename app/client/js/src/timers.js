/**
 * Call `act` again and again; a timer keeps no process alive.
 * @param {number} ms
 * @param {() => unknown} act
 * @returns {() => void} ends it
 */
export function every(ms, act) {
  const timer = setInterval(act, Math.min(ms, 0x7fffffff)); // beyond it engines fire at once
  /** @type {any} */ (timer).unref?.();
  return () => clearInterval(timer);
}

/**
 * Returns after `ms`, or at once when the signal says so.
 * @param {number} ms
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
    if (signal.aborted) done();
  });
}

/**
 * Settles as the promise does, or resolves after `ms` if that is earlier.
 * @param {Promise<void>} promise
 * @param {number} ms
 * @returns {Promise<void>}
 */
export async function within(promise, ms) {
  /** @type {any} */ let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, Math.min(ms, 0x7fffffff));
  });
  await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
