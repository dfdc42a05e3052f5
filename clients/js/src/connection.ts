import { Backoff, type BackoffLimits } from "./backoff.js";
import { Link, LinkError, type LinkOptions } from "./link.js";
import { Pause } from "./pause.js";
import { refreshDelay } from "./token.js";

export type ConnectionState =
  | { readonly status: "connecting" }
  | { readonly status: "connected" }
  /** Between two attempts; the next one comes in `retryInMs`, or at once after `wake()`. */
  | { readonly status: "waiting"; readonly attempt: number; readonly retryInMs: number; readonly reason: string }
  | { readonly status: "closed" };

export interface ConnectionOptions extends Omit<LinkOptions, "token" | "will"> {
  /** Called before each attempt; its failure counts as a failed attempt, and so does taking longer than `connectTimeoutMs`. */
  readonly token: () => Promise<string>;
  /** Called before each attempt. */
  readonly will: () => LinkOptions["will"];
  readonly backoff: BackoffLimits;
  readonly onState: (state: ConnectionState) => void;
}

/** Only a link that lived this long proves that attempts are worth making quickly again. */
const STABLE_AFTER_MS = 5000;
const PROBE_TIMEOUT_MS = 5000;

/**
 * Keeps a link to the broker up: a fresh token for each attempt, jittered
 * back-off without an end, and a planned reconnect before the token expires.
 */
export class Connection {
  #state: ConnectionState = { status: "closed" };
  #link: Link | undefined;
  #started = false;
  #closed = false;
  #pause = new Pause();
  #tokenLimit = new Pause();
  readonly #backoff: Backoff;

  constructor(private readonly options: ConnectionOptions) {
    this.#backoff = new Backoff(options.backoff);
  }

  get state(): ConnectionState {
    return this.#state;
  }

  start(): void {
    if (this.#started) return;
    this.#started = true;
    void this.#run();
  }

  /**
   * Something suggests that now is a good moment (network back, page shown again).
   *
   * A waiting attempt is made at once; an open link is checked, because a
   * machine that slept may hold one that has been dead for long.
   */
  wake(): void {
    this.#pause.end();
    if (this.#state.status !== "connected") return;
    const link = this.#link;
    link?.probe(PROBE_TIMEOUT_MS).catch(() => link.drop());
  }

  /**
   * @throws LinkError when there is no link, or it breaks before the broker has taken the message;
   *   PublishRefusedError when the broker does not take it.
   */
  async publish(topic: string, payload: string, correlation: string): Promise<void> {
    if (!this.#link?.isOpen) throw new LinkError("Not connected");
    await this.#link.publish(topic, payload, correlation);
  }

  /** At QoS 0: not kept for later when there is no connection. */
  signal(topic: string, payload: string): void {
    this.#link?.signal(topic, payload);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#pause.end();
    this.#tokenLimit.end();
    await this.#link?.close();
    this.#enter({ status: "closed" });
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      const failure = await this.#connectOnce();
      if (this.#closed) return;
      if (failure !== undefined) await this.#waitAfter(failure);
    }
  }

  /** Returns why the connection failed or ended; undefined after a planned reconnect. */
  async #connectOnce(): Promise<Error | undefined> {
    this.#enter({ status: "connecting" });
    try {
      const token = await this.#token();
      if (this.#closed) return undefined;
      this.#link = new Link({ ...this.options, token, will: this.options.will() });
      await this.#link.ready();
      return await this.#use(this.#link, refreshDelay(token));
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    } finally {
      this.#link = undefined;
    }
  }

  /** @throws Error when there is none in time, or the connection is closed meanwhile. */
  async #token(): Promise<string> {
    const token = this.options.token();
    const tooLate = this.#tokenLimit.wait(this.options.connectTimeoutMs).then((): never => {
      throw new Error("There was no token in time");
    });
    try {
      return await Promise.race([token, tooLate]);
    } finally {
      this.#tokenLimit.end();
    }
  }

  async #use(link: Link, refreshInMs: number | undefined): Promise<Error | undefined> {
    let planned = false;
    const refresh =
      refreshInMs === undefined
        ? undefined
        : setTimeout(() => {
            planned = true;
            void link.close();
          }, refreshInMs);
    const stable = setTimeout(() => this.#backoff.reset(), STABLE_AFTER_MS);
    this.#enter({ status: "connected" });
    const reason = await link.ended;
    clearTimeout(refresh);
    clearTimeout(stable);
    return planned ? undefined : reason;
  }

  async #waitAfter(failure: Error): Promise<void> {
    let retryInMs = this.#backoff.next();
    // Two clients with one client id would throw each other out for ever; the one thrown out is patient.
    if (failure instanceof LinkError && failure.takenOver) retryInMs = this.options.backoff.capMs;
    this.#enter({ status: "waiting", attempt: this.#backoff.attempt, retryInMs, reason: failure.message });
    await this.#pause.wait(retryInMs);
  }

  #enter(state: ConnectionState): void {
    if (this.#closed && state.status !== "closed") return;
    this.#state = state;
    this.options.onState(state);
  }
}
