import type { Typing } from "./protocol.js";

/** While the user goes on writing, the service hears of it this often. */
const REFRESH_MS = 3000;
/** Who has not touched a key for this long is not writing any more. */
const IDLE_MS = 5000;
/** However long an event says it holds, the service refreshes or clears it before. */
const LONGEST_MS = 10_000;

interface Writing {
  lastTouch: number;
  /** Whether the service believes it: only then there is an end to tell. */
  told: boolean;
  refresh: ReturnType<typeof setTimeout>;
}

/** Tells the service that the user is writing: at most every 3 s, and when it ends. */
export class OutgoingTyping {
  #writing = new Map<string, Writing>();
  #lastTold = new Map<string, number>();

  constructor(
    private readonly tell: (conversationId: string, isTyping: boolean) => void,
    private readonly now: () => number = Date.now,
  ) {}

  /** `true` for each key pressed; it ends by itself 5 s after the last one. */
  set(conversationId: string, isTyping: boolean): void {
    if (!isTyping) {
      if (this.#end(conversationId)?.told) this.tell(conversationId, false);
      return;
    }
    const writing = this.#writing.get(conversationId);
    if (writing !== undefined) writing.lastTouch = this.now();
    else this.#begin(conversationId);
  }

  /** The message was sent; the service clears the rest itself. */
  sent(conversationId: string): void {
    this.#end(conversationId);
    // The next message is news again at once.
    this.#lastTold.delete(conversationId);
  }

  /** The user has left the window, or the client is being closed. */
  stopAll(): void {
    for (const conversationId of [...this.#writing.keys()]) this.set(conversationId, false);
  }

  /** The connection is gone, and with it what was told. */
  forget(): void {
    for (const conversationId of [...this.#writing.keys()]) this.#end(conversationId);
    this.#lastTold.clear();
  }

  #begin(conversationId: string): void {
    const now = this.now();
    const sinceLast = now - (this.#lastTold.get(conversationId) ?? -Infinity);
    const waitMs = Math.max(0, REFRESH_MS - sinceLast);
    const refresh = setTimeout(() => this.#refresh(conversationId), waitMs || REFRESH_MS);
    const writing: Writing = { lastTouch: now, told: false, refresh };
    this.#writing.set(conversationId, writing);
    if (waitMs === 0) this.#say(conversationId, writing);
  }

  #refresh(conversationId: string): void {
    const writing = this.#writing.get(conversationId);
    if (writing === undefined) return;
    if (this.now() - writing.lastTouch >= IDLE_MS) {
      this.set(conversationId, false);
      return;
    }
    this.#say(conversationId, writing);
    writing.refresh = setTimeout(() => this.#refresh(conversationId), REFRESH_MS);
  }

  #say(conversationId: string, writing: Writing): void {
    writing.told = true;
    this.#lastTold.set(conversationId, this.now());
    this.tell(conversationId, true);
  }

  #end(conversationId: string): Writing | undefined {
    const writing = this.#writing.get(conversationId);
    clearTimeout(writing?.refresh);
    this.#writing.delete(conversationId);
    return writing;
  }
}

/** Who is writing to the user now; a state that is not refreshed ends by itself. */
export class IncomingTyping {
  #states = new Map<string, { readonly typing: Typing; readonly timer: ReturnType<typeof setTimeout> }>();

  constructor(private readonly onChange: (typing: Typing) => void) {}

  /** The users who are writing in a conversation. */
  in(conversationId: string): readonly string[] {
    const typing = [...this.#states.values()].filter((state) => state.typing.conversationId === conversationId);
    return typing.map((state) => state.typing.userId);
  }

  receive(typing: Typing, expiresInMs: number): void {
    if (!typing.isTyping) {
      this.clear(typing.userId, typing.conversationId);
      return;
    }
    const key = keyOf(typing);
    const known = this.#states.get(key);
    clearTimeout(known?.timer);
    const lifetimeMs = Math.min(Math.max(0, expiresInMs), LONGEST_MS);
    const timer = setTimeout(() => this.clear(typing.userId, typing.conversationId), lifetimeMs);
    this.#states.set(key, { typing, timer });
    if (known === undefined) this.onChange(typing);
  }

  /** The user's message has come, or the user is gone. */
  clear(userId: string, conversationId?: string): void {
    for (const [key, { typing, timer }] of [...this.#states]) {
      if (typing.userId !== userId || (conversationId ?? typing.conversationId) !== typing.conversationId) continue;
      clearTimeout(timer);
      this.#states.delete(key);
      this.onChange({ ...typing, isTyping: false });
    }
  }

  clearAll(): void {
    for (const { typing } of [...this.#states.values()]) this.clear(typing.userId, typing.conversationId);
  }
}

const keyOf = ({ conversationId, userId }: Typing): string => `${conversationId}/${userId}`;
