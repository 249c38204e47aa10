// What TypeScript sees of the package: compiled, never run.
import {
  type Claims,
  createVerifier,
  type ErrorCode,
  requireSession,
  SessionClientError,
  type Verifier,
  withSession,
} from "session-client";

const verifier: Verifier = createVerifier({
  url: new URL("https://sessions.example"),
  tenantId: "tnt_1",
  apiKey: "sk_live_x",
  maxStaleness: 5,
  onStale: "refuse",
  keys: { cacheMaxAge: 60_000 },
});
await verifier.ready();

const claims: Claims = await verifier.verify("token");
const role: string | undefined = claims.role;
const custom: unknown = claims.plan;
const lag: number = verifier.lag;

export const fetchHandler: (request: Request, env: { name: string }) => Promise<Response> = withSession(
  verifier,
  (request, { sub }, env: { name: string }) =>
    new Response(`${request.url} ${sub} ${env.name} ${role} ${custom} ${lag}`),
);

const middleware = requireSession(verifier);
await middleware(
  { headers: { authorization: "Bearer x" } },
  { writeHead: (status, headers) => ({ end: (body) => console.log(status, headers, body) }) },
  () => {},
);

export function retry(problem: unknown): boolean {
  if (!(problem instanceof SessionClientError)) throw problem;
  const code: ErrorCode = problem.code;
  return problem.status === 503 && code !== "invalid_api_key";
}

// @ts-expect-error: a tenant is required
createVerifier({ url: "https://sessions.example", apiKey: "sk_live_x" });
// @ts-expect-error: not a policy
createVerifier({ url: "https://sessions.example", tenantId: "tnt_1", apiKey: "sk_live_x", onStale: "deny" });
// @ts-expect-error: not an option
createVerifier({ url: "https://sessions.example", tenantId: "tnt_1", apiKey: "sk_live_x", maxStale: 5 });
// @ts-expect-error: claims cannot be changed
claims.sub = "usr_2";
await verifier.close();
