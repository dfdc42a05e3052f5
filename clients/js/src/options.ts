import type { BackoffLimits } from "./backoff.js";
import type { ConnectionState } from "./connection.js";
import type { Conversation } from "./conversation.js";
import type { HistoryApi } from "./history.js";
import type { SendUpdate } from "./outbox.js";
import { IndexedDbOutboxStorage, MemoryOutboxStorage, type OutboxStorage } from "./outbox-storage.js";
import type { ConversationSummary, Message, Preferences, Presence, Receipt, ServiceError, Typing } from "./protocol.js";

export interface MessagingClientOptions {
  /** The broker's WebSocket (or, under Node, TCP) address. */
  readonly url: string;
  readonly userId: string;
  /** Stable per device: the broker's session and the outbox hang on it. No two connections may share it. */
  readonly deviceId: string;
  /** A fresh JWT whose `sub` is `userId`; called before each attempt to connect, and given up after `connectTimeoutMs`. */
  readonly token: () => Promise<string>;
  readonly topicRoot?: string;
  /** Scrolling back, the list of conversations and the last-seen of who is offline; the rest needs only MQTT. */
  readonly history?: HistoryApi;
  /** Default: IndexedDB in a browser, memory elsewhere. */
  readonly storage?: OutboxStorage;
  /** Whether messages are marked as delivered as soon as this device has them. Default: true. */
  readonly marksDelivered?: boolean;
  /** Most messages that one conversation keeps in memory, besides those scrolled back to. Default: 10,000. */
  readonly keptMessages?: number;
  readonly sessionExpirySeconds?: number;
  readonly keepaliveSeconds?: number;
  readonly connectTimeoutMs?: number;
  readonly reconnect?: BackoffLimits;
  readonly resend?: BackoffLimits;
}

/** A message of this user has come further; never goes back. */
export interface StatusUpdate {
  readonly status: "sending" | "failed" | "discarded" | "sent" | "delivered" | "read";
  readonly clientMessageId: string;
  /** From `sent` on. */
  readonly message?: Message;
}

/** What the client tells. Per conversation, `message` comes in `seq` order, each message once. */
export interface ClientEvents {
  connection: ConnectionState;
  message: Message;
  /** This device's own messages, until they are durable. */
  send: SendUpdate;
  /** The user's messages on their way, one event for each step of each message. */
  status: StatusUpdate;
  /** A participant's position has moved: other people's, and the user's own from whatever device. */
  receipt: Receipt;
  typing: Typing;
  presence: Presence;
  preferences: Preferences;
  /** What is to be shown of this conversation has changed: messages, their status, or its state. */
  conversation: Conversation;
  conversations: readonly ConversationSummary[];
  /** An error answer that belongs to nothing this device waits for, or ends it. */
  serviceError: ServiceError;
  /** Something the application may want to log; the client carries on. */
  warning: Error;
}

export const DEFAULTS = {
  topicRoot: "chat/v1",
  sessionExpirySeconds: 24 * 60 * 60,
  keepaliveSeconds: 30,
  connectTimeoutMs: 10_000,
  reconnect: { baseMs: 500, capMs: 30_000 },
  resend: { baseMs: 8000, capMs: 60_000 },
  /** Fetching what is missing, and questions that are asked until they are answered. */
  retry: { baseMs: 500, capMs: 10_000 },
  requestTimeoutMs: 8000,
  coalesceMs: 50,
  keptMessages: 10_000,
  farewellMs: 1000,
} as const;

export function defaultStorage(userId: string, deviceId: string): OutboxStorage {
  return IndexedDbOutboxStorage.available
    ? new IndexedDbOutboxStorage(`messaging-outbox/${userId}/${deviceId}`)
    : new MemoryOutboxStorage();
}
