import { Backoff, type BackoffLimits } from "./backoff.js";
import type { ServiceEvent } from "./events.js";
import type { ServiceError } from "./protocol.js";
import { randomUuid } from "./uuid.js";

/** The service refused a command. */
export class CommandError extends Error {
  constructor(readonly error: ServiceError) {
    super(`${error.command ?? "command"}: ${error.code}`);
    this.name = "CommandError";
  }
}

/** No answer: no connection, or none in time. The command may have been carried out or not. */
export class UnansweredError extends Error {
  override readonly name = "UnansweredError";
}

export type PublishCommand = (command: string, payload: object, correlation: string) => Promise<void>;

export interface RequestsOptions {
  readonly publish: PublishCommand;
  readonly retry: BackoffLimits;
  readonly timeoutMs: number;
}

interface Pending {
  resolve(event: ServiceEvent): void;
  reject(error: Error): void;
}

/** Commands that are answered under their `requestId`. */
export class Requests {
  #pending = new Map<string, Pending>();
  #wakeUps = new Set<() => void>();
  #closed = false;

  constructor(private readonly options: RequestsOptions) {}

  /**
   * Asks once.
   *
   * @throws CommandError when refused, UnansweredError when there is no connection or no answer in time.
   */
  async ask(command: string, payload: object): Promise<ServiceEvent> {
    const requestId = randomUuid();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const answer = new Promise<ServiceEvent>((resolve, reject) => {
      this.#pending.set(requestId, { resolve, reject });
      timer = setTimeout(() => reject(new UnansweredError(`${command}: no answer`)), this.options.timeoutMs);
      this.options.publish(command, { ...payload, requestId }, requestId).catch((cause: unknown) => {
        reject(new UnansweredError(`${command}: not published`, { cause }));
      });
    });
    try {
      return await answer;
    } finally {
      clearTimeout(timer);
      this.#pending.delete(requestId);
    }
  }

  /**
   * Asks until there is an answer, which makes sense for commands that may be repeated.
   *
   * `isWanted` ends it early: then undefined is returned.
   *
   * @throws CommandError when refused for good, UnansweredError when closed meanwhile.
   */
  async insist(
    command: string,
    payload: object,
    isWanted: () => boolean = () => true,
  ): Promise<ServiceEvent | undefined> {
    const backoff = new Backoff(this.options.retry);
    while (isWanted()) {
      try {
        return await this.ask(command, payload);
      } catch (error) {
        if (error instanceof CommandError && !error.error.retryable) throw error;
        if (this.#closed) throw error;
        const told = error instanceof CommandError ? error.error.retryAfterMs : undefined;
        await this.#pause(told ?? backoff.next());
      }
    }
    return undefined;
  }

  /** Returns whether the event answers a request of this device. */
  answer(requestId: string | undefined, event: ServiceEvent): boolean {
    const pending = requestId === undefined ? undefined : this.#pending.get(requestId);
    pending?.resolve(event);
    return pending !== undefined;
  }

  /** Returns whether the error answers a request of this device. */
  refuse(requestId: string | undefined, error: ServiceError): boolean {
    const pending = requestId === undefined ? undefined : this.#pending.get(requestId);
    pending?.reject(new CommandError(error));
    return pending !== undefined;
  }

  /** Connected: what waits asks at once. Not connected: what asks need not wait for its answer. */
  setOnline(online: boolean): void {
    if (online) for (const wakeUp of [...this.#wakeUps]) wakeUp();
    else for (const { reject } of [...this.#pending.values()]) reject(new UnansweredError("The connection was lost"));
  }

  close(): void {
    this.#closed = true;
    this.setOnline(false);
    this.setOnline(true);
  }

  async #pause(delayMs: number): Promise<void> {
    if (this.#closed) return;
    await new Promise<void>((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#wakeUps.delete(end);
        resolve();
      };
      const timer = setTimeout(end, delayMs);
      this.#wakeUps.add(end);
    });
  }
}
