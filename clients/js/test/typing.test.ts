import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Typing } from "../src/protocol.js";
import { IncomingTyping, OutgoingTyping } from "../src/typing.js";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function outgoing() {
  const told: [number, boolean][] = [];
  const start = Date.now();
  const typing = new OutgoingTyping((_, isTyping) => told.push([Date.now() - start, isTyping]));
  return { told, typing };
}

async function press(typing: OutgoingTyping, forMs: number): Promise<void> {
  for (let elapsed = 0; elapsed < forMs; elapsed += 100) {
    typing.set("c", true);
    await vi.advanceTimersByTimeAsync(100);
  }
}

test("steady writing is told every 3 s and ends 5 s after the last key at the earliest", async () => {
  const { told, typing } = outgoing();
  await press(typing, 7000);
  expect(told).toEqual([[0, true], [3000, true], [6000, true]]);
  await vi.advanceTimersByTimeAsync(8000);
  expect(told.at(-1)?.[1]).toBe(false);
  expect(told.at(-1)?.[0]).toBeLessThanOrEqual(15_000);
});

test("turning away is told at once, and nothing after it", async () => {
  const { told, typing } = outgoing();
  await press(typing, 500);
  typing.stopAll();
  typing.set("c", false);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(told).toEqual([[0, true], [500, false]]);
});

test("writing on and off within 3 s is no flood", async () => {
  const { told, typing } = outgoing();
  for (let time = 0; time < 5; time += 1) {
    await press(typing, 300);
    typing.set("c", false);
  }
  expect(told).toEqual([[0, true], [300, false]]);
});

test("after a sent message nothing is told, until the next key", async () => {
  const { told, typing } = outgoing();
  await press(typing, 500);
  typing.sent("c");
  await vi.advanceTimersByTimeAsync(10_000);
  expect(told).toEqual([[0, true]]);
  typing.set("c", true);
  expect(told).toHaveLength(2);
});

test("the other one's writing is news once, and ends when told, not refreshed, or gone", async () => {
  const seen: Typing[] = [];
  const typing = new IncomingTyping((change) => seen.push(change));
  const bob = { conversationId: "c", userId: "bob", isTyping: true };
  typing.receive(bob, 6000);
  await vi.advanceTimersByTimeAsync(4000);
  typing.receive(bob, 6000);
  await vi.advanceTimersByTimeAsync(5999);
  expect(typing.in("c")).toEqual(["bob"]);
  await vi.advanceTimersByTimeAsync(1);
  expect(typing.in("c")).toEqual([]);
  typing.receive(bob, 6000);
  typing.receive({ ...bob, isTyping: false }, 6000);
  typing.receive(bob, 6000);
  typing.clear("carol");
  typing.clear("bob");
  expect(seen.map(({ isTyping }) => isTyping)).toEqual([true, false, true, false, true, false]);
});
