import { expect, test, vi } from "vitest";
import { ConversationList } from "../src/conversation-list.js";
import type { HistoryApi } from "../src/history.js";
import type { ConversationSummary } from "../src/protocol.js";
import { messageAt, SUMMARY } from "./messages.js";

/** A list of one conversation; `held`: whether others' messages can be counted here. */
async function open(held: boolean) {
  const server = { summary: SUMMARY, reads: 0, isDown: false };
  const told: ConversationSummary[] = [];
  const failures: unknown[] = [];
  const history: HistoryApi = {
    listMessages: () => Promise.reject(new Error("not asked for here")),
    getConversation: () => Promise.reject(new Error("not asked for here")),
    listConversations: () => {
      server.reads += 1;
      if (server.isDown) return Promise.reject(new Error("down"));
      return Promise.resolve({ conversations: [server.summary], nextCursor: null });
    },
  };
  const list: ConversationList = new ConversationList({
    userId: "alice",
    history,
    retry: { baseMs: 10, capMs: 10 },
    unreadAfter: (_, seq) => (held ? (list.get("conversation-1")?.lastSeq ?? 0) - seq : undefined),
    onUnreachable: (cause) => failures.push(cause),
    onChange: () => undefined,
    onSummary: (summary) => told.push(summary),
  });
  await list.refresh();
  return { list, server, told, failures, unread: () => list.get("conversation-1")?.unreadCount };
}

test("reading the newest message leaves nothing unread; a message at the same moment stays unread", async () => {
  const { list, unread } = await open(true);
  list.read("conversation-1", 5);
  expect(unread()).toBe(0);
  list.add(messageAt(6));
  list.read("conversation-1", 5);
  expect(unread()).toBe(1);
  list.read("conversation-1", 6);
  expect(unread()).toBe(0);
});

test("reading a part is counted where the messages are held, else asked for", async () => {
  const here = await open(true);
  here.list.read("conversation-1", 4);
  expect(here.unread()).toBe(1);
  expect(here.server.reads).toBe(1);
  const elsewhere = await open(false);
  elsewhere.server.summary = { ...SUMMARY, readSeq: 4, unreadCount: 1 };
  elsewhere.list.read("conversation-1", 4);
  await elsewhere.list.refresh();
  expect(elsewhere.unread()).toBe(1);
});

test("an answer that a read has overtaken does not bring the badge back", async () => {
  const { list, unread } = await open(true);
  list.read("conversation-1", 5);
  await list.refresh();
  expect(unread()).toBe(0);
});

test("an answer that a live message has overtaken tells of positions all the same", async () => {
  const { list, server, told, unread } = await open(true);
  list.add(messageAt(6));
  expect(unread()).toBe(4);
  server.summary = { ...SUMMARY, readSeq: 5, unreadCount: 0 };
  await list.refresh();
  expect(told.at(-1)).toEqual(server.summary);
  expect(list.get("conversation-1")?.lastSeq).toBe(6);
  expect(unread()).toBe(1);
});

test("whether the list can be read now is known from the first failure to the next answer", async () => {
  const { list, server } = await open(true);
  expect(list.isBehind).toBe(false);
  server.isDown = true;
  const refreshing = list.refresh();
  await vi.waitFor(() => expect(list.isBehind).toBe(true));
  server.isDown = false;
  await refreshing;
  expect(list.isBehind).toBe(false);
});

test("trouble with the list is told with its cause, once until it is over", async () => {
  const { list, server, failures } = await open(true);
  for (const times of [1, 2]) {
    server.isDown = true;
    const { reads } = server;
    const refreshing = list.refresh();
    await vi.waitFor(() => expect(server.reads).toBeGreaterThan(reads + 2));
    server.isDown = false;
    await refreshing;
    expect(failures).toEqual(Array(times).fill(new Error("down")));
  }
});

test("nobody has a conversation with themselves", async () => {
  const { list } = await open(true);
  expect(list.withUser("bob")).toEqual(SUMMARY);
  expect(list.withUser("alice")).toBeUndefined();
});
