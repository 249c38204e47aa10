import { SessionClientError, TITLES } from "./errors.js";

/** @typedef {import("../index.d.ts").Verifier} Verifier */

/** @type {import("../index.d.ts").requireSession} */
export function requireSession(verifier) {
  return async (request, response, next) => {
    try {
      request.claims = await verifier.verify(bearer(request.headers.authorization));
    } catch (problem) {
      const { status, headers, body } = refusal(problem);
      response.writeHead(status, headers).end(body);
      return;
    }
    next();
  };
}

/** @type {import("../index.d.ts").withSession} */
export function withSession(verifier, handler) {
  return async (request, ...more) => {
    let claims;
    try {
      claims = await verifier.verify(bearer(request.headers.get("authorization")));
    } catch (problem) {
      const { status, headers, body } = refusal(problem);
      return new Response(body, { status, headers });
    }
    return handler(request, claims, ...more);
  };
}

/**
 * The token of an `Authorization` header (RFC 6750 §2.1); none where it names another scheme.
 * @param {string | null | undefined} header
 */
function bearer(header) {
  if (!/^bearer/i.test(header ?? "")) return undefined;
  const token = /^bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(header ?? "")?.[1];
  if (token === undefined) throw new SessionClientError("invalid_token");
  return token;
}

/** An answer in the form of RFC 9457, with the challenge of RFC 6750 §3. @param {unknown} problem */
function refusal(problem) {
  if (!(problem instanceof SessionClientError)) throw problem;
  const { status, code } = problem;
  const title = TITLES[code];
  /** @type {Record<string, string>} */
  const headers = { "Content-Type": "application/problem+json", "Cache-Control": "no-store" };
  if (status === 503) headers["Retry-After"] = "1";
  else headers["WWW-Authenticate"] = `Bearer realm="sessions"${code === "missing_token" ? "" : reason(title)}`;
  const type = `urn:hellojohn:problem:${code}`;
  return { status, headers, body: JSON.stringify({ type, title, status, detail: title, code }) };
}

/** @param {string} title */
function reason(title) {
  return `, error="invalid_token", error_description="${title}"`;
}
