import { expect, test } from "vitest";
import { Emitter } from "../src/emitter.js";

interface Events {
  number: number;
  word: string;
}

test("listeners hear their events until they unsubscribe", () => {
  const emitter = new Emitter<Events>();
  const heard: number[] = [];
  const unsubscribe = emitter.on("number", (value) => heard.push(value));
  emitter.emit("number", 1);
  emitter.emit("word", "no");
  unsubscribe();
  emitter.emit("number", 2);
  expect(heard).toEqual([1]);
});

test("a stream yields everything in order and ends with the emitter", async () => {
  const emitter = new Emitter<Events>();
  const stream = emitter.stream();
  emitter.emit("number", 1);
  emitter.emit("word", "two");
  emitter.close();
  const seen = [];
  for await (const event of stream) seen.push(event);
  expect(seen).toEqual([
    { type: "number", value: 1 },
    { type: "word", value: "two" },
  ]);
});

test("a stream that is left is forgotten", async () => {
  const emitter = new Emitter<Events>();
  setTimeout(() => emitter.emit("number", 1));
  for await (const event of emitter.stream()) {
    expect(event).toEqual({ type: "number", value: 1 });
    break;
  }
  emitter.emit("number", 2);
});
