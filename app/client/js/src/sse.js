const MOST_CHARS = 1 << 20;

/**
 * Server-sent events (WHATWG HTML §9.2.6), from bytes cut anywhere. A message is given when its empty line has come;
 * what is unfinished at the end of the stream is dropped, as the standard says. `retry` is ignored.
 */
export class EventStream {
  #decoder = new TextDecoder();
  #line = "";
  #afterReturn = false;
  #type = "";
  #data = "";
  #id = "";

  /** @param {(message: {type: string, data: string, id: string}) => void} give */
  constructor(give) {
    this.give = give;
  }

  /** Raises `RangeError` for a message that is far too long. @param {Uint8Array} bytes */
  push(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return;
    if (this.#afterReturn && text[0] === "\n") text = text.slice(1);
    this.#afterReturn = text === "" ? false : text[text.length - 1] === "\r";
    const lines = text.split(/\r\n|\n|\r/);
    lines[0] = this.#line + lines[0];
    this.#line = /** @type {string} */ (lines.pop());
    for (const line of lines) this.#take(line);
    if (this.#line.length + this.#data.length > MOST_CHARS) throw new RangeError("a message without end");
  }

  /** @param {string} line */
  #take(line) {
    if (line === "") return this.#finish();
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "event") this.#type = value;
    else if (name === "data") this.#data += value + "\n";
    else if (name === "id" && !value.includes("\0")) this.#id = value;
  }

  #finish() {
    const message = { type: this.#type || "message", data: this.#data.slice(0, -1), id: this.#id };
    const given = this.#data !== "";
    this.#type = this.#data = "";
    if (given) this.give(message);
  }
}
