import { Outbox, type SendUpdate } from "../src/outbox.js";
import { MemoryOutboxStorage, type OutboxEntry, type OutboxStorage } from "../src/outbox-storage.js";
import { messageAt } from "./messages.js";

export const RESEND_MS = 8000;

/** An outbox, and what it has published and told. */
export class Bench {
  readonly published: string[] = [];
  readonly updates: SendUpdate[] = [];
  readonly storageErrors: unknown[] = [];
  readonly outbox: Outbox;

  constructor(readonly storage: OutboxStorage = new MemoryOutboxStorage()) {
    this.outbox = new Outbox({
      storage,
      publish: (entry) => this.#publish(entry),
      onUpdate: (update) => this.updates.push(update),
      onStorageError: (error) => this.storageErrors.push(error),
      resend: { baseMs: RESEND_MS, capMs: RESEND_MS },
    });
  }

  toBob(key: string): OutboxEntry {
    return this.outbox.add({ recipientId: "bob" }, `text of ${key}`, key);
  }

  acknowledge(key: string): void {
    this.outbox.acknowledge(messageAt(1, { clientMessageId: key, conversationId: "with-bob", senderId: "alice" }));
  }

  #publish(entry: OutboxEntry): Promise<void> {
    this.published.push(entry.clientMessageId);
    return Promise.resolve();
  }
}

/** As a database that never opens; `answers`: it works after all. */
export class HangingStorage extends MemoryOutboxStorage {
  answers = false;

  override load(): Promise<OutboxEntry[]> {
    return this.#orNever(super.load());
  }

  override put(entry: OutboxEntry): Promise<void> {
    return this.#orNever(super.put(entry));
  }

  override delete(clientMessageId: string): Promise<void> {
    return this.#orNever(super.delete(clientMessageId));
  }

  override close(): Promise<void> {
    return this.#orNever(super.close());
  }

  #orNever<Value>(answer: Promise<Value>): Promise<Value> {
    return this.answers ? answer : new Promise(() => undefined);
  }
}
