// An OpenID provider as it comes from npm: node provider.mjs <port> <redirect uri>…. Whoever signs in is whom they say.
import { Provider } from "oidc-provider";

const [, , port, ...redirectUris] = process.argv;
const PEOPLE = {
  alice: { email: "Alice@acme.example", email_verified: true, groups: ["support"] },
  bob: { email: "bob@acme.example", email_verified: true, groups: ["operators"] },
  mallory: { email: "alice@acme.example", email_verified: false, groups: "operators" },
  "alice@acme.example": { email: "someone@acme.example", email_verified: true },
};

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{ client_id: "dashboard", client_secret: "the secret of the dashboard", redirect_uris: redirectUris }],
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["groups"] },
  cookies: { keys: ["a key for the cookies of a test"] },
  pkce: { required: () => true },
  findAccount: (_, sub) => ({ accountId: sub, claims: async () => ({ sub, ...PEOPLE[sub] }) }),
});
provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
