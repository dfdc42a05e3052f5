/** Limits of an exponential back-off, in milliseconds. */
export interface BackoffLimits {
  readonly baseMs: number;
  readonly capMs: number;
}

/**
 * Exponential back-off with equal jitter: half of each delay is fixed, half random.
 *
 * It has no last attempt: after the cap is reached it stays there. The jitter
 * keeps clients apart that lost the broker at the same moment.
 */
export class Backoff {
  #attempt = 0;

  constructor(
    private readonly limits: BackoffLimits,
    private readonly random: () => number = Math.random,
  ) {}

  /** Failures since the last `reset`. */
  get attempt(): number {
    return this.#attempt;
  }

  /** The delay before the next attempt, in milliseconds. */
  next(): number {
    // The exponent is bounded so that 2 ** n stays finite however long an outage lasts.
    const ceiling = Math.min(this.limits.capMs, this.limits.baseMs * 2 ** Math.min(this.#attempt, 30));
    this.#attempt += 1;
    return Math.round(ceiling / 2 + (ceiling / 2) * this.random());
  }

  reset(): void {
    this.#attempt = 0;
  }
}
