import { integerOf, readMessage, textOf } from "./protocol.js";
import type { Message, Position, Preferences, Presence, Receipt, ServiceError, SyncPage, Typing } from "./protocol.js";

type Fields = Record<string, unknown>;

/** One event as it came from the broker, checked as far as this client relies on it. */
export type ServiceEvent = { readonly requestId?: string | undefined } & (
  | { readonly type: "messageSent" | "newMessage"; readonly message: Message }
  | { readonly type: "messageDelivered" | "messageRead"; readonly receipt: Receipt }
  | { readonly type: "syncPage"; readonly page: SyncPage }
  | { readonly type: "typing"; readonly typing: Typing; readonly expiresInMs: number }
  | { readonly type: "presence"; readonly presence: Presence }
  | { readonly type: "preferencesChanged"; readonly preferences: Preferences }
  | { readonly type: "error"; readonly error: ServiceError }
  | { readonly type: "other"; readonly name: string; readonly payload: Readonly<Fields> }
);

/**
 * Reads one event.
 *
 * Fields that this version does not know are ignored.
 *
 * @throws TypeError or SyntaxError when the payload is not what protocol v1 says.
 */
export function parseEvent(topic: string, payload: Uint8Array): ServiceEvent {
  const name = topic.slice(topic.lastIndexOf("/") + 1);
  const body: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload));
  const fields = asFields(body, `event ${name}`);
  const requestId = typeof fields.requestId === "string" ? fields.requestId : undefined;
  switch (name) {
    case "messageSent":
    case "newMessage":
      return { type: name, message: readMessage(fields), requestId };
    case "messageDelivered":
    case "messageRead":
      return { type: name, receipt: readReceipt(fields, name), requestId };
    case "syncPage":
      return { type: name, page: readSyncPage(fields), requestId };
    case "typing":
      return { type: name, typing: readTyping(fields), expiresInMs: integerOf(fields, "expiresInMs") };
    case "presence":
      return { type: name, presence: readPresence(fields) };
    case "preferencesChanged":
      return { type: name, preferences: readPreferences(fields), requestId };
    case "error":
      return { type: name, error: readError(fields), requestId };
    default:
      return { type: "other", name, payload: fields };
  }
}

/**
 * Checks and copies how far a participant has come.
 *
 * @throws TypeError when a field is missing or of the wrong type.
 */
export function readPosition(fields: Fields): Position {
  return {
    userId: textOf(fields, "userId"),
    deliveredSeq: integerOf(fields, "deliveredSeq"),
    readSeq: integerOf(fields, "readSeq"),
  };
}

/**
 * Checks and copies whether a user is there.
 *
 * @throws TypeError when a field is missing or of the wrong type.
 */
export function readPresence(fields: Fields): Presence {
  const state = textOf(fields, "state");
  if (state !== "online" && state !== "away" && state !== "offline") throw new TypeError("state: unknown");
  const lastSeenAt = typeof fields.lastSeenAt === "string" ? fields.lastSeenAt : null;
  return { userId: textOf(fields, "userId"), state, lastSeenAt };
}

function readReceipt(fields: Fields, name: "messageDelivered" | "messageRead"): Receipt {
  const isRead = name === "messageRead";
  return {
    conversationId: textOf(fields, "conversationId"),
    messageId: textOf(fields, "messageId"),
    seq: integerOf(fields, "seq"),
    userId: textOf(fields, "userId"),
    status: isRead ? "READ" : "DELIVERED",
    at: textOf(fields, isRead ? "readAt" : "deliveredAt"),
  };
}

function readSyncPage(fields: Fields): SyncPage {
  const changes = listOf(fields, "changes");
  return {
    conversationId: textOf(fields, "conversationId"),
    messages: changes.filter(({ type }) => type === "message").map(readMessage),
    // Changes of a kind that this version does not know count as well: they leave no hole.
    upToSeq: Math.max(integerOf(fields, "afterSeq"), ...changes.map((change) => integerOf(change, "seq"))),
    positions: listOf(fields, "positions").map(readPosition),
    complete: fields.complete === true,
  };
}

function readTyping(fields: Fields): Typing {
  const isTyping = fields.isTyping === true;
  return { conversationId: textOf(fields, "conversationId"), userId: textOf(fields, "userId"), isTyping };
}

function readPreferences(fields: Fields): Preferences {
  return { readReceipts: fields.readReceipts === true, invisible: fields.invisible === true };
}

function readError(fields: Fields): ServiceError {
  return {
    code: textOf(fields, "code"),
    message: textOf(fields, "message"),
    retryable: fields.retryable === true,
    ...(typeof fields.retryAfterMs === "number" && { retryAfterMs: fields.retryAfterMs }),
    ...(typeof fields.command === "string" && { command: fields.command }),
    ...(typeof fields.clientMessageId === "string" && { clientMessageId: fields.clientMessageId }),
    ...(typeof fields.requestId === "string" && { requestId: fields.requestId }),
  };
}

function listOf(fields: Fields, name: string): Fields[] {
  const value = fields[name];
  if (!Array.isArray(value)) throw new TypeError(`${name}: expected a list`);
  return value.map((item) => asFields(item, name));
}

function asFields(value: unknown, what: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new TypeError(`${what}: not a JSON object`);
  }
  return value as Fields;
}
