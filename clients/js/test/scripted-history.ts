import { Conversation } from "../src/conversation.js";
import type { ConversationPage, HistoryApi, MessagePage } from "../src/history.js";
import type { ConversationSummary, Message, SyncPage } from "../src/protocol.js";
import { messageAt, range } from "./messages.js";

const PAGE = 10;

/** A history of which a test says how far it goes and whether it answers. */
export class ScriptedHistory implements HistoryApi {
  newest = 0;
  isDown = false;
  downWith: Error = new Error("down");
  calls = 0;
  skipped = new Set<number>();

  listMessages(_: string, cursor?: string): Promise<MessagePage> {
    this.calls += 1;
    if (this.isDown) return Promise.reject(this.downWith);
    const from = cursor === undefined ? this.newest : Number(cursor);
    const seqs = range(1, from).reverse().filter((seq) => !this.skipped.has(seq));
    const page = seqs.slice(0, PAGE);
    const more = seqs[PAGE];
    return Promise.resolve({ messages: page.map((seq) => messageAt(seq)), nextCursor: more === undefined ? null : String(more) });
  }

  /** What MQTT answers about the same conversation. */
  sync(afterSeq: number): Promise<SyncPage> {
    this.calls += 1;
    if (this.isDown) return Promise.reject(this.downWith);
    const seqs = range(afterSeq + 1, this.newest).filter((seq) => !this.skipped.has(seq));
    const messages = seqs.slice(0, PAGE).map((seq) => messageAt(seq));
    const complete = seqs.length <= PAGE;
    const upToSeq = messages.at(-1)?.seq ?? afterSeq;
    return Promise.resolve({ conversationId: "conversation-1", messages, upToSeq, positions: [], complete });
  }

  listConversations(): Promise<ConversationPage> {
    return Promise.resolve({ conversations: [], nextCursor: null });
  }

  getConversation(): Promise<ConversationSummary> {
    return Promise.reject(new Error("not asked for here"));
  }
}

/** A conversation over it, and what it has told. */
export function follow(history: ScriptedHistory, withHistory = true, keptMessages = 1000) {
  const announced: Message[] = [];
  const refusals: unknown[] = [];
  const steps: string[] = [];
  const conversation = new Conversation("conversation-1", {
    userId: "alice",
    history: withHistory ? history : undefined,
    sync: (_, afterSeq) => history.sync(afterSeq),
    retry: { baseMs: 100, capMs: 100 },
    keptMessages,
    onMessage: (message) => announced.push(message),
    onFetched: () => undefined,
    onStatus: (message) => steps.push(`${message.seq} ${message.status}`),
    onChange: () => undefined,
    onRefused: (_, cause) => refusals.push(cause),
  });
  return { conversation, announced, steps, refusals };
}
