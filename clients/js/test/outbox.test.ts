import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { MemoryOutboxStorage, type OutboxEntry } from "../src/outbox-storage.js";
import type { ServiceError } from "../src/protocol.js";
import { Bench, HangingStorage, RESEND_MS } from "./outbox-bench.js";

const STORAGE_TIMEOUT_MS = 5000;

const settled = (): Promise<void> => vi.advanceTimersByTimeAsync(0).then(() => undefined);

function refusal(fields: Partial<ServiceError>): ServiceError {
  return { code: "NOT_CONNECTED", message: "", retryable: false, ...fields };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("nothing is published before there is a connection, and everything after", async () => {
  const bench = new Bench();
  bench.toBob("a");
  await settled();
  expect(bench.published).toEqual([]);
  bench.outbox.setOnline(true);
  await settled();
  expect(bench.published).toEqual(["a"]);
});

test("messages to one person go one at a time, in order", async () => {
  const bench = new Bench();
  bench.outbox.setOnline(true);
  for (const key of ["a", "b", "c"]) bench.toBob(key);
  await settled();
  expect(bench.published).toEqual(["a"]);
  bench.acknowledge("a");
  await settled();
  expect(bench.published).toEqual(["a", "b"]);
  bench.acknowledge("b");
  await settled();
  expect(bench.published).toEqual(["a", "b", "c"]);
});

test("messages to different people do not wait for each other", async () => {
  const bench = new Bench();
  bench.outbox.setOnline(true);
  bench.toBob("a");
  bench.outbox.add({ recipientId: "carol" }, "text", "b");
  await settled();
  expect(bench.published).toEqual(["a", "b"]);
});

test("a conversation named by its id and by its recipient is one queue", async () => {
  const bench = new Bench();
  bench.outbox.linkRecipient("bob", "with-bob");
  bench.outbox.setOnline(true);
  bench.toBob("a");
  bench.outbox.add({ conversationId: "with-bob" }, "text", "b");
  await settled();
  expect(bench.published).toEqual(["a"]);
  bench.acknowledge("a");
  await settled();
  expect(bench.published).toEqual(["a", "b"]);
});

test("without an answer the same key is published again, and the next message keeps waiting", async () => {
  const bench = new Bench();
  bench.outbox.setOnline(true);
  bench.toBob("a");
  bench.toBob("b");
  await vi.advanceTimersByTimeAsync(RESEND_MS * 3);
  expect(bench.published.length).toBeGreaterThanOrEqual(3);
  expect(new Set(bench.published)).toEqual(new Set(["a"]));
});

test("a reconnect publishes at once what is unanswered", async () => {
  const bench = new Bench();
  bench.outbox.setOnline(true);
  bench.toBob("a");
  await settled();
  bench.outbox.setOnline(false);
  await vi.advanceTimersByTimeAsync(RESEND_MS * 3);
  expect(bench.published).toEqual(["a"]);
  bench.outbox.setOnline(true);
  await settled();
  expect(bench.published).toEqual(["a", "a"]);
});

test.each(["STORAGE_UNAVAILABLE", "BUSY", "RATE_LIMITED"] as const)(
  "%s is retried after the time that the service asks for, before the next message",
  async (code) => {
    const bench = new Bench();
    bench.outbox.setOnline(true);
    bench.toBob("a");
    bench.toBob("b");
    await settled();
    expect(bench.outbox.refuse("a", refusal({ code, retryable: true, retryAfterMs: 300 }))).toBe(true);
    await vi.advanceTimersByTimeAsync(299);
    expect(bench.published).toEqual(["a"]);
    await vi.advanceTimersByTimeAsync(1);
    expect(bench.published).toEqual(["a", "a"]);
    expect(bench.updates.map((update) => update.status)).toEqual(["sending", "sending"]);
  },
);

test("a final error ends the message, keeps it, and lets the next one go", async () => {
  const bench = new Bench();
  bench.outbox.setOnline(true);
  bench.toBob("a");
  bench.toBob("b");
  await settled();
  bench.outbox.refuse("a", refusal({}));
  await settled();
  expect(bench.published).toEqual(["a", "b"]);
  expect(bench.updates.map(({ status }) => status)).toEqual(["sending", "sending", "failed"]);
  expect(bench.outbox.entries.map(({ status }) => status)).toEqual(["failed", "sending"]);
  expect((await bench.storage.load()).find(({ clientMessageId }) => clientMessageId === "a")?.status).toBe("failed");
});

test("a failed message can be sent again under its key, or given up", async () => {
  const bench = new Bench();
  bench.outbox.setOnline(true);
  bench.toBob("a");
  await settled();
  bench.outbox.refuse("a", refusal({}));
  bench.outbox.retry("a");
  await settled();
  expect(bench.published).toEqual(["a", "a"]);
  bench.outbox.refuse("a", refusal({}));
  bench.outbox.discard("a");
  await settled();
  expect(bench.outbox.entries).toEqual([]);
  expect(await bench.storage.load()).toEqual([]);
});

test("errors and acknowledgements of other devices are not ours", () => {
  const bench = new Bench();
  expect(bench.outbox.refuse("unknown", refusal({}))).toBe(false);
  bench.acknowledge("unknown");
  expect(bench.updates).toEqual([]);
});

test("a second acknowledgement changes nothing", async () => {
  const bench = new Bench();
  bench.outbox.setOnline(true);
  bench.toBob("a");
  await settled();
  bench.acknowledge("a");
  bench.acknowledge("a");
  expect(bench.updates.map(({ status }) => status)).toEqual(["sending", "sent"]);
});

test("unsent messages outlive the client, in their order and under their keys", async () => {
  const storage = new MemoryOutboxStorage();
  const before = new Bench(storage);
  for (const key of ["c", "a", "b"]) before.toBob(key);
  await settled();
  const after = new Bench(storage);
  await after.outbox.restore();
  after.toBob("d");
  after.outbox.setOnline(true);
  for (const key of ["c", "a", "b", "d"]) {
    await settled();
    after.acknowledge(key);
  }
  expect(after.published).toEqual(["c", "a", "b", "d"]);
});

test("a storage that fails is told, and the message is sent all the same", async () => {
  class FullStorage extends MemoryOutboxStorage {
    override put(): Promise<void> {
      return Promise.reject(new Error("quota"));
    }
  }
  const bench = new Bench(new FullStorage());
  bench.outbox.setOnline(true);
  bench.toBob("a");
  await settled();
  expect(bench.published).toEqual(["a"]);
  expect(bench.storageErrors).toHaveLength(1);
});

test("a storage that cannot be read is told, and the client goes on without what it has", async () => {
  class LockedStorage extends MemoryOutboxStorage {
    override load(): Promise<OutboxEntry[]> {
      return Promise.reject(new Error("locked"));
    }
  }
  const bench = new Bench(new LockedStorage());
  await bench.outbox.restore();
  expect(bench.storageErrors).toHaveLength(1);
  bench.outbox.setOnline(true);
  bench.toBob("a");
  await settled();
  expect(bench.published).toEqual(["a"]);
});

test("a storage that does not answer is told, and keeps neither the start nor a message nor the end", async () => {
  const bench = new Bench(new HangingStorage());
  const steps: string[] = [];
  void bench.outbox.restore().then(() => steps.push("restored"));
  await vi.advanceTimersByTimeAsync(STORAGE_TIMEOUT_MS);
  expect(steps).toEqual(["restored"]);
  expect(bench.storageErrors).toEqual([new Error("The storage does not answer")]);
  bench.outbox.setOnline(true);
  bench.toBob("a");
  await vi.advanceTimersByTimeAsync(1);
  expect(bench.published).toEqual(["a"]);
  void bench.outbox.close().then(() => steps.push("closed"));
  await vi.advanceTimersByTimeAsync(STORAGE_TIMEOUT_MS);
  expect(steps).toEqual(["restored", "closed"]);
});

test("a storage that did not answer is not waited for a second time, until it answers", async () => {
  const storage = new HangingStorage();
  const bench = new Bench(storage);
  bench.outbox.setOnline(true);
  bench.toBob("a");
  await vi.advanceTimersByTimeAsync(STORAGE_TIMEOUT_MS - 1);
  expect(bench.published).toEqual([]);
  await vi.advanceTimersByTimeAsync(1);
  bench.acknowledge("a");
  bench.toBob("b");
  await vi.advanceTimersByTimeAsync(1);
  expect(bench.published).toEqual(["a", "b"]);
  storage.answers = true;
  bench.acknowledge("b");
  await settled();
  storage.answers = false;
  bench.toBob("c");
  await vi.advanceTimersByTimeAsync(1);
  expect(bench.published).toEqual(["a", "b"]);
  await vi.advanceTimersByTimeAsync(STORAGE_TIMEOUT_MS);
  expect(bench.published).toEqual(["a", "b", "c"]);
});

test("what is added while older messages are being restored goes after them, also after the next start", async () => {
  const storage = new MemoryOutboxStorage();
  const before = new Bench(storage);
  for (const key of ["a", "b"]) before.toBob(key);
  await settled();
  const after = new Bench(storage);
  const restoring = after.outbox.restore();
  for (const key of ["c", "d"]) after.toBob(key);
  await restoring;
  await settled();
  const next = new Bench(storage);
  await next.outbox.restore();
  for (const { outbox } of [after, next]) {
    expect(outbox.entries.map(({ clientMessageId }) => clientMessageId)).toEqual(["a", "b", "c", "d"]);
    expect(outbox.entries.map(({ order }) => order)).toEqual([1, 2, 3, 4]);
  }
  after.outbox.setOnline(true);
  await settled();
  expect(after.published).toEqual(["a"]);
});

test("a message is published only after it is stored", async () => {
  let finish = (): void => undefined;
  class SlowStorage extends MemoryOutboxStorage {
    override put(): Promise<void> {
      return new Promise((resolve) => (finish = resolve));
    }
  }
  const bench = new Bench(new SlowStorage());
  bench.outbox.setOnline(true);
  bench.toBob("a");
  await settled();
  expect(bench.published).toEqual([]);
  finish();
  await settled();
  expect(bench.published).toEqual(["a"]);
});
