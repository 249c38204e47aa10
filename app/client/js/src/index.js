export { SessionClientError } from "./errors.js";
export { requireSession, withSession } from "./http.js";
export { createVerifier } from "./verifier.js";
