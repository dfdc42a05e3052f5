import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { PublishRefusedError } from "../src/link.js";
import { Receipts } from "../src/receipts.js";
import { Requests } from "../src/requests.js";
import { messageAt } from "./messages.js";

interface Published {
  readonly command: string;
  readonly messageId: string | undefined;
  readonly requestId: string;
}

function open(marksDelivered = true) {
  const published: Published[] = [];
  const state = { isOnline: true, refusesWith: undefined as number | undefined };
  const publish = (command: string, payload: object, requestId: string): Promise<void> => {
    if (!state.isOnline) return Promise.reject(new Error("not connected"));
    const fields = payload as { messageId?: string; lastReadMessageId?: string };
    published.push({ command, messageId: fields.messageId ?? fields.lastReadMessageId, requestId });
    if (state.refusesWith !== undefined) return Promise.reject(new PublishRefusedError("refused", state.refusesWith));
    return Promise.resolve();
  };
  const requests = new Requests({ publish, retry: { baseMs: 100, capMs: 100 }, timeoutMs: 1000 });
  let count = 0;
  const refused: string[] = [];
  const receipts = new Receipts({
    requests,
    publish,
    newRequestId: () => `request-${(count += 1)}`,
    marksDelivered,
    coalesceMs: 50,
    onRefused: ({ code }) => refused.push(code),
  });
  const marks = (): string[] => published.map(({ command, messageId }) => `${command} ${messageId}`);
  return { published, receipts, requests, marks, refused, state };
}

const answer = (messageId: string, seq: number) =>
  ({
    type: "messageRead",
    receipt: { conversationId: "conversation-1", messageId, seq, userId: "alice", status: "READ", at: "now" },
  }) as const;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("many messages become one mark, of the newest, per conversation", async () => {
  const { receipts, marks } = open();
  for (const seq of [1, 2, 3]) receipts.got(messageAt(seq));
  receipts.got(messageAt(9, { conversationId: "conversation-2" }));
  expect(marks()).toEqual([]);
  await vi.advanceTimersByTimeAsync(50);
  expect(marks()).toEqual(["markAsDelivered message-3", "markAsDelivered message-9"]);
  receipts.got(messageAt(2));
  await vi.advanceTimersByTimeAsync(50);
  expect(marks()).toHaveLength(2);
});

test("nothing is marked as delivered by itself when that is switched off", async () => {
  const { receipts, marks } = open(false);
  receipts.got(messageAt(1));
  await vi.advanceTimersByTimeAsync(100);
  expect(marks()).toEqual([]);
  receipts.markDelivered(messageAt(1));
  await vi.advanceTimersByTimeAsync(100);
  expect(marks()).toEqual(["markAsDelivered message-1"]);
});

test("a mark made without a connection goes out with the next one", async () => {
  const { receipts, marks, state } = open();
  state.isOnline = false;
  receipts.got(messageAt(4));
  await vi.advanceTimersByTimeAsync(50);
  state.isOnline = true;
  receipts.connected();
  await vi.advanceTimersByTimeAsync(50);
  expect(marks()).toEqual(["markAsDelivered message-4"]);
});

test.each([0x97, 0x87])("a delivered mark that the broker itself refuses (%i) is repeated until it takes it", async (code) => {
  const { receipts, marks, state } = open();
  state.refusesWith = code;
  receipts.got(messageAt(4));
  await vi.advanceTimersByTimeAsync(50 + 2000);
  expect(marks()).toEqual(["markAsDelivered message-4", "markAsDelivered message-4"]);
  state.refusesWith = undefined;
  await vi.advanceTimersByTimeAsync(2000);
  expect(marks()).toHaveLength(3);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(marks()).toHaveLength(3);
  expect(vi.getTimerCount()).toBe(0);
});

test("passing trouble repeats a delivered mark; what another device told needs none", async () => {
  const { receipts, marks, published } = open();
  receipts.got(messageAt(4));
  await vi.advanceTimersByTimeAsync(50);
  const error = { code: "STORAGE_UNAVAILABLE", message: "later", retryable: true, retryAfterMs: 700 };
  expect(receipts.refuse(published[0]?.requestId, error)).toBe(true);
  await vi.advanceTimersByTimeAsync(700);
  expect(marks()).toEqual(["markAsDelivered message-4", "markAsDelivered message-4"]);
  receipts.isDelivered("conversation-1", 8);
  receipts.got(messageAt(8));
  await vi.advanceTimersByTimeAsync(50);
  expect(marks()).toHaveLength(2);
  expect(receipts.refuse("unknown", error)).toBe(false);
});

test("a read mark is repeated until it is answered, and only then", async () => {
  const { receipts, requests, marks, published } = open();
  receipts.markRead("conversation-1", "message-5", 5);
  await vi.advanceTimersByTimeAsync(1100);
  expect(marks()).toEqual(["markAsRead message-5", "markAsRead message-5"]);
  requests.answer(published[1]?.requestId, answer("message-5", 5));
  await vi.advanceTimersByTimeAsync(5000);
  receipts.markRead("conversation-1", "message-5", 5);
  receipts.markRead("conversation-1", "message-3", 3);
  await vi.advanceTimersByTimeAsync(5000);
  expect(marks()).toHaveLength(2);
});

test("a mark further on takes the place of one that waits", async () => {
  const { receipts, requests, marks, published } = open();
  receipts.markRead("conversation-1", "message-5", 5);
  receipts.markRead("conversation-1", "message-6", 6);
  receipts.markRead("conversation-1", "message-7", 7);
  requests.answer(published[0]?.requestId, answer("message-5", 5));
  await vi.advanceTimersByTimeAsync(0);
  expect(marks()).toEqual(["markAsRead message-5", "markAsRead message-7"]);
});

test("a read mark refused for good is told, and may be made again", async () => {
  const { receipts, requests, marks, published, refused } = open();
  receipts.markRead("conversation-1", "message-5", 5);
  requests.refuse(published[0]?.requestId, { code: "MESSAGE_NOT_FOUND", message: "no", retryable: false });
  await vi.advanceTimersByTimeAsync(0);
  expect(refused).toEqual(["MESSAGE_NOT_FOUND"]);
  receipts.markRead("conversation-1", "message-5", 5);
  expect(marks()).toHaveLength(2);
});

test("a read mark refused for good leaves the newer one that waits", async () => {
  const { receipts, requests, marks, published, refused } = open();
  receipts.markRead("conversation-1", "message-5", 5);
  receipts.markRead("conversation-1", "message-7", 7);
  requests.refuse(published[0]?.requestId, { code: "MESSAGE_NOT_FOUND", message: "no", retryable: false });
  await vi.advanceTimersByTimeAsync(0);
  expect(refused).toEqual(["MESSAGE_NOT_FOUND"]);
  expect(marks()).toEqual(["markAsRead message-5", "markAsRead message-7"]);
  requests.answer(published[1]?.requestId, answer("message-7", 7));
  await vi.advanceTimersByTimeAsync(5000);
  expect(marks()).toHaveLength(2);
});
