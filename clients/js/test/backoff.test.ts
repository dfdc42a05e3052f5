import { expect, test } from "vitest";
import { Backoff } from "../src/backoff.js";

test("delays double up to the cap and stay there for ever", () => {
  const backoff = new Backoff({ baseMs: 100, capMs: 1000 }, () => 1);
  const delays = Array.from({ length: 6 }, () => backoff.next());
  expect(delays).toEqual([100, 200, 400, 800, 1000, 1000]);
  for (let attempt = 0; attempt < 5000; attempt += 1) expect(backoff.next()).toBe(1000);
});

test("half of a delay is random, so that clients do not come back all at once", () => {
  const limits = { baseMs: 100, capMs: 1000 };
  expect(new Backoff(limits, () => 0).next()).toBe(50);
  expect(new Backoff(limits, () => 0.5).next()).toBe(75);
  expect(new Backoff(limits, () => 1).next()).toBe(100);
});

test("a reset begins again with the shortest delay", () => {
  const backoff = new Backoff({ baseMs: 100, capMs: 1000 }, () => 1);
  backoff.next();
  backoff.next();
  expect(backoff.attempt).toBe(2);
  backoff.reset();
  expect(backoff.attempt).toBe(0);
  expect(backoff.next()).toBe(100);
});
