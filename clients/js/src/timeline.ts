import type { Message } from "./protocol.js";

/** What a live event changed. */
export interface Received {
  /** Messages that are now part of the timeline, in `seq` order. */
  readonly appended: readonly Message[];
  /** Something before this event is missing and has to be fetched. */
  readonly missing: boolean;
}

/**
 * One conversation's messages in `seq` order, without duplicates and without silent holes.
 *
 * Pure bookkeeping: `receive` takes live events, the `merge…` methods take what
 * was fetched. A live message that comes after a hole is held back until the
 * hole is known to be filled.
 */
export class Timeline {
  #messages: Message[] = [];
  #heldBack = new Map<number, Message>();
  #lastSeq: number | undefined;
  #scrolledBack = 0;
  #newsAfter: number | undefined;

  /** Everything held, up to `lastSeq` and without a hole (a missing number was no message, but another change). */
  get messages(): readonly Message[] {
    return this.#messages;
  }

  /** Everything up to here is held or older than the oldest message; undefined before the first load. */
  get lastSeq(): number | undefined {
    return this.#lastSeq;
  }

  /** What follows this position is new to the user; undefined before the first load. */
  get newsAfter(): number | undefined {
    return this.#newsAfter;
  }

  get oldestSeq(): number | undefined {
    return this.#messages[0]?.seq;
  }

  /** Received, but waiting for what comes before them. */
  get heldBack(): readonly Message[] {
    return [...this.#heldBack.values()].sort(bySeq);
  }

  /** The newest position of which a held-back event tells. */
  get heldBackUpTo(): number {
    return Math.max(0, ...this.#heldBack.keys());
  }

  receive(message: Message): Received {
    // The first message of all needs no history before it.
    if (this.#lastSeq === undefined && message.seq === 1) this.#begin(0);
    if (this.#lastSeq !== undefined && message.seq <= this.#lastSeq) return { appended: [], missing: false };
    this.#heldBack.set(message.seq, message);
    const appended = this.#release();
    return { appended, missing: this.#heldBack.size > 0 };
  }

  /**
   * Takes everything the history has after `lastSeq` (or, at first, its newest page).
   *
   * `coveredUpTo`: the newest position that existed for certain when the
   * fetch began; a number up to there that is still missing was no message.
   * Returns what is new to the user: of a first page, what follows the first live message.
   */
  mergeNewest(fetched: readonly Message[], coveredUpTo = 0): Message[] {
    if (this.#lastSeq === undefined) return this.#mergeFirst(fetched, coveredUpTo);
    const known = this.#lastSeq;
    const covered = Math.max(known, 0, coveredUpTo, ...fetched.map((message) => message.seq));
    const newer = new Map<number, Message>();
    for (const [seq, message] of this.#heldBack) if (seq <= covered) newer.set(seq, message);
    for (const message of fetched) if (message.seq > known) newer.set(message.seq, message);
    for (const seq of newer.keys()) this.#heldBack.delete(seq);
    const all = [...newer.values()].sort(bySeq);
    this.#messages.push(...all);
    this.#lastSeq = covered;
    return [...all, ...this.#release()];
  }

  #mergeFirst(page: readonly Message[], coveredUpTo: number): Message[] {
    const firstLive = Math.min(...this.#heldBack.keys());
    // Between that one and this page is a hole, which only a fetch from there on can fill.
    if (firstLive < Math.min(...page.map((message) => message.seq))) return this.startAfter(firstLive - 1);
    this.#lastSeq = -1;
    const all = this.mergeNewest(page, coveredUpTo);
    // Events of these may still be on their way, and are dropped then.
    const news = all.filter((message) => message.seq >= firstLive);
    this.#newsAfter = Math.min(this.#lastSeq, firstLive - 1);
    return news;
  }

  /** Follows the conversation from after `seq` on; only before the first load. Returns what is new to the user. */
  startAfter(seq: number): Message[] {
    if (this.#lastSeq === undefined) this.#begin(seq);
    return this.#release();
  }

  /** Takes a page of older history; returns how many messages were new. */
  mergeOlder(page: readonly Message[]): number {
    // Where nothing is held yet, what follows `lastSeq` comes by itself.
    const oldest = this.oldestSeq ?? (this.#lastSeq ?? Infinity) + 1;
    const older = new Map(page.filter((message) => message.seq < oldest).map((message) => [message.seq, message]));
    this.#messages.unshift(...[...older.values()].sort(bySeq));
    this.#scrolledBack += older.size;
    return older.size;
  }

  /**
   * Drops the oldest messages when there are more than `most`; returns whether there were.
   *
   * What `mergeOlder` brought since the last time was asked for, and does not count.
   */
  trim(most: number): boolean {
    if (this.#messages.length - this.#scrolledBack <= most) return false;
    // A tenth below, or each message from now on would drop one, and whoever scrolls back would never get there.
    this.#messages.splice(0, this.#messages.length - Math.ceil(most * 0.9));
    this.#scrolledBack = 0;
    return true;
  }

  /** Accepts the hole before the oldest held-back message: there is no history to fill it from. */
  skipHole(): Message[] {
    if (this.#heldBack.size === 0) return [];
    return this.startAfter(Math.min(...this.#heldBack.keys()) - 1);
  }

  #begin(seq: number): void {
    this.#lastSeq = seq;
    this.#newsAfter = seq;
  }

  #release(): Message[] {
    const released: Message[] = [];
    while (this.#lastSeq !== undefined) {
      const next = this.#heldBack.get(this.#lastSeq + 1);
      if (next === undefined) break;
      this.#heldBack.delete(next.seq);
      this.#messages.push(next);
      this.#lastSeq = next.seq;
      released.push(next);
    }
    // What was both fetched and received live is held already.
    for (const seq of this.#heldBack.keys()) if (seq <= (this.#lastSeq ?? -1)) this.#heldBack.delete(seq);
    return released;
  }
}

const bySeq = (a: Message, b: Message): number => a.seq - b.seq;
