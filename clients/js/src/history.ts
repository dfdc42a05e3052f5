import { readPresence } from "./events.js";
import { type ConversationSummary, type Message, type Presence, readMessage } from "./protocol.js";

export interface MessagePage {
  /** Newest first. */
  readonly messages: readonly Message[];
  /** For the next older page; null at the conversation's beginning. */
  readonly nextCursor: string | null;
}

export interface ConversationPage {
  /** Latest activity first. */
  readonly conversations: readonly ConversationSummary[];
  readonly nextCursor: string | null;
}

/** Where stored messages are read from: by default the gateway's REST routes. */
export interface HistoryApi {
  listMessages(conversationId: string, cursor?: string): Promise<MessagePage>;
  listConversations(cursor?: string): Promise<ConversationPage>;
  getConversation(conversationId: string): Promise<ConversationSummary>;
  /** Of 1 to 100 users; who may not be seen is left out. */
  getPresence?(userIds: readonly string[]): Promise<readonly Presence[]>;
}

/** A REST answer other than 2xx, or none at all (`status` 0). */
export class HistoryError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string | undefined,
  ) {
    super(message);
    this.name = "HistoryError";
  }

  /** The request itself is refused: asking again changes nothing. */
  get isFinal(): boolean {
    return this.status === 400 || this.status === 403 || this.status === 404;
  }
}

const REQUEST_TIMEOUT_MS = 15_000;

/** The gateway's REST routes under `baseUrl`, as the user whom the token names. */
export class RestHistoryApi implements HistoryApi {
  constructor(
    private readonly baseUrl: string,
    private readonly token: () => Promise<string>,
  ) {}

  async listMessages(conversationId: string, cursor?: string): Promise<MessagePage> {
    const query = new URLSearchParams({ direction: "older", pageSize: "50" });
    if (cursor !== undefined) query.set("cursor", cursor);
    const path = `/api/conversations/${encodeURIComponent(conversationId)}/messages?${query}`;
    const page = await this.#get<{ messages: Record<string, unknown>[]; nextCursor?: string | null }>(path);
    return { messages: page.messages.map(readMessage), nextCursor: page.nextCursor || null };
  }

  async listConversations(cursor?: string): Promise<ConversationPage> {
    const query = cursor === undefined ? "" : `?${new URLSearchParams({ cursor })}`;
    const page = await this.#get<{ conversations: ConversationSummary[]; nextCursor?: string | null }>(
      `/api/conversations${query}`,
    );
    return { conversations: page.conversations.map(readSummary), nextCursor: page.nextCursor || null };
  }

  async getConversation(conversationId: string): Promise<ConversationSummary> {
    return readSummary(
      await this.#get<ConversationSummary>(`/api/conversations/${encodeURIComponent(conversationId)}`),
    );
  }

  async getPresence(userIds: readonly string[]): Promise<readonly Presence[]> {
    const query = new URLSearchParams(userIds.map((userId) => ["userId", userId]));
    const answer = await this.#get<{ presences: Record<string, unknown>[] }>(`/api/presence?${query}`);
    return answer.presences.map(readPresence);
  }

  async #get<Body>(path: string): Promise<Body> {
    const signal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    const authorization = `Bearer ${await this.#tokenBefore(signal)}`;
    let response: Response;
    try {
      response = await fetch(this.baseUrl + path, { headers: { authorization }, signal });
    } catch (error) {
      throw new HistoryError(`The gateway does not answer: ${String(error)}`, 0, undefined);
    }
    if (!response.ok) throw await refusal(response);
    return (await response.json()) as Body;
  }

  #tokenBefore(limit: AbortSignal): Promise<string> {
    const token = this.token();
    const tooLate = new Promise<never>((_, reject) => {
      const fail = (): void => reject(new HistoryError("There was no token in time", 0, undefined));
      limit.addEventListener("abort", fail, { once: true });
    });
    return Promise.race([token, tooLate]);
  }
}

function readSummary(summary: ConversationSummary): ConversationSummary {
  const last = summary.lastMessage as Record<string, unknown> | null | undefined;
  return { ...summary, lastMessage: last ? readMessage(last) : null };
}

async function refusal(response: Response): Promise<HistoryError> {
  const body: unknown = await response.json().catch(() => undefined);
  const error = (body as { error?: { code?: string; message?: string } } | undefined)?.error;
  return new HistoryError(error?.message ?? `HTTP ${response.status}`, response.status, error?.code);
}
