/** The event feed over fetch: unlike EventSource it can say which tenant is meant. */
import { BACKGROUND, open } from "./door.js";
import { pause } from "./resource.js";

const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 15_000;
const SILENCE_MS = 15_000;

/**
 * Follow until the signal stops it, coming back to where it was after each break.
 * @param {{tenant?: string, signal: AbortSignal, state: (state: "live" | "broken", problem?: Error) => void,
 *   event: (type: string, data: any) => void}} options `event` also gets `heartbeat` and `reset`
 */
export async function follow({ tenant, signal, state, event }) {
  let cursor = "";
  let headers = {}; // to open the view is use of it, to come back to it is not
  let retry = FIRST_RETRY_MS;
  while (!signal.aborted) {
    try {
      await listen(tenant, signal, { ...headers, ...(cursor && { "Last-Event-ID": cursor }) }, (message) => {
        state("live");
        retry = FIRST_RETRY_MS;
        if (message.id) cursor = message.id;
        event(message.type, JSON.parse(message.data));
      });
      state("broken");
    } catch (problem) {
      if (signal.aborted) return;
      if (problem.status === 410 || problem.status === 422) cursor = "";
      state("broken", problem);
      if (problem.status === 401 || problem.status === 403 || problem.status === 404) return;
    }
    headers = BACKGROUND;
    await pause(retry, signal);
    retry = Math.min(2 * retry, LAST_RETRY_MS);
  }
}

/** One connection. The server is heard of every five seconds; a silent one is given up. */
async function listen(tenant, signal, more, give) {
  const stop = new AbortController();
  const given = AbortSignal.any([signal, stop.signal]);
  let timer = setTimeout(() => stop.abort(), SILENCE_MS);
  try {
    const headers = { Accept: "text/event-stream", ...more };
    const body = await open("/v1/events", { tenant, headers, signal: given });
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    const lines = messages(give);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => stop.abort(), SILENCE_MS);
      lines(value);
    }
  } finally {
    clearTimeout(timer);
    stop.abort();
  }
}

/** Text cut anywhere → messages (WHATWG HTML, "Server-sent events"; our server ends its lines with LF). */
function messages(give) {
  let rest = "";
  let message = { type: "", data: "", id: "" };
  return (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
      if (line === "") {
        if (message.data) give(message);
        message = { type: "", data: "", id: "" };
      } else if (name === "event") message.type = value;
      else if (name === "data") message.data += value;
      else if (name === "id") message.id = value;
    }
  };
}
