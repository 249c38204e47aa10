/**
 * A small HTTP server behind `requireSession`: every path answers with the user and role, `null` where nobody is shown.
 *   node server.mjs '{"verifier": {…}, "access": {…}, "clock": -59}'
 * `clock`: seconds that the wall clock is ahead.
 */
import { createServer } from "node:http";
import { createVerifier, requireSession } from "session-client";

const { verifier: options, access, clock } = JSON.parse(process.argv[2]);
const now = Date.now;
Date.now = () => now() + clock * 1000;
const verifier = createVerifier(options);
const protect = requireSession(verifier, access);
const server = createServer((request, response) =>
  protect(request, response, () => {
    const { claims } = request;
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify({ user: claims?.user_id ?? null, role: claims?.role ?? null }));
  }),
);
await verifier.ready();
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
