import { Backoff, type BackoffLimits } from "./backoff.js";
import type { HistoryApi, MessagePage } from "./history.js";
import { Pause } from "./pause.js";
import type { Message } from "./protocol.js";
import { Timeline } from "./timeline.js";

export interface ConversationOptions {
  readonly history: HistoryApi | undefined;
  readonly retry: BackoffLimits;
  /** Messages that are new to the user, in `seq` order, each exactly once. */
  readonly onMessage: (message: Message) => void;
  /** Messages read from the history, new to the user or not. */
  readonly onFetched: (messages: readonly Message[]) => void;
  /** Something to show has changed. */
  readonly onChange: () => void;
}

/**
 * One conversation that the client follows: its timeline, and the fetching that keeps it whole.
 *
 * Fetching after a hole is retried with back-off until it works; meanwhile
 * `isBehind` is true and later messages are held back, never shown out of order.
 */
export class Conversation {
  #timeline = new Timeline();
  #olderCursor: string | null | undefined;
  #wanted = 0;
  #fetching: Promise<void> | undefined;
  #loadingOlder: Promise<boolean> | undefined;
  #failures = 0;
  #closed = false;
  #pause = new Pause();

  constructor(
    readonly conversationId: string,
    private readonly options: ConversationOptions,
  ) {}

  get messages(): readonly Message[] {
    return this.#timeline.messages;
  }

  /** Durable messages that follow a hole which is being filled: not yet to be read in order. */
  get heldBack(): readonly Message[] {
    return this.#timeline.heldBack;
  }

  get lastSeq(): number | undefined {
    return this.#timeline.lastSeq;
  }

  /** The newest page was read, or the conversation began before our eyes. */
  get isLoaded(): boolean {
    return this.#timeline.lastSeq !== undefined;
  }

  /** A fetch is being retried: the history cannot be reached now. */
  get isBehind(): boolean {
    return this.#failures > 0;
  }

  /** The conversation's first message is held, so there is nothing older. */
  get reachedStart(): boolean {
    return this.isLoaded && (this.#olderCursor === null || this.#timeline.oldestSeq === 1);
  }

  /** A live event. */
  receive(message: Message): void {
    const { appended, missing } = this.#timeline.receive(message);
    this.#announce(appended);
    if (missing) void this.#fetchNewest();
  }

  /** Reads the newest page, if that has not been done. */
  load(): Promise<void> {
    return this.isLoaded ? Promise.resolve() : this.#fetchNewest();
  }

  /** The conversation is known to have reached `lastSeq`: fetches what we have not heard of. */
  catchUp(lastSeq: number): void {
    if (this.#timeline.lastSeq !== undefined && lastSeq > this.#timeline.lastSeq) {
      this.#wanted = Math.max(this.#wanted, lastSeq);
      void this.#fetchNewest();
    }
  }

  /**
   * Reads one page of older messages.
   *
   * Returns whether there may be more. @throws HistoryError when the history cannot be read.
   */
  loadOlder(): Promise<boolean> {
    this.#loadingOlder ??= this.#fetchOlder().finally(() => (this.#loadingOlder = undefined));
    return this.#loadingOlder;
  }

  /** Makes a waiting retry run at once. */
  wake(): void {
    this.#pause.end();
  }

  close(): void {
    this.#closed = true;
    this.#pause.end();
  }

  #fetchNewest(): Promise<void> {
    this.#fetching ??= this.#keepFetching().finally(() => (this.#fetching = undefined));
    return this.#fetching;
  }

  async #keepFetching(): Promise<void> {
    if (this.options.history === undefined) {
      this.#announce(this.#timeline.skipHole());
      return;
    }
    const backoff = new Backoff(this.options.retry);
    do {
      try {
        await this.#fetchOnce(this.options.history);
        this.#failures = 0;
      } catch {
        this.#failures += 1;
        this.options.onChange();
        if (!this.#closed) await this.#pause.wait(backoff.next());
      }
    } while (!this.#closed && (this.#failures > 0 || this.#isIncomplete()));
  }

  #isIncomplete(): boolean {
    const lastSeq = this.#timeline.lastSeq;
    return lastSeq === undefined || this.#timeline.heldBackUpTo > lastSeq || this.#wanted > lastSeq;
  }

  /** Walks back from the newest message to the last one held; the first time, one page is enough. */
  async #fetchOnce(history: HistoryApi): Promise<void> {
    const isFirst = !this.isLoaded;
    const known = this.#timeline.lastSeq ?? Infinity;
    // Whatever we have heard of was committed before this fetch begins, so the history has it.
    const covered = Math.max(this.#wanted, this.#timeline.heldBackUpTo);
    const fetched: Message[] = [];
    let page: MessagePage | undefined;
    do {
      page = await history.listMessages(this.conversationId, page?.nextCursor ?? undefined);
      fetched.push(...page.messages);
    } while (page.nextCursor !== null && (page.messages.at(-1)?.seq ?? 0) > known + 1 && !this.#closed);
    if (this.#closed) return;
    if (isFirst) this.#olderCursor = page.nextCursor;
    this.options.onFetched(fetched);
    this.#announce(this.#timeline.mergeNewest(fetched, covered));
  }

  async #fetchOlder(): Promise<boolean> {
    const history = this.options.history;
    if (history === undefined || !this.isLoaded || this.reachedStart) return false;
    let added = 0;
    // Pages that overlap with what is held are walked through.
    while (added === 0 && this.#olderCursor !== null) {
      const page = await history.listMessages(this.conversationId, this.#olderCursor);
      this.#olderCursor = page.nextCursor;
      this.options.onFetched(page.messages);
      added = this.#timeline.mergeOlder(page.messages);
    }
    this.options.onChange();
    return !this.reachedStart;
  }

  #announce(messages: readonly Message[]): void {
    this.options.onChange();
    for (const message of messages) this.options.onMessage(message);
  }
}
