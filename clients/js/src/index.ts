/** Client library of platform-service-messaging for browsers and Node. */
export type { BackoffLimits } from "./backoff.js";
export { MessagingClient } from "./client.js";
export type { ConnectionState } from "./connection.js";
export type { Conversation } from "./conversation.js";
export type { EventOf } from "./emitter.js";
export { type ConversationPage, type HistoryApi, HistoryError, type MessagePage, RestHistoryApi } from "./history.js";
export type { ClientEvents, MessagingClientOptions, StatusUpdate } from "./options.js";
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
  type Position,
  type Preferences,
  type Presence,
  type PresenceState,
  type Receipt,
  type ServiceError,
  type Target,
  type Typing,
} from "./protocol.js";
export { CommandError } from "./requests.js";
export { TokenCache } from "./token.js";
export { randomUuid } from "./uuid.js";
export type { SendHandle, SendResult } from "./send-handle.js";
