import { expect, test } from "vitest";
import { commandTopic, eventsFilter, parseEvent } from "../src/protocol.js";
import { messageAt } from "./messages.js";

const bytes = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
const topic = (event: string): string => `chat/v1/users/alice/events/${event}`;

test("topics are those of protocol v1", () => {
  expect(commandTopic("chat/v1", "alice", "sendMessage")).toBe("chat/v1/users/alice/commands/sendMessage");
  expect(eventsFilter("chat/v1", "alice")).toBe("chat/v1/users/alice/events/+");
});

test("messageSent and newMessage carry a message; unknown fields are ignored", () => {
  const event = parseEvent(topic("newMessage"), bytes({ ...messageAt(3), status: undefined, someday: 1 }));
  expect(event).toEqual({ type: "newMessage", message: messageAt(3) });
  expect(parseEvent(topic("messageSent"), bytes(messageAt(3))).type).toBe("messageSent");
});

test("an error keeps what the client acts on", () => {
  const error = { code: "STORAGE_UNAVAILABLE", message: "later", retryable: true, retryAfterMs: 500, clientMessageId: "a" };
  expect(parseEvent(topic("error"), bytes(error))).toEqual({ type: "error", error });
});

test("an event of a later version is passed on", () => {
  expect(parseEvent(topic("typing"), bytes({ isTyping: true }))).toMatchObject({ type: "other", name: "typing" });
});

test.each([["[]"], ["null"], ["{"], ['{"seq":"3"}'], ["\xff"]])("%s is no event", (payload) => {
  const raw = payload === "\xff" ? new Uint8Array([0xff]) : new TextEncoder().encode(payload);
  expect(() => parseEvent(topic("newMessage"), raw)).toThrow();
});
