// HELLOJOHN_URL=… TENANT_ID=… API_KEY=… node examples/server.mjs
import { createServer } from "node:http";
import { createVerifier, requireSession } from "session-client";

const { HELLOJOHN_URL: url, HELLOJOHN_ISSUER: issuer, TENANT_ID: tenantId, API_KEY: apiKey, PORT = 3000 } = process.env;
const verifier = createVerifier({ url, issuer, tenantId, apiKey });
const protect = requireSession(verifier);

const server = createServer((request, response) =>
  protect(request, response, () => {
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify(request.claims));
  }),
);

await verifier.ready();
server.listen(PORT, "127.0.0.1", () => console.log(`Listening on http://127.0.0.1:${server.address().port}`));
process.once("SIGTERM", () => {
  server.close();
  verifier.close();
});
