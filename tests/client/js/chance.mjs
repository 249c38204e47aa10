/** Repeatable chance (xorshift32): a failing seed can be run again. */
export class Chance {
  constructor(seed) {
    this.state = seed || 1;
  }

  /** A whole number below `end`. */
  below(end) {
    this.state ^= this.state << 13;
    this.state ^= this.state >>> 17;
    this.state ^= this.state << 5;
    return (this.state >>> 0) % end;
  }

  of(list) {
    return list[this.below(list.length)];
  }
}

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

export function base32(number, length) {
  return Array.from({ length }, (_, place) => ALPHABET[Math.floor(number / 32 ** (length - 1 - place)) % 32]).join("");
}

export function sessionId(chance, createdMs = Date.now()) {
  return "ses_" + base32(createdMs, 10) + Array.from({ length: 16 }, () => chance.of(ALPHABET)).join("");
}
