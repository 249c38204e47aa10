// Many tokens at once: node judge.mjs <jose5|jose6> <case file>; one line of JSON, true for each that is accepted
import {readFileSync} from "node:fs";
const [, , library, file] = process.argv;
const jose = await import(library);

const {jwk, issuer, audience, now, tolerance, tokens} = JSON.parse(readFileSync(file, "utf8"));
const key = await jose.importJWK(jwk, "EdDSA");
const rules = {issuer, audience, algorithms: ["EdDSA"], clockTolerance: tolerance, currentDate: new Date(now * 1000)};
const accepted = [];
for (const token of tokens) {
  accepted.push(await jose.jwtVerify(token, key, rules).then(() => true, () => false));
}
console.log(JSON.stringify(accepted));
