import assert from "node:assert/strict";
import { test } from "node:test";
import { EventStream } from "../../../app/client/js/src/sse.js";
import { Chance } from "./chance.mjs";

const STORY = `\uFEFF: welcome\n\nretry: 1000\n\nevent: one\ndata: first\n\ndata:  two spaces\rdata\rdata:third\r\r\
id: 7\r\nevent: nothing\r\n\r\ndata: ünï çødé 🎈\r\n\r\n:\nid: 8\0\nunknown: x\ndata: a:b\n\nid\ndata\n\nevent: cut\ndata: off\n`;

const TOLD = [
  { type: "one", data: "first", id: "" },
  { type: "message", data: " two spaces\n\nthird", id: "" },
  { type: "message", data: "ünï çødé 🎈", id: "7" },
  { type: "message", data: "a:b", id: "7" },
  { type: "message", data: "", id: "" },
];

function read(chunks) {
  const messages = [];
  const stream = new EventStream((message) => messages.push(message));
  for (const chunk of chunks) stream.push(chunk);
  return messages;
}

const bytes = (text) => new TextEncoder().encode(text);

test("a stream is read as the standard says", () => {
  assert.deepEqual(read([bytes(STORY)]), TOLD);
});

test("where the network cuts the bytes makes no difference", () => {
  const whole = bytes(STORY);
  assert.deepEqual(read(Array.from(whole, (byte) => Uint8Array.of(byte))), TOLD);
  for (let cut = 0; cut <= whole.length; cut++) {
    assert.deepEqual(read([whole.subarray(0, cut), whole.subarray(cut)]), TOLD, `cut at ${cut}`);
  }
  for (let seed = 1; seed <= 2_000; seed++) {
    const chance = new Chance(seed);
    const chunks = [];
    for (let at = 0; at < whole.length;) {
      const end = at + chance.below(12);
      chunks.push(whole.subarray(at, end));
      at = end;
    }
    assert.deepEqual(read(chunks), TOLD, `seed ${seed}`);
  }
});

test("every kind of line end means the same", () => {
  const lines = ["event: x", "data: 1", "data: 2", "", "data: 3", "", ""];
  const expected = [
    { type: "x", data: "1\n2", id: "" },
    { type: "message", data: "3", id: "" },
  ];
  for (const end of ["\n", "\r", "\r\n"]) {
    assert.deepEqual(read([...lines.join(end)].map(bytes)), expected, JSON.stringify(end));
  }
});

test("what is unfinished is not given", () => {
  assert.deepEqual(read([bytes("data: half")]), []);
  assert.deepEqual(read([bytes("data: half\n")]), []);
});

test("a message without end is an error, not a full memory", () => {
  const stream = new EventStream(() => {});
  const chunk = bytes("data: " + "x".repeat(100_000) + "\n");
  assert.throws(() => Array.from({ length: 20 }, () => stream.push(chunk)), RangeError);
  const line = new EventStream(() => {});
  assert.throws(() => Array.from({ length: 20 }, () => line.push(bytes("x".repeat(100_000)))), RangeError);
});
