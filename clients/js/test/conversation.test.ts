import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Conversation } from "../src/conversation.js";
import type { ConversationPage, HistoryApi, MessagePage } from "../src/history.js";
import type { ConversationSummary, Message, SyncPage } from "../src/protocol.js";
import { messageAt, positions, range } from "./messages.js";

const PAGE = 10;

/** A history of which a test says how far it goes and whether it answers. */
class ScriptedHistory implements HistoryApi {
  newest = 0;
  isDown = false;
  calls = 0;
  skipped = new Set<number>();

  listMessages(_: string, cursor?: string): Promise<MessagePage> {
    this.calls += 1;
    if (this.isDown) return Promise.reject(new Error("down"));
    const from = cursor === undefined ? this.newest : Number(cursor);
    const seqs = range(1, from).reverse().filter((seq) => !this.skipped.has(seq));
    const page = seqs.slice(0, PAGE);
    const more = seqs[PAGE];
    return Promise.resolve({ messages: page.map((seq) => messageAt(seq)), nextCursor: more === undefined ? null : String(more) });
  }

  /** What MQTT answers about the same conversation. */
  sync(afterSeq: number): Promise<SyncPage> {
    this.calls += 1;
    if (this.isDown) return Promise.reject(new Error("down"));
    const seqs = range(afterSeq + 1, this.newest).filter((seq) => !this.skipped.has(seq));
    const messages = seqs.slice(0, PAGE).map((seq) => messageAt(seq));
    const complete = seqs.length <= PAGE;
    const upToSeq = messages.at(-1)?.seq ?? afterSeq;
    return Promise.resolve({ conversationId: "conversation-1", messages, upToSeq, positions: [], complete });
  }

  listConversations(): Promise<ConversationPage> {
    return Promise.resolve({ conversations: [], nextCursor: null });
  }

  getConversation(): Promise<ConversationSummary> {
    return Promise.reject(new Error("not asked for here"));
  }
}

function follow(history: ScriptedHistory, withHistory = true) {
  const announced: Message[] = [];
  const steps: string[] = [];
  const conversation = new Conversation("conversation-1", {
    userId: "alice",
    history: withHistory ? history : undefined,
    sync: (_, afterSeq) => history.sync(afterSeq),
    retry: { baseMs: 100, capMs: 100 },
    onMessage: (message) => announced.push(message),
    onFetched: () => undefined,
    onStatus: (message) => steps.push(`${message.seq} ${message.status}`),
    onChange: () => undefined,
  });
  return { conversation, announced, steps };
}

const settled = (): Promise<unknown> => vi.advanceTimersByTimeAsync(0);

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("loading shows the newest page, scrolling back the rest", async () => {
  const history = new ScriptedHistory();
  history.newest = 25;
  const { conversation, announced } = follow(history);
  await conversation.load();
  expect(positions(conversation.messages)).toEqual(range(16, 25));
  expect(conversation.reachedStart).toBe(false);
  expect(await conversation.loadOlder()).toBe(true);
  expect(await conversation.loadOlder()).toBe(false);
  expect(positions(conversation.messages)).toEqual(range(1, 25));
  expect(conversation.reachedStart).toBe(true);
  expect(announced).toEqual([]);
});

test("a jump in seq is repaired over several pages, in order, each message once", async () => {
  const history = new ScriptedHistory();
  history.newest = 5;
  const { conversation, announced } = follow(history);
  await conversation.load();
  history.newest = 40;
  conversation.receive(messageAt(40));
  await settled();
  expect(positions(announced)).toEqual(range(6, 40));
  expect(positions(conversation.messages)).toEqual(range(1, 40));
});

test("while the history is down nothing is shown out of order, and later everything is", async () => {
  const history = new ScriptedHistory();
  history.newest = 5;
  const { conversation, announced } = follow(history);
  await conversation.load();
  history.isDown = true;
  history.newest = 8;
  conversation.receive(messageAt(8));
  await vi.advanceTimersByTimeAsync(1000);
  expect(announced).toEqual([]);
  expect(conversation.isBehind).toBe(true);
  expect(positions(conversation.heldBack)).toEqual([8]);
  history.isDown = false;
  await vi.advanceTimersByTimeAsync(100);
  expect(positions(announced)).toEqual([6, 7, 8]);
  expect(conversation.isBehind).toBe(false);
});

test("a known newer position is fetched although no event came", async () => {
  const history = new ScriptedHistory();
  history.newest = 5;
  const { conversation, announced } = follow(history);
  await conversation.load();
  history.newest = 7;
  conversation.catchUp(7);
  await settled();
  expect(positions(announced)).toEqual([6, 7]);
  conversation.catchUp(7);
  await settled();
  expect(history.calls).toBe(2);
});

test("positions that are no messages neither block nor loop", async () => {
  const history = new ScriptedHistory();
  history.newest = 5;
  const { conversation, announced } = follow(history);
  await conversation.load();
  history.newest = 9;
  history.skipped = new Set([6, 7, 9]);
  conversation.catchUp(9);
  await settled();
  conversation.receive(messageAt(10));
  await settled();
  expect(positions(announced)).toEqual([8, 10]);
  expect(history.calls).toBe(2);
});

test("live messages before the first page are announced once and in order", async () => {
  const history = new ScriptedHistory();
  history.newest = 12;
  const { conversation, announced } = follow(history);
  conversation.receive(messageAt(12));
  history.newest = 13;
  conversation.receive(messageAt(13));
  await settled();
  expect(positions(announced)).toEqual([12, 13]);
  expect(positions(conversation.messages)).toEqual(range(3, 13));
});

test("without a history, a conversation that nobody opened begins with its first event", async () => {
  const history = new ScriptedHistory();
  const { conversation, announced } = follow(history, false);
  conversation.receive(messageAt(4));
  await settled();
  history.newest = 7;
  conversation.receive(messageAt(7));
  await settled();
  expect(positions(announced)).toEqual([4, 5, 6, 7]);
});

test("without a history, opening reads everything from the start", async () => {
  const history = new ScriptedHistory();
  history.newest = 25;
  const { conversation, announced } = follow(history, false);
  await conversation.load();
  expect(positions(announced)).toEqual(range(1, 25));
});

test("a position that the application has kept is where the events go on", async () => {
  const history = new ScriptedHistory();
  history.newest = 25;
  const { conversation, announced } = follow(history);
  conversation.startAfter(12);
  await settled();
  expect(positions(announced)).toEqual(range(13, 25));
  history.newest = 26;
  conversation.resync();
  await settled();
  expect(positions(announced)).toEqual(range(13, 26));
});

test("a kept position that comes while the newest page is being read leaves nothing out", async () => {
  const history = new ScriptedHistory();
  history.newest = 25;
  const { conversation, announced } = follow(history);
  conversation.receive(messageAt(11));
  conversation.receive(messageAt(25));
  conversation.startAfter(12);
  await settled();
  expect(positions(announced)).toEqual(range(13, 25));
  expect(positions(conversation.messages)).toEqual(range(13, 25));
  expect(await conversation.loadOlder()).toBe(true);
  expect(positions(conversation.messages)).toEqual(range(6, 25));
});

test("a kept position before what was told of is refused, not ignored", async () => {
  const history = new ScriptedHistory();
  history.newest = 25;
  const { conversation, announced } = follow(history);
  await conversation.load();
  expect(() => conversation.startAfter(24)).toThrow("afterSeq 24 comes too late");
  conversation.startAfter(25);
  history.newest = 27;
  conversation.resync();
  await settled();
  conversation.startAfter(25);
  conversation.startAfter(27);
  expect(positions(announced)).toEqual([26, 27]);
});

test("a kept position may be given again, whatever came since", async () => {
  const history = new ScriptedHistory();
  history.newest = 25;
  const { conversation, announced } = follow(history);
  conversation.startAfter(12);
  await settled();
  conversation.startAfter(12);
  conversation.startAfter(20);
  expect(() => conversation.startAfter(11)).toThrow(RangeError);
  await settled();
  expect(positions(announced)).toEqual(range(13, 25));
});

test("without a history, a kept position before the first event is refused", async () => {
  const { conversation } = follow(new ScriptedHistory(), false);
  conversation.receive(messageAt(4));
  await settled();
  expect(() => conversation.startAfter(2)).toThrow(RangeError);
  conversation.startAfter(3);
});

test("statuses follow the positions, step by step, and never go back", async () => {
  const { conversation, steps } = follow(new ScriptedHistory(), false);
  for (const seq of [1, 2, 3]) conversation.receive(messageAt(seq, { senderId: seq === 2 ? "bob" : "alice" }));
  const bob = { userId: "bob", deliveredSeq: 0, readSeq: 0 };
  expect(conversation.advance({ ...bob, deliveredSeq: 3 })).toBe(true);
  expect(conversation.advance({ ...bob, readSeq: 1 })).toBe(true);
  expect(conversation.advance({ ...bob, deliveredSeq: 1 })).toBe(false);
  expect(steps).toEqual(["1 DELIVERED", "3 DELIVERED", "1 READ"]);
  expect(conversation.messages.map(({ status }) => status)).toEqual(["READ", "SENT", "DELIVERED"]);
});

test("unread is counted from what is held, and not at all when something is missing", async () => {
  const history = new ScriptedHistory();
  history.newest = 25;
  const { conversation } = follow(history);
  await conversation.load();
  expect(conversation.unreadAfter(20)).toBe(5);
  expect(conversation.unreadAfter(15)).toBe(10);
  expect(conversation.unreadAfter(3)).toBeUndefined();
});

test("closing ends the retries", async () => {
  const history = new ScriptedHistory();
  history.isDown = true;
  const { conversation } = follow(history);
  void conversation.load();
  await vi.advanceTimersByTimeAsync(500);
  conversation.close();
  const { calls } = history;
  await vi.advanceTimersByTimeAsync(5000);
  expect(history.calls).toBe(calls);
});
