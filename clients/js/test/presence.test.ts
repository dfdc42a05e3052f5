import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { OwnPresence, PresenceBook } from "../src/presence.js";
import type { Presence } from "../src/protocol.js";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function own() {
  const said: string[] = [];
  let count = 0;
  const presence = new OwnPresence({
    newSessionId: () => `s${(count += 1)}`,
    publish: (state, sessionId) => {
      said.push(`${state} ${sessionId}`);
      return Promise.resolve();
    },
  });
  return { presence, said };
}

test("each connection is a session of its own, kept alive every 20 s", async () => {
  const { presence, said } = own();
  expect(presence.newSession()).toEqual({ state: "offline", sessionId: "s1" });
  presence.connected();
  await vi.advanceTimersByTimeAsync(40_000);
  expect(said).toEqual(["online s1", "online s1", "online s1"]);
  presence.disconnected();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(said).toHaveLength(3);
});

test("a new session is there before the one it follows is ended", () => {
  const { presence, said } = own();
  presence.newSession();
  presence.connected();
  presence.disconnected();
  presence.newSession();
  presence.disconnected();
  presence.newSession();
  presence.connected();
  expect(said).toEqual(["online s1", "online s3", "offline s1"]);
});

test("away is told at once, and by the heartbeats, and by the next session", async () => {
  const { presence, said } = own();
  presence.newSession();
  presence.set("away");
  presence.connected();
  presence.set("online");
  presence.set("online");
  presence.set("away");
  await vi.advanceTimersByTimeAsync(20_000);
  expect(said).toEqual(["away s1", "online s1", "away s1", "away s1"]);
});

test("leaving says offline once, and then nothing", async () => {
  const { presence, said } = own();
  presence.newSession();
  presence.connected();
  await presence.leave();
  await presence.leave();
  presence.disconnected();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(said).toEqual(["online s1", "offline s1"]);
});

test("what was heard since the connect is newer than any answer", () => {
  const seen: string[] = [];
  const book = new PresenceBook(({ userId, state }) => seen.push(`${userId} ${state}`));
  const of = (userId: string, state: Presence["state"], lastSeenAt: string | null = null): Presence => ({ userId, state, lastSeenAt });
  book.receive(of("bob", "online"));
  book.receive(of("bob", "online"));
  book.learn([of("bob", "offline", "then"), of("carol", "offline", "then")]);
  expect(book.of("bob")?.state).toBe("online");
  expect(book.of("carol")?.lastSeenAt).toBe("then");
  expect(seen).toEqual(["bob online", "carol offline"]);
});

test("who is not heard of again soon after a lost connection is not known any more", async () => {
  const seen: string[] = [];
  const book = new PresenceBook(({ userId, state }) => seen.push(`${userId} ${state}`));
  for (const userId of ["bob", "carol"]) book.receive({ userId, state: "online", lastSeenAt: null });
  book.disconnected();
  book.disconnected();
  book.receive({ userId: "bob", state: "online", lastSeenAt: null });
  await vi.advanceTimersByTimeAsync(4000);
  expect(book.of("bob")?.state).toBe("online");
  expect(book.of("carol")).toBeUndefined();
  expect(seen).toEqual(["bob online", "carol online", "carol offline"]);
});
