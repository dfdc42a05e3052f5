import type { SendUpdate } from "./outbox.js";
import type { Message, ServiceError } from "./protocol.js";

/** How a send ended. `failed` is final unless the message is retried. */
export type SendResult =
  | { readonly status: "sent"; readonly message: Message }
  | { readonly status: "failed"; readonly error: ServiceError };

/** One `send()` of this run: its key, its state now, and how it ends. */
export class SendHandle {
  #status: "sending" | "sent" | "failed" | "discarded" = "sending";
  #error: ServiceError | undefined;
  #message: Message | undefined;
  #settle: (result: SendResult) => void = () => undefined;
  /** The first outcome; never rejects, and waits for as long as the broker or service is away. */
  readonly settled: Promise<SendResult>;

  constructor(readonly clientMessageId: string) {
    this.settled = new Promise((resolve) => (this.#settle = resolve));
  }

  get status(): "sending" | "sent" | "failed" | "discarded" {
    return this.#status;
  }

  get error(): ServiceError | undefined {
    return this.#error;
  }

  /** The durable message, once `status` is `sent`. */
  get message(): Message | undefined {
    return this.#message;
  }

  /** @internal */
  update(update: SendUpdate): void {
    this.#status = update.status;
    this.#error = update.status === "failed" ? update.error : undefined;
    if (update.status === "sent") {
      this.#message = update.message;
      this.#settle({ status: "sent", message: update.message });
    } else if (update.status === "failed") {
      this.#settle({ status: "failed", error: update.error });
    }
  }
}
