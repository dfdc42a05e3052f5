import { Conversation, type ConversationOptions } from "./conversation.js";
import type { ConversationSummary, Receipt, SyncPage } from "./protocol.js";

export interface FollowedOptions extends Omit<ConversationOptions, "onChange"> {
  readonly onChange: (conversation: Conversation) => void;
  /** The user is known to have got everything up to a position. */
  readonly onOwnPosition: (conversationId: string, deliveredSeq: number) => void;
}

/** The conversations that were opened, or of which something was heard since the start. */
export class FollowedConversations {
  #conversations = new Map<string, Conversation>();

  constructor(private readonly options: FollowedOptions) {}

  get(conversationId: string): Conversation | undefined {
    return this.#conversations.get(conversationId);
  }

  follow(conversationId: string): Conversation {
    const known = this.#conversations.get(conversationId);
    if (known !== undefined) return known;
    const conversation: Conversation = new Conversation(conversationId, {
      ...this.options,
      onChange: () => this.options.onChange(conversation),
    });
    this.#conversations.set(conversationId, conversation);
    return conversation;
  }

  /** What the list of conversations says of one; returns whether that one tells of its messages itself. */
  learn(summary: ConversationSummary, userId: string): boolean {
    const conversation = this.#conversations.get(summary.conversationId);
    if (conversation === undefined) return false;
    for (const position of summary.positions ?? []) conversation.advance(position);
    if (summary.readSeq !== undefined) {
      conversation.advance({ userId, deliveredSeq: 0, readSeq: summary.readSeq });
      this.options.onOwnPosition(summary.conversationId, summary.readSeq);
    }
    conversation.catchUp(summary.lastSeq);
    return conversation.isLoaded;
  }

  /** Every device of the user gets every page: what it says of positions is good for all of them. */
  take(page: SyncPage, userId: string): void {
    for (const position of page.positions) {
      this.#conversations.get(page.conversationId)?.advance(position);
      if (position.userId === userId) this.options.onOwnPosition(page.conversationId, position.deliveredSeq);
    }
  }

  /** Returns whether the position is news. */
  moved({ conversationId, userId, seq, status }: Receipt): boolean {
    return this.follow(conversationId).advance({ userId, deliveredSeq: seq, readSeq: status === "READ" ? seq : 0 });
  }

  /** Asks for what came after what is held, everywhere. */
  resync(): void {
    for (const conversation of this.#conversations.values()) conversation.resync();
  }

  /** Makes waiting retries run at once. */
  wake(): void {
    for (const conversation of this.#conversations.values()) conversation.wake();
  }

  close(): void {
    for (const conversation of this.#conversations.values()) conversation.close();
  }
}
