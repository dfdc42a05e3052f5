import type { ServiceError, Target } from "./protocol.js";

/** A message that the service has not acknowledged yet. */
export interface OutboxEntry {
  readonly clientMessageId: string;
  readonly target: Target;
  readonly text: string;
  /** Sending order on this device: 1, 2, 3, ... */
  readonly order: number;
  /** RFC 3339, for display only. */
  readonly createdAt: string;
  /** `failed`: refused for good; stays until it is retried or discarded. */
  readonly status: "sending" | "failed";
  readonly error?: ServiceError;
}

/**
 * Where unacknowledged messages survive; one store per user and device.
 *
 * One that fails, or does not answer within some seconds, keeps no message from being sent.
 */
export interface OutboxStorage {
  load(): Promise<OutboxEntry[]>;
  /** Resolves when the entry is stored, replacing one with the same `clientMessageId`. */
  put(entry: OutboxEntry): Promise<void>;
  delete(clientMessageId: string): Promise<void>;
  close(): Promise<void>;
}

/** Keeps entries as long as the object lives: for Node, tests and browsers without storage. */
export class MemoryOutboxStorage implements OutboxStorage {
  #entries = new Map<string, OutboxEntry>();

  load(): Promise<OutboxEntry[]> {
    return Promise.resolve([...this.#entries.values()]);
  }

  put(entry: OutboxEntry): Promise<void> {
    this.#entries.set(entry.clientMessageId, entry);
    return Promise.resolve();
  }

  delete(clientMessageId: string): Promise<void> {
    this.#entries.delete(clientMessageId);
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

const STORE = "entries";

/** Keeps entries in the browser's IndexedDB, so that they survive a reload or a crash. */
export class IndexedDbOutboxStorage implements OutboxStorage {
  #opening: Promise<IDBDatabase> | undefined;

  /** `name` must be unique to the user and device. */
  constructor(private readonly name: string) {}

  static get available(): boolean {
    return typeof indexedDB !== "undefined";
  }

  async load(): Promise<OutboxEntry[]> {
    return await this.#use("readonly", (transaction) => result<OutboxEntry[]>(transaction.objectStore(STORE).getAll()));
  }

  async put(entry: OutboxEntry): Promise<void> {
    await this.#write((store) => store.put(entry));
  }

  async delete(clientMessageId: string): Promise<void> {
    await this.#write((store) => store.delete(clientMessageId));
  }

  close(): Promise<void> {
    // Not waited for: one that never opens must keep nobody.
    this.#opening?.then(
      (database) => database.close(),
      () => undefined,
    );
    this.#opening = undefined;
    return Promise.resolve();
  }

  /** The open database; one that did not open, or is not open any more, is opened again by the next call. */
  #database(): Promise<IDBDatabase> {
    this.#opening ??= this.#open().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    });
    return this.#opening;
  }

  #open(): Promise<IDBDatabase> {
    return new Promise((resolve, reject) => {
      const request = indexedDB.open(this.name, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "clientMessageId" });
      request.onsuccess = () => {
        const database = request.result;
        // The browser closes it when the site's data is cleared.
        database.onclose = () => (this.#opening = undefined);
        // Left open, it would block whoever deletes it, and with that everybody who opens it afterwards.
        database.onversionchange = () => {
          database.close();
          this.#opening = undefined;
        };
        resolve(database);
      };
      request.onerror = () => reject(request.error ?? new Error("IndexedDB did not open"));
    });
  }

  /** `work` has to make its requests at once: a transaction without any ends by itself. */
  async #use<Result>(mode: IDBTransactionMode, work: (transaction: IDBTransaction) => Promise<Result>): Promise<Result> {
    const opening = this.#database();
    const begin = (database: IDBDatabase): IDBTransaction => database.transaction(STORE, mode, { durability: "strict" });
    let transaction: IDBTransaction;
    const database = await opening;
    try {
      transaction = begin(database);
    } catch (error) {
      if (!(error instanceof DOMException) || error.name !== "InvalidStateError") throw error;
      // Closed, and we have not been told.
      if (this.#opening === opening) this.#opening = undefined;
      transaction = begin(await this.#database());
    }
    return await work(transaction);
  }

  async #write(change: (store: IDBObjectStore) => unknown): Promise<void> {
    await this.#use("readwrite", (transaction) => {
      change(transaction.objectStore(STORE));
      // The transaction's end, not the request's, is when the change is kept.
      return new Promise<void>((resolve, reject) => {
        transaction.oncomplete = () => resolve();
        transaction.onerror = () => reject(transaction.error ?? new Error("IndexedDB write failed"));
        transaction.onabort = () => reject(transaction.error ?? new Error("IndexedDB write aborted"));
      });
    });
  }
}

function result<Value>(request: IDBRequest<Value>): Promise<Value> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("IndexedDB read failed"));
  });
}
