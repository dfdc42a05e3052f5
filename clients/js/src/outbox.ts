import { Backoff, type BackoffLimits } from "./backoff.js";
import type { OutboxEntry, OutboxStorage } from "./outbox-storage.js";
import type { Message, ServiceError, Target } from "./protocol.js";
import { within } from "./within.js";

/** What became of a message of this device. `discarded`: given up by the user after a failure. */
export type SendUpdate =
  | { readonly status: "sending"; readonly entry: OutboxEntry }
  | { readonly status: "sent"; readonly entry: OutboxEntry; readonly message: Message }
  | { readonly status: "failed"; readonly entry: OutboxEntry; readonly error: ServiceError }
  | { readonly status: "discarded"; readonly entry: OutboxEntry };

export interface OutboxOptions {
  readonly storage: OutboxStorage;
  readonly publish: (entry: OutboxEntry) => Promise<void>;
  readonly onUpdate: (update: SendUpdate) => void;
  /** Storage trouble: messages are still sent, but would not survive a reload. */
  readonly onStorageError: (error: unknown) => void;
  /** How long to wait for an answer before resending, growing with each attempt. */
  readonly resend: BackoffLimits;
}

/** Messages in flight at once, over all conversations; well under any broker's Receive Maximum. */
const MAX_IN_FLIGHT = 16;
/** An IndexedDB may never answer; a working one takes milliseconds. */
const STORAGE_TIMEOUT_MS = 5000;

interface Flight {
  readonly backoff: Backoff;
  timer?: ReturnType<typeof setTimeout> | undefined;
}

/**
 * Unacknowledged messages, resent under the same `clientMessageId` until the service answers.
 *
 * One message per conversation is in flight at a time, so that no retry can
 * overtake: the conversation's `seq` order is the order of `add`.
 */
export class Outbox {
  #entries = new Map<string, OutboxEntry>();
  #flights = new Map<string, Flight>();
  #conversationOf = new Map<string, string>();
  #stored = new Map<string, Promise<void>>();
  #order = 0;
  #online = false;
  #storageTimeoutMs = STORAGE_TIMEOUT_MS;

  constructor(private readonly options: OutboxOptions) {}

  /** Unsent and failed messages in the order in which they were added. */
  get entries(): readonly OutboxEntry[] {
    return [...this.#entries.values()];
  }

  /** Loads what an earlier run left behind, if the storage can be read; it goes before what was added meanwhile. */
  async restore(): Promise<void> {
    let stored: OutboxEntry[] = [];
    try {
      stored = await this.#inTime(this.options.storage.load());
    } catch (error) {
      this.options.onStorageError(error);
    }
    const added = [...this.#entries.values()];
    const left = stored.filter(({ clientMessageId }) => !this.#entries.has(clientMessageId));
    if (left.length > 0) {
      left.sort((a, b) => a.order - b.order);
      this.#order = left.at(-1)?.order ?? 0;
      this.#entries = new Map(left.map((entry) => [entry.clientMessageId, entry]));
      for (const entry of added) this.#keep({ ...entry, order: this.#nextOrder() });
    }
    this.#pump();
  }

  add(target: Target, text: string, clientMessageId: string): OutboxEntry {
    const createdAt = new Date().toISOString();
    const entry: OutboxEntry = { clientMessageId, target, text, order: this.#nextOrder(), createdAt, status: "sending" };
    this.#keep(entry);
    this.options.onUpdate({ status: "sending", entry });
    this.#pump();
    return entry;
  }

  /** Starts sending, or stops: after a reconnect everything unanswered is published again. */
  setOnline(online: boolean): void {
    this.#online = online;
    if (!online) this.#land();
    this.#pump();
  }

  /** Two ways to name one conversation must not become two queues. */
  linkRecipient(recipientId: string, conversationId: string): void {
    this.#conversationOf.set(recipientId, conversationId);
  }

  /** The message is durable: a `messageSent`, or the message itself seen in the history. */
  acknowledge(message: Message): void {
    const entry = this.#entries.get(message.clientMessageId);
    if (entry === undefined) return;
    if (entry.target.recipientId !== undefined) this.linkRecipient(entry.target.recipientId, message.conversationId);
    this.#forget(entry);
    this.options.onUpdate({ status: "sent", entry, message });
    this.#pump();
  }

  /** An error answer; returns false when it is about none of our messages. */
  refuse(clientMessageId: string, error: ServiceError): boolean {
    const entry = this.#entries.get(clientMessageId);
    if (entry === undefined) return false;
    if (entry.status === "failed") return true;
    if (error.retryable) {
      const flight = this.#flights.get(clientMessageId) ?? this.#newFlight(clientMessageId);
      this.#resendIn(clientMessageId, flight, error.retryAfterMs ?? flight.backoff.next());
      return true;
    }
    this.#endFlight(clientMessageId);
    const failed: OutboxEntry = { ...entry, status: "failed", error };
    this.#keep(failed);
    this.options.onUpdate({ status: "failed", entry: failed, error });
    this.#pump();
    return true;
  }

  /** Sends a failed message again, at the end of its queue; safe because the key stays the same. */
  retry(clientMessageId: string): void {
    const entry = this.#entries.get(clientMessageId);
    if (entry?.status !== "failed") return;
    const { error: _, ...rest } = entry;
    const again: OutboxEntry = { ...rest, order: this.#nextOrder(), status: "sending" };
    this.#entries.delete(clientMessageId);
    this.#keep(again);
    this.options.onUpdate({ status: "sending", entry: again });
    this.#pump();
  }

  /** Gives up a failed message. One still being sent cannot be taken back. */
  discard(clientMessageId: string): void {
    const entry = this.#entries.get(clientMessageId);
    if (entry?.status !== "failed") return;
    this.#forget(entry);
    this.options.onUpdate({ status: "discarded", entry });
  }

  async close(): Promise<void> {
    this.setOnline(false);
    await Promise.all(this.#stored.values());
    await this.#inTime(this.options.storage.close()).catch(this.options.onStorageError);
  }

  #nextOrder(): number {
    this.#order += 1;
    return this.#order;
  }

  #pump(): void {
    if (!this.#online) return;
    const busy = new Set<string>();
    for (const entry of this.#entries.values()) {
      if (entry.status === "failed") continue;
      const queue = this.#queueOf(entry.target);
      if (busy.has(queue)) continue;
      busy.add(queue);
      if (this.#flights.has(entry.clientMessageId)) continue;
      if (this.#flights.size >= MAX_IN_FLIGHT) return;
      void this.#send(entry, this.#newFlight(entry.clientMessageId));
    }
  }

  async #send(entry: OutboxEntry, flight: Flight): Promise<void> {
    // Stored before it is on the wire: an acknowledgement must find the entry even after a reload.
    await this.#stored.get(entry.clientMessageId);
    if (this.#flights.get(entry.clientMessageId) !== flight) return;
    this.#resendIn(entry.clientMessageId, flight, flight.backoff.next());
    try {
      await this.options.publish(entry);
    } catch {
      // The link broke; the timer or the next reconnect publishes it again.
    }
  }

  #resendIn(clientMessageId: string, flight: Flight, delayMs: number): void {
    clearTimeout(flight.timer);
    flight.timer = setTimeout(() => {
      const entry = this.#entries.get(clientMessageId);
      if (entry && this.#online) void this.#send(entry, flight);
    }, delayMs);
  }

  #newFlight(clientMessageId: string): Flight {
    const flight: Flight = { backoff: new Backoff(this.options.resend) };
    this.#flights.set(clientMessageId, flight);
    return flight;
  }

  #endFlight(clientMessageId: string): void {
    clearTimeout(this.#flights.get(clientMessageId)?.timer);
    this.#flights.delete(clientMessageId);
  }

  #land(): void {
    for (const clientMessageId of [...this.#flights.keys()]) this.#endFlight(clientMessageId);
  }

  #queueOf(target: Target): string {
    if (target.conversationId !== undefined) return `conversation ${target.conversationId}`;
    const known = this.#conversationOf.get(target.recipientId);
    return known === undefined ? `recipient ${target.recipientId}` : `conversation ${known}`;
  }

  #keep(entry: OutboxEntry): void {
    this.#entries.set(entry.clientMessageId, entry);
    this.#persist(entry.clientMessageId, () => this.options.storage.put(entry));
  }

  #forget(entry: OutboxEntry): void {
    this.#endFlight(entry.clientMessageId);
    this.#entries.delete(entry.clientMessageId);
    this.#persist(entry.clientMessageId, () => this.options.storage.delete(entry.clientMessageId));
  }

  /** Runs the changes of one entry one after the other. */
  #persist(clientMessageId: string, change: () => Promise<void>): void {
    const before = this.#stored.get(clientMessageId) ?? Promise.resolve();
    const after = before.then(() => this.#inTime(change())).catch(this.options.onStorageError);
    this.#stored.set(clientMessageId, after);
    void after.then(() => {
      if (this.#stored.get(clientMessageId) === after) this.#stored.delete(clientMessageId);
    });
  }

  /** @throws Error when the storage does not answer; until it does again, nothing waits for it a second time. */
  async #inTime<Value>(work: Promise<Value>): Promise<Value> {
    work.then(
      () => (this.#storageTimeoutMs = STORAGE_TIMEOUT_MS),
      () => undefined,
    );
    return await within(this.#storageTimeoutMs, work, () => {
      this.#storageTimeoutMs = 0;
      return new Error("The storage does not answer");
    });
  }
}
