// What both forms of the middleware answer to each of some `Authorization` headers: [fetched, served], as JSON.
import { createVerifier, requireSession, withSession } from "session-client";

const [options, sent] = process.argv.slice(2).map((text) => JSON.parse(text));
const verifier = createVerifier(options);
await verifier.ready();

const fetching = withSession(verifier, () => new Response('{"code":"good"}'));
const serving = requireSession(verifier);

async function fetched(header) {
  const answer = await fetching(new Request("http://app.example", { headers: header === null ? {} : { authorization: header } }));
  return [answer.status, answer.ok ? {} : Object.fromEntries(answer.headers), await answer.text()];
}

async function served(header) {
  let answer = [200, {}, '{"code":"good"}'];
  const keep = (status, headers) => ({
    end: (body) => (answer = [status, Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value])), body]),
  });
  await serving({ headers: header === null ? {} : { authorization: header } }, { writeHead: keep }, () => undefined);
  return answer;
}

const all = [];
for (const ask of [fetched, served]) {
  all.push([]);
  for (const header of sent) all.at(-1).push(await ask(header));
}
console.log(JSON.stringify(all));
await verifier.close();
