import type { ConversationSummary, MessagingClient } from "../src/index.js";

/** How far the user has read on this browser, so that badges clear when a conversation is looked at. */
export class ReadMarks {
  #key: string;

  constructor(client: MessagingClient) {
    this.#key = `messages-demo/read/${client.userId}/`;
  }

  /** Returns whether the mark moved. */
  mark(conversationId: string, seq: number): boolean {
    if (seq <= this.#read(conversationId)) return false;
    localStorage.setItem(this.#key + conversationId, String(seq));
    return true;
  }

  unread(summary: ConversationSummary): number {
    return Math.min(summary.unreadCount, Math.max(0, summary.lastSeq - this.#read(summary.conversationId)));
  }

  #read(conversationId: string): number {
    return Number(localStorage.getItem(this.#key + conversationId) ?? 0);
  }
}
