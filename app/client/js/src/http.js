import { SessionClientError, TITLES } from "./errors.js";
import { access } from "./options.js";

/** @typedef {import("../index.d.ts").Verifier} Verifier */
/** @typedef {ReturnType<typeof access>} Access */

/**
 * @param {Verifier} verifier
 * @param {any[]} given the options, if any
 * @returns {ReturnType<typeof import("../index.d.ts").requireSession>}
 */
export function requireSession(verifier, ...given) {
  const rules = access(verifier, given);
  return async (request, response, next) => {
    const { headers, rawHeaders, method } = request;
    const isRepeated = (rawHeaders ?? []).filter(isAuthorization).length > 1;
    const asked = {
      path: pathOf(request.url ?? ""),
      sent: headers.authorization,
      isRepeated,
      isPreflight: isPreflight(method, headers.origin, headers["access-control-request-method"]),
    };
    const outcome = await judged(verifier, rules, asked);
    if (outcome.refusal !== undefined) {
      if (response.headersSent) return; // somebody else answered meanwhile, a time limit for example
      const { status, headers, body } = outcome.refusal;
      response.writeHead(status, headers).end(body);
      return;
    }
    request.claims = outcome.claims;
    try {
      next();
    } catch (problem) {
      failed(problem, response);
    }
  };
}

/**
 * @param {Verifier} verifier
 * @param {(request: Request, claims: any, ...more: any[]) => Response | Promise<Response>} handler
 * @param {any[]} given the options, if any
 * @returns {(request: Request, ...more: any[]) => Promise<Response>}
 */
export function withSession(verifier, handler, ...given) {
  const rules = access(verifier, given);
  if (typeof handler !== "function") throw new TypeError("handler must be a function");
  return async (request, ...more) => {
    const { headers, method } = request;
    const asked = {
      path: pathOf(new URL(request.url).pathname),
      sent: headers.get("authorization") ?? undefined,
      isRepeated: false, // the Fetch standard joins them, which is no token
      isPreflight: isPreflight(method, headers.get("origin"), headers.get("access-control-request-method")),
    };
    const outcome = await judged(verifier, rules, asked);
    if (outcome.refusal !== undefined) {
      const { status, headers, body } = outcome.refusal;
      return new Response(body, { status, headers });
    }
    return handler(request, outcome.claims, ...more);
  };
}

/**
 * Answer for a handler that threw: as a rejection of ours it would end a process that handles none.
 * @param {unknown} problem @param {import("../index.d.ts").NodeResponse} response
 */
function failed(problem, response) {
  console.error("session-client: the handler failed:", problem);
  if (!response.headersSent) response.writeHead(500, { "Content-Length": "0" }).end("");
}

/**
 * The claims, or the answer in the application's place. Never rejects.
 * @param {Verifier} verifier
 * @param {Access} rules
 * @param {{path: string, sent: string | undefined, isRepeated: boolean, isPreflight: boolean}} asked
 */
async function judged(verifier, rules, { path, sent, isRepeated, isPreflight }) {
  if (rules.public.has(path)) return { claims: null };
  if (sent === undefined && (!rules.required || isPreflight)) return { claims: null };
  try {
    const token = bearer(sent);
    if (isRepeated) throw new SessionClientError("invalid_token");
    const claims = await verifier.verify(token);
    if (!claims) throw new TypeError("the verifier gave no claims");
    if (rules.role !== undefined && claims.role !== rules.role) throw new SessionClientError("insufficient_role");
    return { claims };
  } catch (problem) {
    return { refusal: refusal(problem) };
  }
}

/**
 * The token of an `Authorization` header (RFC 6750 §2.1); none where it names another scheme.
 * @param {string | undefined} header
 */
function bearer(header = "") {
  const text = header.replace(/^[ \t]+|[ \t]+$/g, "");
  if (!/^bearer/i.test(text)) return undefined;
  const token = /^bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(text)?.[1];
  if (token === undefined) throw new SessionClientError("invalid_token");
  return token;
}

/** An answer in the form of RFC 9457, with the challenge of RFC 6750 §3. @param {unknown} problem */
function refusal(problem) {
  const isOurs = problem instanceof SessionClientError;
  if (!isOurs) console.error("session-client: the verifier failed:", problem);
  const isForCaller = isOurs && problem.code !== "invalid_api_key";
  const { status, code } = isForCaller ? problem : new SessionClientError("service_unavailable");
  const title = TITLES[code];
  /** @type {Record<string, string>} */
  const headers = { "Content-Type": "application/problem+json", "Cache-Control": "no-store" };
  if (status === 503) headers["Retry-After"] = "1";
  else headers["WWW-Authenticate"] = `Bearer realm="sessions"${reason(code, title)}`;
  const type = `urn:hellojohn:problem:${code}`;
  const body = JSON.stringify({ type, title, status, detail: title, code });
  headers["Content-Length"] = String(body.length); // all of it is ASCII
  return { status, headers, body };
}

/** @param {string} code @param {string} title */
function reason(code, title) {
  if (code === "missing_token") return "";
  if (code === "insufficient_role") return ', error="insufficient_scope"';
  return `, error="invalid_token", error_description="${title}"`;
}

/** Whether a name among raw headers, which stand at even places, is this one. @param {string} text @param {number} at */
function isAuthorization(text, at) {
  return at % 2 === 0 && text.toLowerCase() === "authorization";
}

/**
 * Whether a browser asks for permission (Fetch standard, "CORS-preflight request"): it never sends credentials.
 * @param {string | undefined} method @param {string | null | undefined} origin @param {unknown} wanted
 */
function isPreflight(method, origin, wanted) {
  return method === "OPTIONS" && origin != null && wanted != null;
}

/** The path of a URL as routers compare it: without the query, and not decoded. @param {string} url */
function pathOf(url) {
  return url.split("?", 1)[0];
}
