/**
 * Calls to the dashboard's own door. The cookie is the browser's affair: nothing here holds or sees a credential but the
 * key that an operator types, once.
 */
const DOOR = "/dashboard/api";
const PATIENCE_MS = 10_000;

/** A problem document (RFC 9457). `retryMs`: when to try again, if the server says so. */
export class Refused extends Error {
  constructor(status, document, retryMs) {
    super(document.detail ?? document.title ?? `The server answered ${status}`);
    Object.assign(this, { status, code: document.code ?? "", field: document.field, requestId: document.request_id });
    this.retryMs = retryMs;
  }

  /** Whether the same call may go through later. */
  get passing() {
    return this.status === 503 || this.status === 429;
  }
}

/** Nobody answered, or not in full. */
export class Unreachable extends Error {
  code = "unreachable";
  passing = true;

  constructor() {
    super("The server cannot be reached");
  }
}

/** On a call that nobody made by hand: it does not keep the operator's session from ending idle. */
export const BACKGROUND = { "X-Background": "1" };

let ended = () => {};

/** What to do when the operator's session is found to have ended. */
export function whenEnded(handler) {
  ended = handler;
}

/**
 * One call; its JSON, or `null` for an answer without. Raises `Refused`, `Unreachable`, or the signal's reason.
 * @param {string} method
 * @param {string} path below the door, such as /v1/sessions
 * @param {{body?: unknown, tenant?: string, headers?: Record<string, string>, signal?: AbortSignal}} [options]
 */
export async function call(method, path, { body, tenant, headers = {}, signal } = {}) {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  const either = signal ? AbortSignal.any([signal, patience]) : patience;
  let answer, document;
  try {
    answer = await reach(method, path, { body, tenant, headers, signal: either });
    document = await content(answer);
  } catch {
    signal?.throwIfAborted();
    throw new Unreachable();
  }
  if (!answer.ok) throw refused(answer, document);
  return document;
}

/** A stream of bytes that goes on until the signal says otherwise. Raises as `call` does. */
export async function open(path, { tenant, headers, signal }) {
  const answer = await reach("GET", path, { tenant, headers, signal });
  if (!answer.ok) throw refused(answer, await content(answer));
  return answer.body;
}

function reach(method, path, { body, tenant, headers, signal }) {
  const sent = { Accept: "application/json", "X-Requested-With": "hellojohn-dashboard", ...headers };
  if (tenant) sent["X-Tenant-ID"] = tenant;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  const text = body === undefined ? undefined : JSON.stringify(body);
  return fetch(DOOR + path, { method, headers: sent, body: text, signal, cache: "no-store", redirect: "error" });
}

/** A success whose content breaks off, or is no JSON, brings nothing; of a refusal the status says enough. */
function content(answer) {
  if (answer.status === 204) return null;
  return answer.ok ? answer.json() : answer.json().catch(() => ({}));
}

function refused(answer, document) {
  const after = Number(answer.headers.get("retry-after"));
  const problem = new Refused(answer.status, document ?? {}, after ? after * 1_000 : undefined);
  if (problem.status === 401 && problem.code !== "invalid_api_key") ended(problem);
  return problem;
}
