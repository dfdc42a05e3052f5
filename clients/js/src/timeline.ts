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
  #newsAfter: number | undefined;

  /** Everything held, without a hole (a missing number was no message, but another change). */
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
   * Returns what is new to the user: not the page of a first load.
   */
  mergeNewest(fetched: readonly Message[], coveredUpTo = 0): Message[] {
    const isFirst = this.#lastSeq === undefined;
    const known = this.#lastSeq ?? -1;
    const live = new Set(this.#heldBack.keys());
    const covered = Math.max(known, 0, coveredUpTo, ...fetched.map((message) => message.seq));
    const newer = new Map<number, Message>();
    for (const [seq, message] of this.#heldBack) if (seq <= covered) newer.set(seq, message);
    for (const message of fetched) if (message.seq > known) newer.set(message.seq, message);
    for (const seq of newer.keys()) this.#heldBack.delete(seq);
    const all = [...newer.values()].sort(bySeq);
    // A live message from before the first page must not stand next to it with a hole between.
    const oldestFetched = isFirst ? Math.min(...fetched.map((message) => message.seq)) : 0;
    this.#messages.push(...all.filter((message) => message.seq >= oldestFetched));
    if (isFirst) this.#begin(covered);
    else this.#lastSeq = covered;
    return [...(isFirst ? all.filter((message) => live.has(message.seq)) : all), ...this.#release()];
  }

  /** Follows the conversation from after `seq` on; only before the first load. Returns what is new to the user. */
  startAfter(seq: number): Message[] {
    if (this.#lastSeq === undefined) this.#begin(seq);
    return this.#release();
  }

  /** Takes a page of older history; returns how many messages were new. */
  mergeOlder(page: readonly Message[]): number {
    const oldest = this.oldestSeq ?? Infinity;
    const older = new Map(page.filter((message) => message.seq < oldest).map((message) => [message.seq, message]));
    this.#messages.unshift(...[...older.values()].sort(bySeq));
    return older.size;
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
