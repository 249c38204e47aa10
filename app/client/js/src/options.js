/** @typedef {import("../index.d.ts").VerifierOptions} VerifierOptions */

const DEFAULTS = {
  maxStaleness: 10,
  onStale: /** @type {const} */ ("ask"),
  reportEvery: 5,
  maxRevocations: 1_000_000,
  maxUpdates: 100_000,
  maxTokens: 10_000,
  startTimeout: 10,
  keys: {},
  fetch: undefined,
};
const REQUIRED = /** @type {const} */ (["url", "tenantId", "apiKey"]);
const TEXTS = /** @type {const} */ (["tenantId", "apiKey", "issuer"]);
const SECONDS = ["maxStaleness", "reportEvery", "startTimeout"];
const COUNTS = ["maxRevocations", "maxUpdates", "maxTokens"];
const KEYS = ["cacheMaxAge", "cooldownDuration", "timeoutDuration"];

/**
 * What was given, completed; blanks and line breaks at the ends of texts are stripped. `undefined` is not given.
 * Raises `TypeError` with the name of what is unknown, missing or wrong, never with its content.
 * @param {any} given
 */
export function read(given) {
  const named = known(given, "createVerifier", [...REQUIRED, "issuer", ...Object.keys(DEFAULTS)]);
  const set = Object.fromEntries(Object.entries(named).filter(([, value]) => value !== undefined));
  for (const name of REQUIRED) if (!set[name]) throw new TypeError(`${name} is required`);
  const url = addressOf(set.url);
  for (const name of TEXTS) if (name in set) set[name] = textOf(name, set[name]);
  for (const name of REQUIRED) if (!set[name]) throw new TypeError(`${name} is required`);
  set.issuer = (set.issuer || url).replace(/\/+$/, "");
  if (set.reportEvery === null) set.reportEvery = 0;
  /** @type {Record<string, any>} */
  const options = { ...DEFAULTS, ...set, url, keys: keysOf(set.keys ?? {}) };
  for (const name of [...SECONDS, ...COUNTS]) checkNumber(name, options[name]);
  for (const name of COUNTS) if (!Number.isInteger(options[name])) throw new TypeError(`${name} must be an integer`);
  if (options.maxStaleness === 0) throw new TypeError("maxStaleness must be more than 0");
  if (!["ask", "refuse", "allow"].includes(options.onStale)) throw new TypeError("onStale is ask, refuse or allow");
  const fetch = options.fetch ?? globalThis.fetch;
  if (typeof fetch !== "function") throw new TypeError("fetch must be a function");
  return /** @type {Required<VerifierOptions> & {url: string, reportEvery: number}} */ (
    /** @type {unknown} */ ({ ...options, fetch: plain(fetch) })
  );
}

/**
 * Who is let in. An option that is given must be right, `undefined` too: a role that is missing in a configuration must
 * not let everyone in.
 * @param {any} verifier @param {any[]} given the options, if any
 */
export function access(verifier, given) {
  if (typeof verifier?.verify !== "function") throw new TypeError("verifier must be one of createVerifier");
  if (given.length > 1) throw new TypeError("there are too many arguments");
  const options = known(given.length ? given[0] : {}, "the middleware", ["role", "required", "public"]);
  const { role, required = true, public: paths = [] } = options;
  if ("role" in options && (typeof role !== "string" || role.trim() === "")) {
    throw new TypeError("role must be a string that is not empty");
  }
  if ("required" in options && typeof options.required !== "boolean") {
    throw new TypeError("required must be true or false");
  }
  if ("public" in options && !isListOfPaths(options.public)) {
    throw new TypeError("public must be an array of paths that begin with /");
  }
  return { role: /** @type {string | undefined} */ (role), required, public: new Set(paths.map(asSent)) };
}

/** A path as a URL has it: only letters beyond ASCII are escaped. @param {string} path */
function asSent(path) {
  return path.replace(/[^\0-\x7f]+/gu, encodeURIComponent);
}

/** A copy of a plain object that has no other names. @param {any} given @param {string} where @param {string[]} names */
function known(given, where, names) {
  const above = given === null || typeof given !== "object" ? undefined : Object.getPrototypeOf(given);
  const isPlain = above === null || (above !== undefined && Object.getPrototypeOf(above) === null);
  if (!isPlain) throw new TypeError(`the options of ${where} must be a plain object`);
  for (const name of Reflect.ownKeys(given)) {
    if (!names.includes(/** @type {string} */ (name))) throw new TypeError(`${String(name)} is not an option`);
  }
  return /** @type {Record<string, any>} */ (Object.assign(Object.create(null), given));
}

/** @param {any} given an address or a URL object */
function addressOf(given) {
  if (typeof given !== "string" && !(given instanceof URL)) throw new TypeError("url must be a string or a URL");
  let url;
  try {
    url = new URL(textOf("url", String(given)));
  } catch {
    throw new TypeError("url must be an address without blanks"); // without the address: it may hold a password
  }
  if (!["http:", "https:"].includes(url.protocol)) throw new TypeError("url must begin with http:// or https://");
  if (url.username || url.password || url.search || url.hash) {
    throw new TypeError("url must have no credentials, query or fragment");
  }
  return url.href.replace(/\/+$/, "");
}

/** @param {string} name @param {any} given */
function textOf(name, given) {
  if (typeof given !== "string") throw new TypeError(`${name} must be a string`);
  const text = given.trim();
  if (/[\s\p{Cc}]/u.test(text)) throw new TypeError(`${name} must not contain blanks or control characters`);
  if (name === "apiKey" && /[^!-~]/.test(text)) throw new TypeError(`${name} must be ASCII`);
  return text;
}

/** @param {any} given */
function keysOf(given) {
  const keys = known(given, "keys", KEYS);
  const set = Object.fromEntries(Object.entries(keys).filter(([, value]) => value !== undefined));
  for (const [name, value] of Object.entries(set)) checkNumber(`keys.${name}`, value);
  if (set.cacheMaxAge === 0) throw new TypeError("keys.cacheMaxAge must be more than 0");
  return set;
}

/** @param {string} name @param {any} value */
function checkNumber(name, value) {
  if (!(Number.isFinite(value) && value >= 0)) throw new TypeError(`${name} must be a number of 0 or more`);
}

/** @param {unknown} value */
function isListOfPaths(value) {
  return Array.isArray(value) && value.every((path) => typeof path === "string" && path.startsWith("/"));
}

/** It is called without a `this`, as some runtimes demand. @param {typeof fetch} fetch @returns {typeof fetch} */
function plain(fetch) {
  return (input, init) => fetch(input, init);
}
