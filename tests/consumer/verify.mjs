// Unmodified consumer code: node verify.mjs <jose5|jose6> <base> <issuer> <tenant id> <token>
const [, , library, base, issuer, tenantId, token] = process.argv;
const jose = await import(library);

const JWKS = jose.createRemoteJWKSet(new URL(base + "/.well-known/jwks.json"));
const {payload} = await jose.jwtVerify(token, JWKS, {issuer, audience: tenantId});
console.log(JSON.stringify(payload));
