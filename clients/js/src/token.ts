/** A token is replaced after this share of its lifetime, so that the broker never has to end the session. */
const REFRESH_AFTER_SHARE = 0.8;
/** setTimeout takes 31 bits; a day is refresh enough for a token that lives longer. */
const LONGEST_WAIT_MS = 24 * 60 * 60 * 1000;
const SHORTEST_WAIT_MS = 1000;
/** Who asks for a token waits for one that was asked for before, unless that has taken this long. */
const SLOWEST_MINT_MS = 10_000;

/**
 * How long a fresh JWT may be used before it should be replaced, in milliseconds.
 *
 * Counted from `iat` where the token has one, so that a wrong local clock does
 * not matter. Undefined for a token whose lifetime cannot be read.
 */
export function refreshDelay(token: string, nowMs: number = Date.now()): number | undefined {
  const claims = readClaims(token);
  if (claims === undefined || typeof claims.exp !== "number") return undefined;
  const issued = typeof claims.iat === "number" ? claims.iat : nowMs / 1000;
  const lifetimeMs = (claims.exp - issued) * 1000;
  return Math.min(LONGEST_WAIT_MS, Math.max(SHORTEST_WAIT_MS, lifetimeMs * REFRESH_AFTER_SHARE));
}

/**
 * Remembers the newest token, so that REST calls need not ask for one each time.
 *
 * The broker gets `fresh` ones; `current` serves the rest.
 */
export class TokenCache {
  #newest: { token: Promise<string>; goodUntil: number } | undefined;

  constructor(
    private readonly mint: () => Promise<string>,
    private readonly now: () => number = Date.now,
  ) {}

  /** A new token. */
  async fresh(): Promise<string> {
    const minted = this.mint();
    const newest = { token: minted, goodUntil: this.now() + SLOWEST_MINT_MS };
    this.#newest = newest;
    try {
      const token = await minted;
      newest.goodUntil = this.now() + (refreshDelay(token, this.now()) ?? 0);
      return token;
    } catch (error) {
      if (this.#newest === newest) this.#newest = undefined;
      throw error;
    }
  }

  /** The newest token, or a new one when that is old. */
  current(): Promise<string> {
    return this.#newest !== undefined && this.now() < this.#newest.goodUntil ? this.#newest.token : this.fresh();
  }
}

function readClaims(token: string): Record<string, unknown> | undefined {
  const body = token.split(".")[1];
  if (body === undefined) return undefined;
  try {
    const claims: unknown = JSON.parse(atob(body.replaceAll("-", "+").replaceAll("_", "/")));
    return typeof claims === "object" && claims !== null ? (claims as Record<string, unknown>) : undefined;
  } catch {
    // Opaque to us is fine: the broker is the one that verifies it.
    return undefined;
  }
}
