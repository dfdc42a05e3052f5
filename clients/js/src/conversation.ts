import { Backoff, type BackoffLimits } from "./backoff.js";
import { type HistoryApi, HistoryError } from "./history.js";
import { Pause } from "./pause.js";
import { Positions } from "./positions.js";
import type { Message, MessageStatus, Position, SyncPage } from "./protocol.js";
import { CommandError } from "./requests.js";
import { Timeline } from "./timeline.js";

export interface ConversationOptions {
  readonly userId: string;
  /** For scrolling back, and the newest page at first. */
  readonly history: HistoryApi | undefined;
  /** Asks the service once for what follows a position; rejects when there is no answer. */
  readonly sync: (conversationId: string, afterSeq: number) => Promise<SyncPage>;
  readonly retry: BackoffLimits;
  /** Messages above this number are dropped, oldest first. */
  readonly keptMessages: number;
  /** Messages that are new to the user, in `seq` order, each exactly once. */
  readonly onMessage: (message: Message) => void;
  /** Messages that were read from the service, new to the user or not. */
  readonly onFetched: (messages: readonly Message[]) => void;
  /** An own message that is held has come further. */
  readonly onStatus: (message: Message) => void;
  /** Something to show has changed. */
  readonly onChange: () => void;
  /** What is missing cannot be fetched, for good; the next event or `load` tries again. */
  readonly onRefused: (conversationId: string, cause: unknown) => void;
}

/**
 * One conversation that the client follows: its timeline, and the fetching that keeps it whole.
 *
 * Fetching after a hole is retried with back-off until it works or is refused for good;
 * meanwhile `isBehind` is true and later messages are held back, never shown out of order.
 */
export class Conversation {
  #timeline = new Timeline();
  #positions = new Positions();
  #shown: readonly Message[] | undefined;
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

  /** The newest `keptMessages`, and what `loadOlder` added: in `seq` order, without a hole, each with the status of now. */
  get messages(): readonly Message[] {
    this.#shown ??= this.#timeline.messages.map((message) => this.withStatus(message));
    return this.#shown;
  }

  /** Durable messages that follow a hole which is being filled: not yet to be read in order. */
  get heldBack(): readonly Message[] {
    return this.#timeline.heldBack.map((message) => this.withStatus(message));
  }

  /** How far a participant has come, as far as is known here. */
  positionOf(userId: string): Omit<Position, "userId"> {
    return this.#positions.of(userId);
  }

  /** The same message with the status of now. */
  withStatus(message: Message): Message {
    const status: MessageStatus = this.#positions.statusOf(message);
    return status === message.status ? message : { ...message, status };
  }

  find(messageId: string): Message | undefined {
    const isIt = (message: Message): boolean => message.messageId === messageId;
    return this.#timeline.messages.findLast(isIt) ?? this.#timeline.heldBack.find(isIt);
  }

  /** Messages of others after a position; undefined when not all of them are held. */
  unreadAfter(seq: number): number | undefined {
    if (!this.isLoaded || (!this.reachedStart && (this.#timeline.oldestSeq ?? Infinity) > seq + 1)) return undefined;
    return this.#timeline.messages.filter((message) => message.seq > seq && message.senderId !== this.options.userId).length;
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

  /** A participant has come further, or is told again where it was; returns whether that is news. */
  advance(position: Position): boolean {
    const before = this.#positions.of(position.userId);
    if (!this.#positions.advance(position)) return false;
    const after = this.#positions.of(position.userId);
    this.#shown = undefined;
    for (const message of this.#ownAfter(before.readSeq)) {
      const { seq } = message;
      const isReached = passes(seq, before.deliveredSeq, after.deliveredSeq) || passes(seq, before.readSeq, after.readSeq);
      const current = this.withStatus(message);
      if (isReached && current.status !== message.status) this.options.onStatus(current);
    }
    this.options.onChange();
    return true;
  }

  /** The user's own messages after a position, oldest first. */
  #ownAfter(seq: number): Message[] {
    const { messages, heldBack } = this.#timeline;
    let first = messages.length;
    while ((messages[first - 1]?.seq ?? 0) > seq) first -= 1;
    const own = ({ senderId }: Message): boolean => senderId === this.options.userId;
    return [...messages.slice(first), ...heldBack.filter((message) => message.seq > seq)].filter(own);
  }

  /** A live event. */
  receive(message: Message): void {
    const { appended, missing } = this.#timeline.receive(message);
    this.#announce(appended);
    if (missing) void this.#fetchNewest();
  }

  /**
   * Reads the newest page, if that has not been done; without a history, everything from the start.
   *
   * Retried until it works. Refused for good, as when there is no such conversation,
   * it ends with a `warning` and `isLoaded` stays false.
   */
  load(): Promise<void> {
    if (this.isLoaded) return Promise.resolve();
    if (this.options.history === undefined) this.#timeline.startAfter(0);
    return this.#fetchNewest();
  }

  /**
   * Follows the conversation from after a position that the application has kept.
   *
   * @throws RangeError when it is followed from a later position on already.
   */
  startAfter(seq: number): void {
    const { newsAfter } = this.#timeline;
    if (newsAfter !== undefined && seq < newsAfter) {
      throw new RangeError(`afterSeq ${seq} comes too late: the conversation is followed from after ${newsAfter} on`);
    }
    if (this.isLoaded) return;
    this.#announce(this.#timeline.startAfter(seq));
    void this.#fetchNewest();
  }

  /** Asks for whatever came after what is held. */
  resync(): void {
    if (this.isLoaded) void this.#fetchNewest();
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
    if (!this.isLoaded && this.options.history === undefined) {
      // The first event of a conversation that nobody asked to be read from its start.
      this.#announce(this.#timeline.skipHole());
      return;
    }
    const backoff = new Backoff(this.options.retry);
    do {
      try {
        await (this.isLoaded ? this.#syncOnce() : this.#loadOnce());
        this.#failures = 0;
      } catch (error) {
        if (isFinal(error)) {
          this.#failures = 0;
          this.options.onRefused(this.conversationId, error);
          this.options.onChange();
          return;
        }
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

  async #loadOnce(): Promise<void> {
    const { history } = this.options;
    if (history === undefined) return;
    // Whatever we have heard of was committed before this fetch begins, so the history has it.
    const covered = Math.max(this.#wanted, this.#timeline.heldBackUpTo);
    const page = await history.listMessages(this.conversationId);
    if (this.#closed) return;
    // Followed from a position meanwhile: what is between that and this page would be left out.
    if (this.isLoaded) return this.#syncOnce();
    this.#olderCursor = page.nextCursor;
    // Where the page does not follow what came live, this is still to be walked to.
    this.#wanted = Math.max(this.#wanted, ...page.messages.map(({ seq }) => seq));
    this.options.onFetched(page.messages);
    this.#announce(this.#timeline.mergeNewest(page.messages, covered));
  }

  /** Walks forward from what is held to the newest change. */
  async #syncOnce(): Promise<void> {
    let page: SyncPage;
    do {
      const known = Math.max(this.#wanted, this.#timeline.heldBackUpTo);
      page = await this.options.sync(this.conversationId, this.#timeline.lastSeq ?? 0);
      if (this.#closed) return;
      const covered = page.complete ? Math.max(known, page.upToSeq) : page.upToSeq;
      this.options.onFetched(page.messages);
      this.#announce(this.#timeline.mergeNewest(page.messages, covered));
    } while (!page.complete);
  }

  async #fetchOlder(): Promise<boolean> {
    const history = this.options.history;
    if (history === undefined || !this.isLoaded || this.reachedStart) return false;
    let added = 0;
    // Pages that overlap with what is held are walked through.
    while (added === 0 && this.#olderCursor !== null) {
      const { oldestSeq } = this.#timeline;
      const page = await history.listMessages(this.conversationId, this.#olderCursor);
      // The oldest were dropped meanwhile: this page would stand before a hole.
      if (this.#timeline.oldestSeq !== oldestSeq) continue;
      this.#olderCursor = page.nextCursor;
      this.options.onFetched(page.messages);
      added = this.#timeline.mergeOlder(page.messages);
    }
    this.#shown = undefined;
    this.options.onChange();
    return !this.reachedStart;
  }

  #announce(messages: readonly Message[]): void {
    // No cursor is known from which the dropped ones can be read again: that begins at the newest page.
    if (this.#timeline.trim(this.options.keptMessages)) this.#olderCursor = undefined;
    this.#shown = undefined;
    this.options.onChange();
    for (const message of messages) this.options.onMessage(this.withStatus(message));
  }
}

function isFinal(error: unknown): boolean {
  if (error instanceof CommandError) return !error.error.retryable;
  return error instanceof HistoryError && error.isFinal;
}

const passes = (seq: number, from: number, to: number): boolean => from < seq && seq <= to;
