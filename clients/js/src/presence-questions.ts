import type { HistoryApi } from "./history.js";
import type { Presence } from "./protocol.js";

export interface PresenceQuestionsOptions {
  readonly onAnswers: (answers: readonly Presence[]) => void;
  readonly onFailure: (cause: unknown) => void;
}

/** The service takes no more users at once. */
const MOST_AT_ONCE = 100;

/**
 * Asks once per connection about each user of whom something was heard.
 *
 * Who is there comes by itself. When the others were last there has to be asked for,
 * and so has whoever is new: a conversation's first message changes nobody's presence.
 */
export class PresenceQuestions {
  #asked = new Set<string>();
  #waiting: string[] = [];

  constructor(
    private readonly history: HistoryApi | undefined,
    private readonly options: PresenceQuestionsOptions,
  ) {}

  ask(userId: string): void {
    if (this.history?.getPresence === undefined || this.#asked.has(userId)) return;
    this.#asked.add(userId);
    if (this.#waiting.length === 0) queueMicrotask(() => void this.#flush(this.#waiting.splice(0)));
    this.#waiting.push(userId);
  }

  /** With a new connection everything that is known is old. */
  startAgain(): void {
    this.#asked.clear();
  }

  async #flush(userIds: readonly string[]): Promise<void> {
    for (let first = 0; first < userIds.length; first += MOST_AT_ONCE) {
      const some = userIds.slice(first, first + MOST_AT_ONCE);
      try {
        this.options.onAnswers((await this.history?.getPresence?.(some)) ?? []);
      } catch (cause) {
        for (const userId of some) this.#asked.delete(userId);
        this.options.onFailure(cause);
      }
    }
  }
}
