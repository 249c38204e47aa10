/** @typedef {import("../index.d.ts").VerifierOptions} VerifierOptions */

const DEFAULTS = {
  maxStaleness: 10,
  onStale: /** @type {const} */ ("ask"),
  reportEvery: 5,
  maxRevocations: 1_000_000,
  maxTokens: 10_000,
  keys: {},
  fetch: undefined,
};
const REQUIRED = /** @type {const} */ (["url", "tenantId", "apiKey"]);
const NAMES = new Set([...REQUIRED, "issuer", ...Object.keys(DEFAULTS)]);
const NUMBERS = /** @type {const} */ (["maxStaleness", "reportEvery", "maxRevocations", "maxTokens"]);

/** What was given, completed. Raises `TypeError` with the name of what is missing or wrong. @param {any} given */
export function read(given) {
  for (const name of Object.keys(given)) if (!NAMES.has(name)) throw new TypeError(`${name} is not an option`);
  for (const name of REQUIRED) if (!given[name]) throw new TypeError(`${name} is required`);
  const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const url = new URL(given.url).href.replace(/\/+$/, "");
  const fetch = given.fetch ?? globalThis.fetch;
  const options = { ...DEFAULTS, issuer: url, ...set, url, fetch: plain(fetch) };
  for (const name of NUMBERS) {
    if (!(Number.isFinite(options[name]) && options[name] >= 0)) throw new TypeError(`${name} must be a number`);
  }
  if (options.maxStaleness === 0) throw new TypeError("maxStaleness must be more than 0");
  if (!["ask", "refuse", "allow"].includes(options.onStale)) throw new TypeError("onStale is ask, refuse or allow");
  return /** @type {Required<VerifierOptions> & {url: string}} */ (/** @type {unknown} */ (options));
}

/** It is called without a `this`, as some runtimes demand. @param {typeof fetch} fetch @returns {typeof fetch} */
function plain(fetch) {
  return (input, init) => fetch(input, init);
}
