import { PublishRefusedError } from "./link.js";
import { CommandError, type Requests } from "./requests.js";
import type { Message, ServiceError } from "./protocol.js";

export interface ReceiptsOptions {
  readonly requests: Requests;
  /** Publishes without waiting for an answer; rejects when the broker is away, or refuses (`PublishRefusedError`). */
  readonly publish: (command: string, payload: object, requestId: string) => Promise<void>;
  readonly newRequestId: () => string;
  /** Whether messages are marked as delivered by themselves. */
  readonly marksDelivered: boolean;
  /** Marks within this time become one, of the newest message. */
  readonly coalesceMs: number;
  readonly onRefused: (error: ServiceError) => void;
}

interface Wanted {
  readonly messageId: string;
  readonly seq: number;
}

const DEFAULT_RETRY_MS = 2000;

/** Tells the service what this device has got and what its user has read: the newest message per conversation. */
export class Receipts {
  #delivered = new Map<string, Wanted>();
  #told = new Map<string, number>();
  #sent = new Map<string, { readonly conversationId: string; readonly wanted: Wanted }>();
  #read = new Map<string, Wanted>();
  #reading = new Set<string>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(private readonly options: ReceiptsOptions) {}

  /** Somebody else's message is on this device. */
  got(message: Pick<Message, "conversationId" | "messageId" | "seq">): void {
    if (this.options.marksDelivered) this.markDelivered(message);
  }

  markDelivered({ conversationId, messageId, seq }: Pick<Message, "conversationId" | "messageId" | "seq">): void {
    const known = Math.max(this.#told.get(conversationId) ?? 0, this.#delivered.get(conversationId)?.seq ?? 0);
    if (seq <= known) return;
    this.#delivered.set(conversationId, { messageId, seq });
    this.#flushIn(this.options.coalesceMs);
  }

  /** The service already knows that the user has got this far, from whatever device. */
  isDelivered(conversationId: string, seq: number): void {
    this.#told.set(conversationId, Math.max(seq, this.#told.get(conversationId) ?? 0));
    if ((this.#delivered.get(conversationId)?.seq ?? Infinity) <= seq) this.#delivered.delete(conversationId);
    for (const [id, sent] of this.#sent) {
      if (sent.conversationId === conversationId && sent.wanted.seq <= seq) this.#sent.delete(id);
    }
  }

  /** Repeated until it is answered; a mark further on takes the place of one that waits. */
  markRead(conversationId: string, messageId: string, seq: number | undefined): void {
    const known = this.#read.get(conversationId);
    if (known?.messageId === messageId || (seq !== undefined && seq <= (known?.seq ?? 0))) return;
    // A message that is not held here may be any; the service knows whether it is further on.
    this.#read.set(conversationId, { messageId, seq: seq ?? known?.seq ?? 0 });
    if (!this.#reading.has(conversationId)) void this.#keepReading(conversationId);
  }

  /** What waited for a connection goes out now. */
  connected(): void {
    for (const { conversationId, wanted } of this.#sent.values()) this.#putBack(conversationId, wanted);
    this.#sent.clear();
    this.#flushIn(this.options.coalesceMs);
  }

  /** An error answer to a delivered mark; returns false when it is about none of ours. */
  refuse(requestId: string | undefined, error: ServiceError): boolean {
    const sent = requestId === undefined ? undefined : this.#sent.get(requestId);
    if (requestId === undefined || sent === undefined) return false;
    this.#sent.delete(requestId);
    if (!error.retryable) this.options.onRefused(error);
    else {
      this.#putBack(sent.conversationId, sent.wanted);
      this.#flushIn(error.retryAfterMs ?? DEFAULT_RETRY_MS);
    }
    return true;
  }

  /** Sends what still waits to be told as delivered. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#flush();
  }

  #putBack(conversationId: string, wanted: Wanted): void {
    if ((this.#delivered.get(conversationId)?.seq ?? 0) >= wanted.seq) return;
    this.#delivered.set(conversationId, wanted);
  }

  #flushIn(delayMs: number): void {
    if (this.#closed || this.#delivered.size === 0) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.#flush();
    }, delayMs);
  }

  async #flush(): Promise<void> {
    const marks = [...this.#delivered];
    this.#delivered.clear();
    await Promise.all(marks.map(([conversationId, wanted]) => this.#tell(conversationId, wanted)));
  }

  async #tell(conversationId: string, wanted: Wanted): Promise<void> {
    const requestId = this.options.newRequestId();
    // A success has no answer: only the newest mark of a conversation is kept, for an error.
    for (const [id, sent] of this.#sent) if (sent.conversationId === conversationId) this.#sent.delete(id);
    this.#sent.set(requestId, { conversationId, wanted });
    this.#told.set(conversationId, Math.max(wanted.seq, this.#told.get(conversationId) ?? 0));
    try {
      await this.options.publish("markAsDelivered", { conversationId, messageId: wanted.messageId, requestId }, requestId);
    } catch (error) {
      // Not connected: `connected` puts it back. Refused by the broker itself: nobody else would.
      if (!(error instanceof PublishRefusedError) || !this.#sent.delete(requestId)) return;
      this.#putBack(conversationId, wanted);
      this.#flushIn(DEFAULT_RETRY_MS);
    }
  }

  async #keepReading(conversationId: string): Promise<void> {
    this.#reading.add(conversationId);
    let done: Wanted | undefined;
    try {
      for (;;) {
        const wanted = this.#read.get(conversationId);
        if (wanted === undefined || wanted === done) return;
        const isNewest = (): boolean => this.#read.get(conversationId) === wanted;
        try {
          await this.options.requests.insist("markAsRead", { conversationId, lastReadMessageId: wanted.messageId }, isNewest);
        } catch (error) {
          // Closed, or refused for good: then the same mark may be asked for again later.
          if (isNewest()) this.#read.delete(conversationId);
          if (!(error instanceof CommandError)) return;
          this.options.onRefused(error.error);
        }
        done = wanted;
      }
    } finally {
      this.#reading.delete(conversationId);
    }
  }
}
