import "fake-indexeddb/auto";
import { afterEach, expect, test, vi } from "vitest";
import { IndexedDbOutboxStorage, MemoryOutboxStorage, type OutboxEntry, type OutboxStorage } from "../src/outbox-storage.js";

const entry: OutboxEntry = {
  clientMessageId: "a",
  target: { recipientId: "bob" },
  text: "hello 😀 שלום",
  order: 1,
  createdAt: "2026-01-01T12:00:00.000Z",
  status: "sending",
};

afterEach(() => void vi.restoreAllMocks());

const stores: [string, () => OutboxStorage][] = [
  ["memory", () => new MemoryOutboxStorage()],
  ["IndexedDB", () => new IndexedDbOutboxStorage(`outbox-${Math.random()}`)],
];

for (const [name, make] of stores) {
  test(`${name}: what was put is loaded, replaced and deleted by key`, async () => {
    const storage = make();
    expect(await storage.load()).toEqual([]);
    await storage.put(entry);
    await storage.put({ ...entry, clientMessageId: "b", order: 2 });
    await storage.put({ ...entry, status: "failed" });
    expect(await storage.load()).toEqual([
      { ...entry, status: "failed" },
      { ...entry, clientMessageId: "b", order: 2 },
    ]);
    await storage.delete("a");
    await storage.delete("never there");
    expect((await storage.load()).map(({ clientMessageId }) => clientMessageId)).toEqual(["b"]);
    await storage.close();
  });
}

test("IndexedDB: entries are still there for the next page", async () => {
  const before = new IndexedDbOutboxStorage("reloaded");
  await before.put(entry);
  await before.close();
  expect(await new IndexedDbOutboxStorage("reloaded").load()).toEqual([entry]);
});

test("IndexedDB: a database that did not open is opened again for what comes next", async () => {
  const storage = new IndexedDbOutboxStorage("locked");
  const open = vi.spyOn(indexedDB, "open").mockImplementation(() => {
    throw new Error("locked");
  });
  await expect(storage.load()).rejects.toThrow("locked");
  const refused = storage.put(entry);
  await storage.close();
  await expect(refused).rejects.toThrow("locked");
  open.mockRestore();
  await storage.put(entry);
  expect(await storage.load()).toEqual([entry]);
  await storage.close();
});

/** A storage, and its handles on the database, in the order in which they were opened. */
function watched(name: string) {
  const handles: IDBDatabase[] = [];
  const open = indexedDB.open.bind(indexedDB);
  vi.spyOn(indexedDB, "open").mockImplementation((...args) => {
    const request = open(...args);
    request.addEventListener("success", () => handles.push(request.result));
    return request;
  });
  return { storage: new IndexedDbOutboxStorage(name), handles };
}

test.each(["told", "not told"])("IndexedDB: a handle that the browser has closed, %s, is replaced", async (how) => {
  const { storage, handles } = watched(`closed, ${how}`);
  await storage.put(entry);
  const [handle] = handles;
  handle?.close();
  if (how === "told") handle?.onclose?.(new Event("close"));
  await Promise.all([storage.put({ ...entry, clientMessageId: "b" }), storage.load()]);
  expect((await storage.load()).map(({ clientMessageId }) => clientMessageId)).toEqual(["a", "b"]);
  expect(handles).toHaveLength(2);
  await storage.close();
});

test("IndexedDB: a database that is deleted is let go, and made again for what comes next", async () => {
  const { storage } = watched("deleted");
  await storage.put(entry);
  const isBlocked = await new Promise((resolve) => {
    const request = indexedDB.deleteDatabase("deleted");
    request.onblocked = () => resolve(true);
    request.onsuccess = () => resolve(false);
  });
  expect(isBlocked).toBe(false);
  expect(await storage.load()).toEqual([]);
  await storage.close();
});

test("IndexedDB: closing does not wait for a database that never opens", async () => {
  vi.spyOn(indexedDB, "open").mockImplementation(() => ({}) as IDBOpenDBRequest);
  const storage = new IndexedDbOutboxStorage("never");
  void storage.load();
  await storage.close();
});
