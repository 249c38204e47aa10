/** @typedef {import("../index.d.ts").ErrorCode} ErrorCode */

/** What each code means, in the words of the Python client. */
export const TITLES = /** @type {const} */ ({
  missing_token: "An access token is required",
  invalid_token: "The access token is not valid",
  token_expired: "The access token has expired",
  session_revoked: "The session has ended",
  insufficient_role: "The session has not the role that this needs",
  verifier_stale: "Revocations are not known up to date",
  service_unavailable: "The session service is not available",
  invalid_api_key: "The session service refuses the API key",
});

const OURS = new Set(["verifier_stale", "service_unavailable", "invalid_api_key"]);

/** Every failure of this library. `code` is stable; `status` is what an HTTP server should answer. */
export class SessionClientError extends Error {
  /**
   * @param {ErrorCode} code
   * @param {string} [message]
   * @param {unknown} [cause]
   */
  constructor(code, message = TITLES[code], cause = undefined) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "SessionClientError";
    this.code = code;
    this.status = /** @type {401 | 403 | 503} */ (OURS.has(code) ? 503 : code === "insufficient_role" ? 403 : 401);
  }
}
