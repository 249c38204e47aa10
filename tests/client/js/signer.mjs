import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { createServer } from "node:http";
import { once } from "node:events";

const b64 = (value) => Buffer.from(value).toString("base64url");

/** A key that signs anything: only what stands before and after the signature check can refuse it. */
export class Signer {
  constructor() {
    const { publicKey, privateKey } = generateKeyPairSync("ed25519");
    const { x } = publicKey.export({ format: "jwk" });
    this.private = privateKey;
    this.raw = Buffer.from(x, "base64url");
    this.kid = createHash("sha256").update(`{"crv":"Ed25519","kty":"OKP","x":"${x}"}`).digest("base64url");
    this.jwk = { kty: "OKP", crv: "Ed25519", x, kid: this.kid, use: "sig", alg: "EdDSA" };
    this.header = { alg: "EdDSA", typ: "at+jwt", kid: this.kid };
  }

  /** A token of these very texts, or of these objects. */
  sign(header, payload) {
    const [head, body] = [header, payload].map((part) =>
      b64(typeof part === "string" || part instanceof Uint8Array ? part : JSON.stringify(part)),
    );
    return `${head}.${body}.${b64(sign(null, Buffer.from(`${head}.${body}`), this.private))}`;
  }
}

/** An HTTP server on loopback; `answer` is called as by `createServer`. */
export async function serve(answer) {
  const server = createServer(answer).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
