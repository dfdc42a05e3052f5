/** Client library of platform-service-messaging for browsers and Node. */
export type { BackoffLimits } from "./backoff.js";
export { type ClientEvents, MessagingClient, type MessagingClientOptions } from "./client.js";
export type { ConnectionState } from "./connection.js";
export type { Conversation } from "./conversation.js";
export type { EventOf } from "./emitter.js";
export { type ConversationPage, type HistoryApi, HistoryError, type MessagePage, RestHistoryApi } from "./history.js";
export type { SendUpdate } from "./outbox.js";
export {
  IndexedDbOutboxStorage,
  MemoryOutboxStorage,
  type OutboxEntry,
  type OutboxStorage,
} from "./outbox-storage.js";
export {
  type ConversationSummary,
  type ErrorCode,
  MAX_TEXT_CHARACTERS,
  type Message,
  type MessageStatus,
  type ServiceError,
  type Target,
} from "./protocol.js";
export { TokenCache } from "./token.js";
export { randomUuid } from "./uuid.js";
export type { SendHandle, SendResult } from "./send-handle.js";
