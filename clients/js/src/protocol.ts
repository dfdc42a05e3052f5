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
  /** How far the user has read, on any device. */
  readonly readSeq?: number;
  /** How far the other participants have come, as the user may see it. */
  readonly positions?: readonly Position[];
  readonly createdAt: string;
}

/** How far a participant has come: everything up to and including these positions. */
export interface Position {
  readonly userId: string;
  readonly deliveredSeq: number;
  readonly readSeq: number;
}

/** A participant's position has moved up to a message. */
export interface Receipt {
  readonly conversationId: string;
  readonly messageId: string;
  readonly seq: number;
  readonly userId: string;
  readonly status: "DELIVERED" | "READ";
  /** RFC 3339 in UTC. */
  readonly at: string;
}

/** Whether a participant is writing something just now. */
export interface Typing {
  readonly conversationId: string;
  readonly userId: string;
  readonly isTyping: boolean;
}

export type PresenceState = "online" | "away" | "offline";

/** Whether a user is there, over all devices. */
export interface Presence {
  readonly userId: string;
  readonly state: PresenceState;
  /** RFC 3339 in UTC; only of somebody offline, and only where known. */
  readonly lastSeenAt: string | null;
}

/** What a user has chosen about being seen. */
export interface Preferences {
  /** Whether others see how far the user has read. */
  readonly readReceipts: boolean;
  /** Whether the user always appears offline. */
  readonly invisible: boolean;
}

/** What follows a position in a conversation, oldest first and without a hole. */
export interface SyncPage {
  readonly conversationId: string;
  readonly messages: readonly Message[];
  /** The last change on this page; later ones are asked for after it. */
  readonly upToSeq: number;
  readonly positions: readonly Position[];
  /** Whether nothing follows this page. */
  readonly complete: boolean;
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
  | "MESSAGE_NOT_FOUND"
  | "NOT_CONNECTED"
  | "IDEMPOTENCY_CONFLICT"
  | "AUTHORIZATION_UNAVAILABLE"
  | "STORAGE_UNAVAILABLE"
  | "RATE_LIMITED"
  | "BUSY"
  | "INTERNAL";

/** The service's answer to a command that it refused. A later service may know further codes. */
export interface ServiceError {
  readonly code: ErrorCode | (string & {});
  readonly message: string;
  readonly retryable: boolean;
  readonly retryAfterMs?: number;
  readonly command?: string;
  readonly clientMessageId?: string;
  readonly requestId?: string;
}

/** Longest text of one message, in characters (code points). */
export const MAX_TEXT_CHARACTERS = 5000;

export const commandTopic = (root: string, userId: string, command: string): string =>
  `${root}/users/${userId}/commands/${command}`;

export const eventsFilter = (root: string, userId: string): string => `${root}/users/${userId}/events/+`;

/**
 * Checks and copies a message out of an event or a REST answer.
 *
 * @throws TypeError when a field is missing or of the wrong type.
 */
export function readMessage(fields: Record<string, unknown>): Message {
  return {
    messageId: textOf(fields, "messageId"),
    conversationId: textOf(fields, "conversationId"),
    seq: integerOf(fields, "seq"),
    senderId: textOf(fields, "senderId"),
    text: textOf(fields, "text"),
    timestamp: textOf(fields, "timestamp"),
    clientMessageId: textOf(fields, "clientMessageId"),
    status: fields.status === "DELIVERED" || fields.status === "READ" ? fields.status : "SENT",
  };
}

/** @throws TypeError when the field is no string. */
export function textOf(fields: Record<string, unknown>, name: string): string {
  const value = fields[name];
  if (typeof value !== "string") throw new TypeError(`${name}: expected a string`);
  return value;
}

/** @throws TypeError when the field is no integer. */
export function integerOf(fields: Record<string, unknown>, name: string): number {
  const value = fields[name];
  if (typeof value !== "number" || !Number.isSafeInteger(value)) throw new TypeError(`${name}: expected an integer`);
  return value;
}
