import { expect, test } from "vitest";
import { parseEvent } from "../src/events.js";
import { messageAt } from "./messages.js";

const bytes = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
const topic = (event: string): string => `chat/v1/users/alice/events/${event}`;
const position = { conversationId: "c", messageId: "m", seq: 4, userId: "bob" };

test("messageSent and newMessage carry a message; unknown fields are ignored", () => {
  const event = parseEvent(topic("newMessage"), bytes({ ...messageAt(3), status: undefined, someday: 1 }));
  expect(event).toMatchObject({ type: "newMessage", message: messageAt(3) });
  expect(parseEvent(topic("messageSent"), bytes(messageAt(3))).type).toBe("messageSent");
});

test("an error keeps what the client acts on", () => {
  const error = { code: "STORAGE_UNAVAILABLE", message: "later", retryable: true, retryAfterMs: 500, clientMessageId: "a" };
  expect(parseEvent(topic("error"), bytes(error))).toMatchObject({ type: "error", error });
});

test("an event of a later version is passed on", () => {
  expect(parseEvent(topic("someday"), bytes({ isNew: true }))).toMatchObject({ type: "other", name: "someday" });
});

test.each([["[]"], ["null"], ["{"], ['{"seq":"3"}'], ["\xff"]])("%s is no event", (payload) => {
  const raw = payload === "\xff" ? new Uint8Array([0xff]) : new TextEncoder().encode(payload);
  expect(() => parseEvent(topic("newMessage"), raw)).toThrow();
});

test("receipts tell who has come how far, and when", () => {
  expect(parseEvent(topic("messageDelivered"), bytes({ ...position, deliveredAt: "then" }))).toMatchObject({
    receipt: { ...position, status: "DELIVERED", at: "then" },
  });
  expect(parseEvent(topic("messageRead"), bytes({ ...position, readAt: "then", requestId: "r" }))).toMatchObject({
    receipt: { ...position, status: "READ", at: "then" },
    requestId: "r",
  });
});

test("a page of changes goes on after its last change, of whatever kind", () => {
  const changes = [{ type: "message", ...messageAt(5) }, { type: "someday", seq: 6 }];
  const positions = [{ userId: "bob", deliveredSeq: 5, readSeq: 4 }];
  const fields = { conversationId: "c", afterSeq: 4, changes, positions, complete: false };
  expect(parseEvent(topic("syncPage"), bytes(fields))).toMatchObject({
    page: { messages: [messageAt(5)], upToSeq: 6, positions, complete: false },
  });
  expect(parseEvent(topic("syncPage"), bytes({ ...fields, changes: [] }))).toMatchObject({ page: { upToSeq: 4 } });
});

test("typing, presence and preferences are checked", () => {
  const typing = { conversationId: "c", userId: "bob", isTyping: true };
  expect(parseEvent(topic("typing"), bytes({ ...typing, expiresInMs: 6000 }))).toMatchObject({ typing, expiresInMs: 6000 });
  const presence = { userId: "bob", state: "away", lastSeenAt: null };
  expect(parseEvent(topic("presence"), bytes(presence))).toMatchObject({ presence });
  expect(() => parseEvent(topic("presence"), bytes({ ...presence, state: "asleep" }))).toThrow(TypeError);
  const preferences = { readReceipts: false, invisible: true };
  expect(parseEvent(topic("preferencesChanged"), bytes(preferences))).toMatchObject({ preferences });
});
