import type { ServiceEvent } from "./events.js";
import type { Message, Preferences, Presence, Receipt, ServiceError, SyncPage, Typing } from "./protocol.js";

/** Who takes which event. */
export interface EventTakers {
  onMessage(message: Message): void;
  onReceipt(receipt: Receipt): void;
  onSyncPage(page: SyncPage): void;
  onTyping(typing: Typing, expiresInMs: number): void;
  onPresence(presence: Presence): void;
  onPreferences(preferences: Preferences): void;
  /** `id`: the command that was refused, by its `clientMessageId` or its `requestId`. */
  onError(error: ServiceError, id: string | undefined): void;
  /** An answer, after the others have taken it. */
  onAnswer(requestId: string, event: ServiceEvent): void;
}

/** Hands one event to whoever takes it; events that this version does not know are ignored. */
export function route(event: ServiceEvent, correlation: string | undefined, takers: EventTakers): void {
  switch (event.type) {
    case "messageSent":
    case "newMessage":
      takers.onMessage(event.message);
      break;
    case "messageDelivered":
    case "messageRead":
      takers.onReceipt(event.receipt);
      break;
    case "syncPage":
      takers.onSyncPage(event.page);
      break;
    case "typing":
      takers.onTyping(event.typing, event.expiresInMs);
      break;
    case "presence":
      takers.onPresence(event.presence);
      break;
    case "preferencesChanged":
      takers.onPreferences(event.preferences);
      break;
    case "error":
      takers.onError(event.error, event.error.clientMessageId ?? event.requestId ?? correlation);
      return;
    case "other":
      return;
  }
  const requestId = event.requestId ?? correlation;
  if (requestId !== undefined) takers.onAnswer(requestId, event);
}
