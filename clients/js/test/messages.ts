import type { ConversationSummary, Message } from "../src/protocol.js";

/** A message as the service would send it; its ids follow from `seq`. */
export function messageAt(seq: number, fields: Partial<Message> = {}): Message {
  return {
    messageId: `message-${seq}`,
    conversationId: "conversation-1",
    seq,
    senderId: "bob",
    text: `text ${seq}`,
    timestamp: "2026-01-01T12:00:00.000000Z",
    clientMessageId: `key-${seq}`,
    status: "SENT",
    ...fields,
  };
}

export const positions = (messages: readonly Message[]): number[] => messages.map(({ seq }) => seq);

export const range = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, index) => first + index);

/** A conversation of Alice and Bob of which Alice has read two messages of five. */
export const SUMMARY: ConversationSummary = {
  conversationId: "conversation-1",
  kind: "direct",
  participantIds: ["alice", "bob"],
  lastSeq: 5,
  lastMessage: messageAt(5),
  unreadCount: 3,
  readSeq: 2,
  createdAt: "2026-01-01T12:00:00.000000Z",
};
