import type { Presence, PresenceState } from "./protocol.js";

/** A third of the service's lease of 60 s: two lost heartbeats do no harm. */
const HEARTBEAT_MS = 20_000;
/** A short break, as for a new token, is not worth telling; with each connection the service tells who is there. */
const GRACE_MS = 4000;

export interface OwnPresenceOptions {
  readonly newSessionId: () => string;
  readonly publish: (state: PresenceState, sessionId: string) => Promise<void>;
}

/** What a user's device says of itself: which state, under one id per MQTT session. */
export class OwnPresence {
  #state: "online" | "away" = "online";
  #sessionId: string | undefined;
  /** Sessions of which the service may still believe that they are there. */
  #left: string[] = [];
  #heartbeat: ReturnType<typeof setInterval> | undefined;

  constructor(private readonly options: OwnPresenceOptions) {}

  /** Before each attempt to connect; what the broker is to say when the connection is lost. */
  newSession(): { readonly state: "offline"; readonly sessionId: string } {
    this.#sessionId = this.options.newSessionId();
    return { state: "offline", sessionId: this.#sessionId };
  }

  connected(): void {
    const left = this.#left.splice(0);
    this.#say(this.#state);
    // After the new session, so that nobody sees the user go in between.
    for (const sessionId of left) void this.options.publish("offline", sessionId).catch(() => undefined);
    clearInterval(this.#heartbeat);
    this.#heartbeat = setInterval(() => this.#say(this.#state), HEARTBEAT_MS);
  }

  disconnected(): void {
    if (this.#heartbeat === undefined) return;
    clearInterval(this.#heartbeat);
    this.#heartbeat = undefined;
    if (this.#sessionId !== undefined) this.#left = [this.#sessionId];
  }

  set(state: "online" | "away"): void {
    if (state === this.#state) return;
    this.#state = state;
    if (this.#heartbeat !== undefined) this.#say(state);
  }

  /** Before a clean end: says that this session is over. */
  async leave(): Promise<void> {
    if (this.#heartbeat === undefined || this.#sessionId === undefined) return;
    clearInterval(this.#heartbeat);
    this.#heartbeat = undefined;
    await this.options.publish("offline", this.#sessionId).catch(() => undefined);
  }

  #say(state: PresenceState): void {
    if (this.#sessionId === undefined) return;
    // A failure needs no care: the next heartbeat or the next connection says it again.
    void this.options.publish(state, this.#sessionId).catch(() => undefined);
  }
}

/** Who of the others is there, as far as this device has heard since it connected. */
export class PresenceBook {
  #known = new Map<string, Presence>();
  #fromEvents = new Set<string>();
  #grace: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly onChange: (presence: Presence) => void) {}

  /** Undefined: not known now, because there is no connection or nothing was heard. */
  of(userId: string): Presence | undefined {
    return this.#known.get(userId);
  }

  receive(presence: Presence): void {
    this.#fromEvents.add(presence.userId);
    this.#put(presence);
  }

  /** An answer to a question; an event since the last connect is newer for certain or the same. */
  learn(answers: readonly Presence[]): void {
    for (const presence of answers) if (!this.#fromEvents.has(presence.userId)) this.#put(presence);
  }

  /** Nobody tells us anything any more: who is not heard of again soon may have left. */
  disconnected(): void {
    this.#fromEvents.clear();
    this.#grace ??= setTimeout(() => this.#forgetUnheard(), GRACE_MS);
  }

  close(): void {
    clearTimeout(this.#grace);
    this.#grace = undefined;
  }

  #forgetUnheard(): void {
    this.#grace = undefined;
    for (const presence of [...this.#known.values()]) {
      if (presence.state === "offline" || this.#fromEvents.has(presence.userId)) continue;
      this.#known.delete(presence.userId);
      this.onChange({ userId: presence.userId, state: "offline", lastSeenAt: null });
    }
  }

  #put(presence: Presence): void {
    const known = this.#known.get(presence.userId);
    if (known?.state === presence.state && known.lastSeenAt === presence.lastSeenAt) return;
    this.#known.set(presence.userId, presence);
    this.onChange(presence);
  }
}
