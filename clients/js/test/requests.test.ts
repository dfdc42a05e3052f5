import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { ServiceEvent } from "../src/events.js";
import { CommandError, Requests, UnansweredError } from "../src/requests.js";

const ANSWER: ServiceEvent = { type: "preferencesChanged", preferences: { readReceipts: true, invisible: false } };

function open() {
  const published: string[] = [];
  const requests = new Requests({
    publish: (_, __, requestId) => {
      published.push(requestId);
      return Promise.resolve();
    },
    retry: { baseMs: 100, capMs: 1000 },
    timeoutMs: 5000,
  });
  return { published, requests };
}

const error = (retryable: boolean, retryAfterMs?: number) => ({
  code: "STORAGE_UNAVAILABLE",
  message: "later",
  retryable,
  ...(retryAfterMs !== undefined && { retryAfterMs }),
});

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("an answer finds its question, and others are left alone", async () => {
  const { published, requests } = open();
  const asked = requests.ask("sync", {});
  expect(requests.answer("another", ANSWER)).toBe(false);
  expect(requests.answer(undefined, ANSWER)).toBe(false);
  expect(requests.answer(published[0], ANSWER)).toBe(true);
  expect(await asked).toBe(ANSWER);
  expect(requests.answer(published[0], ANSWER)).toBe(false);
});

test("a question ends without an answer when the time is up or the connection is gone", async () => {
  const { requests } = open();
  const slow = expect(requests.ask("sync", {})).rejects.toThrow(UnansweredError);
  await vi.advanceTimersByTimeAsync(5000);
  await slow;
  const cut = expect(requests.ask("sync", {})).rejects.toThrow(UnansweredError);
  requests.setOnline(false);
  await cut;
});

test("insisting goes on over lost connections and passing trouble, as told when to", async () => {
  const { published, requests } = open();
  const asked = requests.insist("markAsRead", {});
  requests.setOnline(false);
  await vi.advanceTimersByTimeAsync(0);
  requests.setOnline(true);
  await vi.advanceTimersByTimeAsync(0);
  expect(published).toHaveLength(2);
  requests.refuse(published[1], error(true, 3000));
  await vi.advanceTimersByTimeAsync(2999);
  expect(published).toHaveLength(2);
  await vi.advanceTimersByTimeAsync(1);
  requests.answer(published[2], ANSWER);
  expect(await asked).toBe(ANSWER);
});

test("insisting ends when refused for good, not wanted any more, or closed", async () => {
  const { published, requests } = open();
  const refused = expect(requests.insist("markAsRead", {})).rejects.toThrow(CommandError);
  requests.refuse(published[0], error(false));
  await refused;
  let isWanted = true;
  const replaced = requests.insist("markAsRead", {}, () => isWanted);
  isWanted = false;
  requests.setOnline(false);
  await vi.advanceTimersByTimeAsync(1000);
  expect(await replaced).toBeUndefined();
  const closed = expect(requests.insist("markAsRead", {})).rejects.toThrow(UnansweredError);
  requests.close();
  await closed;
});
