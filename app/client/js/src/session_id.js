/**
 * Session ids: `ses_`, then in Crockford's base 32: 10 characters of creation time (ms; the first is `0`), 2 of
 * shard, 14 of chance.
 */

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const VALUE = new Uint8Array(128).fill(255);
for (let value = 0; value < 32; value++) VALUE[ALPHABET.charCodeAt(value)] = value;

const FORM = /^ses_0[0-9A-HJKMNP-TV-Z]{25}$/;

/** @param {unknown} text @returns {text is string} */
export function isSessionId(text) {
  return typeof text === "string" && FORM.test(text);
}

/** When the session was created, in milliseconds. @param {string} sid */
export function createdMs(sid) {
  let ms = 0;
  for (let place = 4; place < 14; place++) ms = ms * 32 + VALUE[sid.charCodeAt(place)];
  return ms;
}

/**
 * The id's 125 free bits, packed without loss into four words; the last holds chance alone.
 * @param {string} sid
 * @param {Uint32Array} words
 */
export function pack(sid, words) {
  for (let word = 0; word < 4; word++) {
    let bits = 0;
    for (let place = 6 + word * 6; place < 12 + word * 6; place++) bits = (bits << 5) | VALUE[sid.charCodeAt(place)];
    words[word] = bits;
  }
  const left = VALUE[sid.charCodeAt(5)];
  words[0] |= left << 30;
  words[1] |= (left >> 2) << 30;
  words[2] |= (left >> 4) << 30;
}
