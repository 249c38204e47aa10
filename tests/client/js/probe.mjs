/**
 * A backend that verifies, driven by a test: one JSON command a line in, one JSON answer a line out, in order.
 *   node probe.mjs '{"url": …, "tenantId": …, "apiKey": …, "events": "http://…"}'
 * `events` is where the stream is asked for, when that is not `url`.
 */
import { createInterface } from "node:readline";
import { createVerifier } from "session-client";

const { events, ...options } = JSON.parse(process.argv[2]);
const through = (url, init) =>
  fetch(events && url.includes("/v1/events") ? url.replace(options.url, events) : url, init);
const verifier = createVerifier({ ...options, fetch: through });

const verdict = (token) =>
  verifier.verify(token).then(
    (claims) => ({ claims }),
    ({ code }) => ({ code: code ?? "bug" }),
  );

const commands = {
  ready: () =>
    verifier.ready().then(
      () => ({}),
      ({ code }) => ({ code }),
    ),
  state: async () => ({ fresh: verifier.fresh, lag: verifier.lag }),
  verify: ({ tokens }) => Promise.all(tokens.map(verdict)),
  close: () => verifier.close().then(() => ({})),
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const answer = await commands[command.do](command);
  process.stdout.write(JSON.stringify(answer) + "\n");
}
