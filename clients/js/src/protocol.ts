/** Protocol v1 as this client speaks it: topics, payloads and the closed list of error codes. */

/** What the author's counterpart has done with a message so far. */
export type MessageStatus = "SENT" | "DELIVERED" | "READ";

/** A durable message; `seq` is its position in the conversation and the only order. */
export interface Message {
  readonly messageId: string;
  readonly conversationId: string;
  readonly seq: number;
  readonly senderId: string;
  readonly text: string;
  /** RFC 3339 in UTC, for display only. */
  readonly timestamp: string;
  readonly clientMessageId: string;
  readonly status: MessageStatus;
}

/** A conversation as its participant sees it. */
export interface ConversationSummary {
  readonly conversationId: string;
  readonly kind: string;
  readonly participantIds: readonly string[];
  /** Position of the newest state change; 0 when nothing was sent yet. */
  readonly lastSeq: number;
  readonly lastMessage?: Message | null;
  readonly unreadCount: number;
  readonly createdAt: string;
}

/** To whom a message goes; a recipient's conversation is opened on first use. */
export type Target =
  | { readonly conversationId: string; readonly recipientId?: undefined }
  | { readonly recipientId: string; readonly conversationId?: undefined };

export type ErrorCode =
  | "INVALID_PAYLOAD"
  | "PAYLOAD_TOO_LARGE"
  | "UNKNOWN_COMMAND"
  | "UNAUTHENTICATED"
  | "CONVERSATION_NOT_FOUND"
  | "NOT_CONNECTED"
  | "IDEMPOTENCY_CONFLICT"
  | "AUTHORIZATION_UNAVAILABLE"
  | "STORAGE_UNAVAILABLE"
  | "INTERNAL";

/** The service's answer to a command that it refused. A later service may know further codes. */
export interface ServiceError {
  readonly code: ErrorCode | (string & {});
  readonly message: string;
  readonly retryable: boolean;
  readonly retryAfterMs?: number;
  readonly command?: string;
  readonly clientMessageId?: string;
}

/** Longest text of one message, in characters (code points). */
export const MAX_TEXT_CHARACTERS = 5000;

/** One event as it came from the broker, checked as far as this client relies on it. */
export type ServiceEvent =
  | { readonly type: "messageSent" | "newMessage"; readonly message: Message }
  | { readonly type: "error"; readonly error: ServiceError }
  | { readonly type: "other"; readonly name: string; readonly payload: Readonly<Record<string, unknown>> };

export const commandTopic = (root: string, userId: string, command: string): string =>
  `${root}/users/${userId}/commands/${command}`;

export const eventsFilter = (root: string, userId: string): string => `${root}/users/${userId}/events/+`;

/**
 * Reads one event.
 *
 * Fields that this version does not know are ignored.
 *
 * @throws TypeError when the payload is not what protocol v1 says.
 */
export function parseEvent(topic: string, payload: Uint8Array): ServiceEvent {
  const name = topic.slice(topic.lastIndexOf("/") + 1);
  const body: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload));
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw new TypeError(`event ${name}: not a JSON object`);
  }
  const fields = body as Record<string, unknown>;
  switch (name) {
    case "messageSent":
    case "newMessage":
      return { type: name, message: readMessage(fields) };
    case "error":
      return { type: "error", error: readError(fields) };
    default:
      return { type: "other", name, payload: fields };
  }
}

/**
 * Checks and copies a message out of an event or a REST answer.
 *
 * @throws TypeError when a field is missing or of the wrong type.
 */
export function readMessage(fields: Record<string, unknown>): Message {
  return {
    messageId: text(fields, "messageId"),
    conversationId: text(fields, "conversationId"),
    seq: integer(fields, "seq"),
    senderId: text(fields, "senderId"),
    text: text(fields, "text"),
    timestamp: text(fields, "timestamp"),
    clientMessageId: text(fields, "clientMessageId"),
    status: fields.status === "DELIVERED" || fields.status === "READ" ? fields.status : "SENT",
  };
}

function readError(fields: Record<string, unknown>): ServiceError {
  return {
    code: text(fields, "code"),
    message: text(fields, "message"),
    retryable: fields.retryable === true,
    ...(typeof fields.retryAfterMs === "number" && { retryAfterMs: fields.retryAfterMs }),
    ...(typeof fields.command === "string" && { command: fields.command }),
    ...(typeof fields.clientMessageId === "string" && { clientMessageId: fields.clientMessageId }),
  };
}

function text(fields: Record<string, unknown>, name: string): string {
  const value = fields[name];
  if (typeof value !== "string") throw new TypeError(`${name}: expected a string`);
  return value;
}

function integer(fields: Record<string, unknown>, name: string): number {
  const value = fields[name];
  if (typeof value !== "number" || !Number.isSafeInteger(value)) throw new TypeError(`${name}: expected an integer`);
  return value;
}
