/** What an access token says, with what `session.updated` has changed since. Unchangeable. */
export interface Claims {
  readonly iss: string;
  readonly aud: string;
  readonly sub: string;
  readonly exp: number;
  readonly iat: number;
  readonly jti: string;
  readonly session_id: string;
  readonly tenant_id: string;
  readonly org_id?: string;
  readonly role?: string;
  readonly mfa_verified?: boolean;
  /** `sub`, by the name that the Python client has too. Not enumerable. */
  readonly user_id: string;
  /** `exp`, by the name that the Python client has too. Not enumerable. */
  readonly expires_at: number;
  readonly [name: string]: unknown;
}

export type ErrorCode =
  | "missing_token"
  | "invalid_token"
  | "token_expired"
  | "session_revoked"
  | "insufficient_role"
  | "verifier_stale"
  | "service_unavailable"
  | "invalid_api_key";

/** Every failure of this library. `code` is stable; `status` is what an HTTP server should answer: 401, 403 or 503. */
export declare class SessionClientError extends Error {
  constructor(code: ErrorCode, message?: string, cause?: unknown);
  readonly code: ErrorCode;
  readonly status: 401 | 403 | 503;
}

/** Durations as of jose's `createRemoteJWKSet`, in milliseconds. */
export interface KeyOptions {
  /** How long a fetched list of keys is used (600 000). */
  readonly cacheMaxAge?: number;
  /** The least time between fetches, or questions to the service, for keys that only a token names (30 000). */
  readonly cooldownDuration?: number;
  /** The longest wait for a fetch (5 000). */
  readonly timeoutDuration?: number;
}

export interface VerifierOptions {
  /** Where the session service is. */
  readonly url: string | URL;
  /** The `iss` of its tokens; `url` when not given. */
  readonly issuer?: string;
  /** Your tenant, the `aud` of your tokens. */
  readonly tenantId: string;
  readonly apiKey: string;
  /** Seconds that the last heartbeat of the feed may be old (10). */
  readonly maxStaleness?: number;
  /** What to do past that: ask the service (the default), refuse with `verifier_stale`, or allow. */
  readonly onStale?: "ask" | "refuse" | "allow";
  /** Seconds between reports of the sessions seen in use (5); 0 or null reports nothing. */
  readonly reportEvery?: number | null;
  /** Ended sessions to remember (1 000 000). When more are alive, the verifier counts as stale. */
  readonly maxRevocations?: number;
  /** Changed sessions to remember (100 000). When there are more, the verifier counts as stale. */
  readonly maxUpdates?: number;
  /** Verified tokens to remember (10 000). */
  readonly maxTokens?: number;
  /** Seconds that `ready()` waits for a service that is away (10); then `onStale` holds until it comes. */
  readonly startTimeout?: number;
  readonly keys?: KeyOptions;
  /** Used instead of the global `fetch`. */
  readonly fetch?: typeof fetch;
}

export interface Verifier {
  /**
   * Connects, and resolves when everything that happened until now is known, or after `startTimeout`: see `fresh`.
   * Rejects when the API key is refused, and once the verifier is closed: it cannot be started again.
   */
  ready(): Promise<void>;
  /** The claims of a good token of a living session. Rejects with a `SessionClientError`. */
  verify(token: string | null | undefined): Promise<Claims>;
  /** Seconds since everything that had happened was known here; infinite before that was ever so. */
  readonly lag: number;
  /** Whether the lag is within `maxStaleness`. */
  readonly fresh: boolean;
  /** Sends the last report and ends the connection. */
  close(): Promise<void>;
}

/** A verifier for one tenant. It opens nothing before `ready()` or the first `verify()`. */
export declare function createVerifier(options: VerifierOptions): Verifier;

/** Who is let in. An option that is given must be right: `undefined` and unknown names are a `TypeError`. */
export interface AccessOptions {
  /** Who has another role is answered 403. */
  readonly role?: string;
  /** `false` lets in who shows no token, with `null` for claims (true). */
  readonly required?: boolean;
  /** Paths that are not looked at, exactly. */
  readonly public?: readonly string[];
}

interface NodeRequest {
  headers: {
    authorization?: string | undefined;
    origin?: string | undefined;
    "access-control-request-method"?: string | string[] | undefined;
  };
  rawHeaders?: string[];
  method?: string | undefined;
  url?: string | undefined;
  claims?: Claims | null;
}

interface NodeResponse {
  readonly headersSent?: boolean;
  writeHead(status: number, headers: Record<string, string>): { end(body: string): unknown };
}

/**
 * Middleware of Express's form, also for Node's `http`: sets `request.claims`, or answers 401, 403 or 503 itself.
 * CORS preflights and public paths pass with `null` for claims.
 */
export declare function requireSession(
  verifier: Verifier,
  options?: AccessOptions,
): (request: NodeRequest, response: NodeResponse, next: () => unknown) => Promise<void>;

/** A Fetch-API handler that is called with the claims of the request's session; others get 401, 403 or 503. */
export declare function withSession<More extends unknown[]>(
  verifier: Verifier,
  handler: (request: Request, claims: Claims, ...more: More) => Response | Promise<Response>,
  options?: { readonly role?: string; readonly required?: true },
): (request: Request, ...more: More) => Promise<Response>;
/** With `required: false` or public paths the claims may be `null`. */
export declare function withSession<More extends unknown[]>(
  verifier: Verifier,
  handler: (request: Request, claims: Claims | null, ...more: More) => Response | Promise<Response>,
  options: AccessOptions,
): (request: Request, ...more: More) => Promise<Response>;
