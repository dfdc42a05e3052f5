import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { HistoryError } from "../src/history.js";
import { CommandError } from "../src/requests.js";
import { messageAt, positions, range } from "./messages.js";
import { follow, ScriptedHistory } from "./scripted-history.js";

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

test("a message that the first page brings before its event does is announced as well", async () => {
  const history = new ScriptedHistory();
  history.newest = 42;
  const { conversation, announced } = follow(history);
  conversation.receive(messageAt(41));
  await settled();
  conversation.receive(messageAt(42));
  conversation.receive(messageAt(43));
  expect(positions(announced)).toEqual([41, 42, 43]);
  expect(positions(conversation.messages)).toEqual(range(33, 43));
});

test("from a live message far before the newest page everything is fetched, and older pages still are", async () => {
  const history = new ScriptedHistory();
  history.newest = 60;
  const { conversation, announced } = follow(history);
  conversation.receive(messageAt(25));
  await settled();
  expect(positions(announced)).toEqual(range(25, 60));
  expect(await conversation.loadOlder()).toBe(true);
  expect(positions(conversation.messages)).toEqual(range(21, 60));
});

test("of a message that an older page brings before its event does there is only one", async () => {
  const history = new ScriptedHistory();
  history.newest = 12;
  const { conversation, announced } = follow(history);
  conversation.startAfter(12);
  await settled();
  history.newest = 13;
  await conversation.loadOlder();
  conversation.receive(messageAt(13));
  expect(positions(announced)).toEqual([13]);
  expect(positions(conversation.messages)).toEqual(range(4, 13));
});

test("only so many messages are kept, and the dropped ones can be scrolled back to", async () => {
  const history = new ScriptedHistory();
  const { conversation, announced } = follow(history, true, 40);
  history.newest = 101;
  for (const seq of range(1, 101)) conversation.receive(messageAt(seq));
  expect(positions(announced)).toEqual(range(1, 101));
  expect(positions(conversation.messages)).toEqual(range(66, 101));
  expect(conversation.reachedStart).toBe(false);
  expect(conversation.unreadAfter(60)).toBeUndefined();
  while (await conversation.loadOlder());
  expect(positions(conversation.messages)).toEqual(range(1, 101));
});

test("messages dropped while an older page is being read leave no hole", async () => {
  const history = new ScriptedHistory();
  history.newest = 60;
  const { conversation } = follow(history, true, 20);
  conversation.startAfter(40);
  await settled();
  await conversation.loadOlder();
  const reading = conversation.loadOlder();
  history.newest = 61;
  conversation.receive(messageAt(61));
  await reading;
  const held = positions(conversation.messages);
  expect(held).toEqual(range(held[0] ?? 0, 61));
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

const REFUSALS = [
  ...[400, 403, 404].map((status) => new HistoryError(`HTTP ${status}`, status, undefined)),
  new CommandError({ code: "CONVERSATION_NOT_FOUND", message: "no", retryable: false }),
];

test.each(REFUSALS)("a final refusal ($message) ends loading and is told; loading again asks again", async (refusal) => {
  const history = new ScriptedHistory();
  history.newest = 5;
  history.isDown = true;
  const { conversation, refusals } = follow(history);
  let isOver = false;
  void conversation.load().then(() => (isOver = true));
  await vi.advanceTimersByTimeAsync(200);
  expect(conversation.isBehind).toBe(true);
  history.downWith = refusal;
  await vi.advanceTimersByTimeAsync(100);
  expect(isOver).toBe(true);
  expect(conversation.isBehind).toBe(false);
  expect(refusals).toEqual([refusal]);
  history.isDown = false;
  await conversation.load();
  expect(positions(conversation.messages)).toEqual(range(1, 5));
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
