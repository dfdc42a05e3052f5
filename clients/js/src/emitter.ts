/** One event of `Events`, as the async iterator yields it. */
export type EventOf<Events> = { [Name in keyof Events]: { readonly type: Name; readonly value: Events[Name] } }[keyof Events];

/** A typed event stream: listeners by name, or everything in order as an async iterator. */
export class Emitter<Events extends object> {
  #listeners = new Map<keyof Events, Set<(value: never) => void>>();
  #streams = new Set<EventStream<EventOf<Events>>>();

  /** Calls `listener` for each event of that name until the returned function is called. */
  on<Name extends keyof Events>(name: Name, listener: (value: Events[Name]) => void): () => void {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  emit<Name extends keyof Events>(name: Name, value: Events[Name]): void {
    for (const stream of this.#streams) stream.push({ type: name, value });
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        (listener as (value: Events[Name]) => void)(value);
      } catch (error) {
        // A listener's defect must not stop message handling; report it as an uncaught error.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  /** Every event from now on. What the consumer has not taken yet waits in memory, without a limit. */
  stream(): AsyncIterableIterator<EventOf<Events>> {
    const stream = new EventStream<EventOf<Events>>(() => this.#streams.delete(stream));
    this.#streams.add(stream);
    return stream;
  }

  /** Ends all streams; they yield what they still hold. */
  close(): void {
    for (const stream of this.#streams) stream.finish();
    this.#streams.clear();
  }
}

class EventStream<Item> implements AsyncIterableIterator<Item> {
  #items: Item[] = [];
  #waiting: ((result: IteratorResult<Item>) => void)[] = [];
  #finished = false;

  constructor(private readonly onReturn: () => void) {}

  push(item: Item): void {
    const waiter = this.#waiting.shift();
    if (waiter) waiter({ value: item, done: false });
    else this.#items.push(item);
  }

  finish(): void {
    this.#finished = true;
    for (const waiter of this.#waiting.splice(0)) waiter({ value: undefined, done: true });
  }

  next(): Promise<IteratorResult<Item>> {
    if (this.#items.length > 0) return Promise.resolve({ value: this.#items.shift() as Item, done: false });
    if (this.#finished) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  return(): Promise<IteratorResult<Item>> {
    this.onReturn();
    this.#items = [];
    this.finish();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
