import { Backoff, type BackoffLimits } from "./backoff.js";
import type { HistoryApi } from "./history.js";
import { Pause } from "./pause.js";
import type { ConversationSummary, Message } from "./protocol.js";

export interface ConversationListOptions {
  readonly userId: string;
  readonly history: HistoryApi | undefined;
  readonly retry: BackoffLimits;
  readonly onChange: () => void;
  /** Others' messages after a position; undefined when that is not known here. */
  readonly unreadAfter: (conversationId: string, seq: number) => number | undefined;
  /** The history could not be read, and is tried again from now on: told once, not for each attempt. */
  readonly onUnreachable: (cause: unknown) => void;
  /** The conversation has reached `summary.lastSeq` at least, as the history says. */
  readonly onSummary: (summary: ConversationSummary) => void;
}

/** The user's conversations: read from the history, kept current by live messages. */
export class ConversationList {
  #summaries = new Map<string, ConversationSummary>();
  #loaded = false;
  #refreshing: Promise<void> | undefined;
  #refreshAgain = false;
  #isBehind = false;
  #closed = false;
  #pause = new Pause();

  constructor(private readonly options: ConversationListOptions) {}

  /** Whether the list was read at least once since the start. */
  get isLoaded(): boolean {
    return this.#loaded;
  }

  /** Reading is being retried: the history cannot be reached now. */
  get isBehind(): boolean {
    return this.#isBehind;
  }

  /** Latest activity first. */
  get all(): readonly ConversationSummary[] {
    return [...this.#summaries.values()].sort((a, b) => (activity(a) < activity(b) ? 1 : -1));
  }

  get(conversationId: string): ConversationSummary | undefined {
    return this.#summaries.get(conversationId);
  }

  /** The direct conversation with another user, where there is one. */
  withUser(userId: string): ConversationSummary | undefined {
    if (userId === this.options.userId) return undefined;
    return this.all.find(({ participantIds }) => participantIds.includes(userId));
  }

  /** A new message in `seq` order. */
  add(message: Message): void {
    const summary = this.#summaries.get(message.conversationId);
    if (summary === undefined) {
      void this.refresh();
      return;
    }
    if (message.seq <= summary.lastSeq) return;
    const unread = message.senderId === this.options.userId ? 0 : 1;
    const { conversationId, seq: lastSeq } = message;
    const unreadCount = summary.unreadCount + unread;
    this.#summaries.set(conversationId, { ...summary, lastSeq, lastMessage: message, unreadCount });
    this.options.onChange();
  }

  /** The user has read up to a position, on whatever device. */
  read(conversationId: string, seq: number): void {
    const summary = this.#summaries.get(conversationId);
    if (summary === undefined || seq <= (summary.readSeq ?? 0)) return;
    const unreadCount = this.#unreadAfter(summary, seq);
    // Not to be counted here: the service knows.
    if (unreadCount === undefined) void this.refresh();
    this.#summaries.set(conversationId, { ...summary, readSeq: seq, unreadCount: unreadCount ?? summary.unreadCount });
    this.options.onChange();
  }

  /** Reads the whole list again; retried until it works. */
  refresh(): Promise<void> {
    if (this.#refreshing !== undefined) this.#refreshAgain = true;
    this.#refreshing ??= this.#keepRefreshing().finally(() => (this.#refreshing = undefined));
    return this.#refreshing;
  }

  /** Makes a waiting retry run at once. */
  wake(): void {
    this.#pause.end();
  }

  close(): void {
    this.#closed = true;
    this.#pause.end();
  }

  async #keepRefreshing(): Promise<void> {
    const { history, retry } = this.options;
    if (history === undefined) return;
    const backoff = new Backoff(retry);
    while (!this.#closed) {
      this.#refreshAgain = false;
      try {
        await this.#refreshOnce(history);
        this.#isBehind = false;
        // A request that came meanwhile may have asked for something newer than what was read.
        if (!this.#refreshAgain) return;
      } catch (cause) {
        if (!this.#isBehind && !this.#closed) this.options.onUnreachable(cause);
        this.#isBehind = true;
        if (!this.#closed) await this.#pause.wait(backoff.next());
      }
    }
  }

  async #refreshOnce(history: HistoryApi): Promise<void> {
    let cursor: string | undefined;
    do {
      const page = await history.listConversations(cursor);
      if (this.#closed) return;
      for (const summary of page.conversations) this.#put(summary);
      cursor = page.nextCursor ?? undefined;
    } while (cursor !== undefined);
    this.#loaded = true;
    this.options.onChange();
  }

  #put(summary: ConversationSummary): void {
    const known = this.#summaries.get(summary.conversationId);
    // A live message may have overtaken the answer.
    if (known === undefined || summary.lastSeq >= known.lastSeq) {
      this.#summaries.set(summary.conversationId, this.#withNewestRead(summary, known?.readSeq ?? 0));
    } else {
      this.read(summary.conversationId, summary.readSeq ?? 0);
    }
    this.options.onSummary(summary);
  }

  /** A read that we have heard of may have overtaken the answer as well. */
  #withNewestRead(summary: ConversationSummary, readSeq: number): ConversationSummary {
    if (readSeq <= (summary.readSeq ?? Infinity)) return summary;
    return { ...summary, readSeq, unreadCount: this.#unreadAfter(summary, readSeq) ?? summary.unreadCount };
  }

  #unreadAfter(summary: ConversationSummary, seq: number): number | undefined {
    return seq >= summary.lastSeq ? 0 : this.options.unreadAfter(summary.conversationId, seq);
  }
}

const activity = (summary: ConversationSummary): string => summary.lastMessage?.timestamp ?? summary.createdAt;
