/** What a view shows: read, read again, kept while the server is away. */
import { BACKGROUND, call } from "./door.js";
import { useDesk } from "./desk.js";
import { useEffect, useState } from "./html.js";

const RETRY_MS = 2_000;

/**
 * The answer to a GET. `path` null: nothing is asked. With `every` (ms) it is asked again while the page is looked at,
 * and after a failure that may pass in any case; what was there stays, with the `problem` beside it.
 * @returns {{data: any, problem: Error | null, at: number, again: () => void}}
 */
export function useResource(path, { every = 0, tenant: other } = {}) {
  const desk = useDesk();
  const tenant = other === undefined ? desk.tenantHeader : other;
  const key = `${tenant} ${path}`;
  const [turn, next] = useState(0);
  const [state, set] = useState({ key, data: null, problem: null, at: 0 });
  useEffect(() => {
    if (path === null) return undefined;
    const stop = new AbortController();
    repeat(stop.signal, every, (headers) => call("GET", path, { tenant, headers, signal: stop.signal }), {
      got: (data) => set({ key, data, problem: null, at: Date.now() }),
      failed: (problem) => set((was) => (was.key === key ? { ...was, problem } : { key, data: null, problem, at: 0 })),
    });
    return () => stop.abort();
  }, [key, every, turn]);
  const own = state.key === key ? state : { data: null, problem: null, at: 0 };
  return { data: own.data, problem: own.problem, at: own.at, again: () => next((n) => n + 1) };
}

async function repeat(signal, every, ask, { got, failed }) {
  let headers = {};
  while (!signal.aborted) {
    let wait = every;
    try {
      const data = await ask(headers);
      if (signal.aborted) return;
      got(data);
    } catch (problem) {
      if (signal.aborted) return;
      failed(problem);
      wait = problem.passing ? Math.max(problem.retryMs ?? 0, every, RETRY_MS) : 0;
    }
    if (!wait) return;
    headers = BACKGROUND;
    await pause(wait, signal);
    await looked(signal);
  }
}

/** After `ms`, or when the signal stops it. */
export function pause(ms, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
  });
}

/** Once the page is in front. */
function looked(signal) {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => {
    document.addEventListener("visibilitychange", done, { once: true, signal });
    signal.addEventListener("abort", done, { once: true });
  });
}
