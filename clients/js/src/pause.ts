/** A wait that can be ended early: the one `setTimeout` of everything that retries. */
export class Pause {
  #end: (() => void) | undefined;

  /** Resolves after `delayMs`, or as soon as `end` is called. One wait at a time. */
  async wait(delayMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, delayMs);
      this.#end = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#end = undefined;
  }

  end(): void {
    this.#end?.();
  }
}
