import { base64url } from "jose";
import { SessionClientError } from "./errors.js";
import { isSessionId } from "./session_id.js";

/** @typedef {import("../index.d.ts").Claims} Claims */

/** Names that custom claims may never use. */
export const RESERVED = new Set(
  (
    "iss aud sub exp iat nbf jti session_id sid tenant_id org_id role mfa_verified act cnf scope " +
    "client_id auth_time acr amr"
  ).split(" "),
);

const MOST_CHARS = 8_192;
const DEEPEST = 8;
/** How far a clock here may be behind the issuer's. */
const SKEW_S = 60;
const FORM = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{86})$/;
const KID = /^[A-Za-z0-9_-]{43}$/;
/** Last characters that leave no bit unused, by the length of the last group. */
const LAST = [/./, /(?!)/, /[AQgw]/, /[AEIMQUYcgkosw048]/];
const TEXTS = ["iss", "aud", "sub", "jti", "tenant_id"];
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Headers that were read lately: every token of a key has the same. @type {Map<string, string>} */
const KIDS = new Map();
const MOST_KIDS = 16;

/**
 * The `kid` of a well-formed token, not yet to be believed (RFC 8725 §3; RFC 7515 §4): compact form, canonical
 * base64url, a header of exactly `alg`, `typ` and `kid`.
 * @param {string} token
 */
export function gate(token) {
  const parts = token.length <= MOST_CHARS ? FORM.exec(token) : null;
  if (parts === null) throw invalid("the token has not the form of a compact JWS");
  const [, head, body, signature] = parts;
  if (!isCanonical(head) || !isCanonical(body) || !isCanonical(signature)) throw invalid("base64url must be canonical");
  return KIDS.get(head) ?? kidOf(head);
}

/** @param {string} head */
function kidOf(head) {
  const { alg, typ, kid, ...more } = objectOf(base64url.decode(head));
  if (alg !== "EdDSA" || typ !== "at+jwt" || Object.keys(more).length) throw invalid("the header is not one of ours");
  if (typeof kid !== "string" || !KID.test(kid)) throw invalid("the key is not known");
  if (KIDS.size >= MOST_KIDS) KIDS.clear();
  KIDS.set(head, kid);
  return kid;
}

/**
 * RFC 9068 §4: every required claim present and of its type, for us, and not of the future. `exp` is left to the
 * caller, who must look at it at each use.
 * @param {Record<string, unknown>} claims
 * @param {string} issuer
 * @param {string} tenantId
 * @param {number} now seconds
 * @returns {Claims}
 */
export function checked(claims, issuer, tenantId, now) {
  const { iss, aud, exp, iat, nbf = 0, tenant_id, session_id } = /** @type {Record<string, any>} */ (claims);
  if (TEXTS.some((name) => typeof claims[name] !== "string" || !claims[name]) || !isSessionId(session_id)) {
    throw invalid("a claim is missing");
  }
  if (![exp, iat, nbf].every(Number.isSafeInteger)) throw invalid("a date is not a whole number");
  if (iss !== issuer || aud !== tenantId || tenant_id !== tenantId) throw invalid("the token is for someone else");
  if (Math.max(iat, nbf) > now + SKEW_S) throw invalid("the token is of the future");
  return /** @type {Claims} */ (claims);
}

/** The value, unchangeable with all that is in it, for it is handed out many times. @template T @param {T} value */
export function frozen(value) {
  if (typeof value === "object" && value !== null) Object.values(value).forEach(frozen);
  return Object.freeze(value);
}

/**
 * Add the names that the Python client has for them; they are not listed among the claims.
 * @template {Record<string, unknown>} T @param {T} claims
 */
export function withAliases(claims) {
  for (const [alias, name] of [["user_id", "sub"], ["expires_at", "exp"]]) {
    if (!Object.hasOwn(claims, alias)) Object.defineProperty(claims, alias, { value: claims[name] });
  }
  return claims;
}

/** @param {string} why @param {unknown} [cause] */
export function invalid(why, cause) {
  return new SessionClientError("invalid_token", why, cause);
}

/** @param {string} part */
function isCanonical(part) {
  return LAST[part.length % 4].test(part[part.length - 1]);
}

/** A JSON object without doubled members or great depth. @param {Uint8Array} bytes @returns {Record<string, any>} */
export function objectOf(bytes) {
  try {
    const text = UTF8.decode(bytes);
    const value = JSON.parse(text);
    if (text.trimStart()[0] === "{" && isPlain(text)) return value;
  } catch (cause) {
    throw invalid("not a JSON object", cause);
  }
  throw invalid("not a plain JSON object");
}

/** Whether no member stands twice and nothing lies too deep, in text that is known to be JSON. @param {string} text */
function isPlain(text) {
  /** @type {Set<string>[]} */
  const open = [];
  for (const [token, colon] of text.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?|[{}[\]]/g)) {
    if (token === "{" || token === "[") {
      if (open.push(new Set()) > DEEPEST) return false;
    } else if (token === "}" || token === "]") {
      open.pop();
    } else if (colon !== undefined) {
      const name = JSON.parse(token.slice(0, -colon.length));
      if (open[open.length - 1].has(name)) return false;
      open[open.length - 1].add(name);
    }
  }
  return true;
}
