import type { BackoffLimits } from "./backoff.js";
import { Connection, type ConnectionState } from "./connection.js";
import { Conversation } from "./conversation.js";
import { ConversationList } from "./conversation-list.js";
import { Emitter, type EventOf } from "./emitter.js";
import type { HistoryApi } from "./history.js";
import { Outbox, type SendUpdate } from "./outbox.js";
import { IndexedDbOutboxStorage, MemoryOutboxStorage, type OutboxEntry, type OutboxStorage } from "./outbox-storage.js";
import { commandTopic, eventsFilter, MAX_TEXT_CHARACTERS, parseEvent } from "./protocol.js";
import type { ConversationSummary, Message, ServiceError, Target } from "./protocol.js";
import { SendHandle } from "./send-handle.js";
import { randomUuid } from "./uuid.js";
import { onWakeUp } from "./wake-up.js";

export interface MessagingClientOptions {
  /** The broker's WebSocket (or, under Node, TCP) address. */
  readonly url: string;
  readonly userId: string;
  /** Stable per device: the broker's session and the outbox hang on it. No two connections may share it. */
  readonly deviceId: string;
  /** A fresh JWT whose `sub` is `userId`; called before each attempt to connect. */
  readonly token: () => Promise<string>;
  readonly topicRoot?: string;
  /** Without it holes cannot be repaired, and scrolling back is not possible. */
  readonly history?: HistoryApi;
  /** Default: IndexedDB in a browser, memory elsewhere. */
  readonly storage?: OutboxStorage;
  readonly sessionExpirySeconds?: number;
  readonly keepaliveSeconds?: number;
  readonly connectTimeoutMs?: number;
  readonly reconnect?: BackoffLimits;
  readonly resend?: BackoffLimits;
}

/** What the client tells. Per conversation, `message` comes in `seq` order, each message once. */
export interface ClientEvents {
  connection: ConnectionState;
  message: Message;
  send: SendUpdate;
  /** What is to be shown of this conversation has changed: new or older messages, or its state. */
  conversation: Conversation;
  conversations: readonly ConversationSummary[];
  /** An error answer that belongs to none of this device's messages. */
  serviceError: ServiceError;
  /** Something the application may want to log; the client carries on. */
  warning: Error;
}

const DEFAULTS = {
  topicRoot: "chat/v1",
  sessionExpirySeconds: 24 * 60 * 60,
  keepaliveSeconds: 30,
  connectTimeoutMs: 10_000,
  reconnect: { baseMs: 500, capMs: 30_000 },
  resend: { baseMs: 8000, capMs: 60_000 },
  history: { baseMs: 500, capMs: 10_000 },
} as const;

/**
 * One user's device: connected for as long as it is not closed, sending what it
 * is given until it is answered, and showing conversations without holes.
 */
export class MessagingClient {
  readonly userId: string;
  readonly deviceId: string;
  #emitter = new Emitter<ClientEvents>();
  #conversations = new Map<string, Conversation>();
  #handles = new Map<string, SendHandle>();
  #connection: Connection;
  #outbox: Outbox;
  #list: ConversationList;
  #started = false;
  #stopWakeUps: () => void = () => undefined;

  constructor(private readonly options: MessagingClientOptions) {
    this.userId = options.userId;
    this.deviceId = options.deviceId;
    this.#connection = this.#makeConnection();
    this.#outbox = this.#makeOutbox();
    this.#list = new ConversationList({
      userId: options.userId,
      history: options.history,
      retry: DEFAULTS.history,
      onChange: () => this.#emitter.emit("conversations", this.#list.all),
      onSummary: (summary) => this.#onSummary(summary),
    });
  }

  get connectionState(): ConnectionState {
    return this.#connection.state;
  }

  /** The user's conversations, latest activity first; empty until read from the history. */
  get conversations(): readonly ConversationSummary[] {
    return this.#list.all;
  }

  /** Whether the list of conversations was read. */
  get hasConversations(): boolean {
    return this.#list.isLoaded;
  }

  /** Messages of this device that the service has not acknowledged, oldest first. */
  get unsent(): readonly OutboxEntry[] {
    return this.#outbox.entries;
  }

  on<Name extends keyof ClientEvents>(name: Name, listener: (value: ClientEvents[Name]) => void): () => void {
    return this.#emitter.on(name, listener);
  }

  /** Every event from now on, in order, until the client is closed. */
  events(): AsyncIterableIterator<EventOf<ClientEvents>> {
    return this.#emitter.stream();
  }

  /** Restores the outbox and begins to connect; resolves without waiting for the broker. */
  async start(): Promise<void> {
    if (this.#started) throw new Error("The client was started before");
    this.#started = true;
    await this.#outbox.restore();
    this.#stopWakeUps = onWakeUp(() => this.wake());
    this.#connection.start();
    void this.#list.refresh();
  }

  /** Ends everything; unsent messages stay in the storage, the broker's session until it expires. */
  async close(): Promise<void> {
    this.#stopWakeUps();
    this.#list.close();
    for (const conversation of this.#conversations.values()) conversation.close();
    await this.#connection.close();
    await this.#outbox.close();
    this.#emitter.close();
  }

  /** Tries again now whatever waits for its next attempt. */
  wake(): void {
    this.#connection.wake();
    this.#list.wake();
    for (const conversation of this.#conversations.values()) conversation.wake();
  }

  /**
   * Sends a text, now or as soon as there is a connection.
   *
   * @throws RangeError when the text is empty or longer than 5,000 characters.
   */
  send(message: Target & { readonly text: string }): SendHandle {
    const { text } = message;
    if (!this.#started) throw new Error("Start the client first");
    const characters = [...text].length;
    if (characters === 0 || characters > MAX_TEXT_CHARACTERS) {
      throw new RangeError(`A message has 1 to ${MAX_TEXT_CHARACTERS} characters`);
    }
    const handle = new SendHandle(randomUuid());
    this.#handles.set(handle.clientMessageId, handle);
    const target: Target =
      message.conversationId !== undefined
        ? { conversationId: message.conversationId }
        : { recipientId: message.recipientId };
    this.#outbox.add(target, text, handle.clientMessageId);
    return handle;
  }

  /** Sends a failed message again. */
  retry(clientMessageId: string): void {
    this.#outbox.retry(clientMessageId);
  }

  /** Gives up a failed message. */
  discard(clientMessageId: string): void {
    this.#outbox.discard(clientMessageId);
  }

  /** The conversation, followed from now on; its newest page is being read. */
  conversation(conversationId: string): Conversation {
    const conversation = this.#follow(conversationId);
    void conversation.load();
    return conversation;
  }

  /** The direct conversation with a user, if there is one. */
  conversationWith(userId: string): ConversationSummary | undefined {
    return this.#list.withUser(userId);
  }

  #follow(conversationId: string): Conversation {
    const known = this.#conversations.get(conversationId);
    if (known !== undefined) return known;
    const conversation: Conversation = new Conversation(conversationId, {
      history: this.options.history,
      retry: DEFAULTS.history,
      onMessage: (message) => this.#onNew(message),
      onFetched: (messages) => this.#onFetched(messages),
      onChange: () => this.#emitter.emit("conversation", conversation),
    });
    this.#conversations.set(conversationId, conversation);
    return conversation;
  }

  #onState(state: ConnectionState): void {
    if (state.status === "connected") void this.#list.refresh();
    this.#outbox.setOnline(state.status === "connected");
    this.#emitter.emit("connection", state);
  }

  #onMessage(topic: string, payload: Uint8Array, correlation: string | undefined): void {
    try {
      const event = parseEvent(topic, payload);
      if (event.type === "error") this.#onError(event.error, correlation);
      else if (event.type !== "other") this.#onLive(event.message);
    } catch (error) {
      this.#emitter.emit("warning", new Error("An event that this client cannot read was ignored", { cause: error }));
    }
  }

  #onLive(message: Message): void {
    // The timeline first: a message must never be in neither of the two.
    this.#follow(message.conversationId).receive(message);
    if (message.senderId === this.userId) this.#outbox.acknowledge(message);
    else this.#outbox.linkRecipient(message.senderId, message.conversationId);
  }

  #onError(error: ServiceError, correlation: string | undefined): void {
    const clientMessageId = error.clientMessageId ?? correlation;
    const isOurs = clientMessageId !== undefined && this.#outbox.refuse(clientMessageId, error);
    if (!isOurs) this.#emitter.emit("serviceError", error);
  }

  #onNew(message: Message): void {
    this.#list.add(message);
    this.#emitter.emit("message", message);
  }

  #onFetched(messages: readonly Message[]): void {
    // What is in the history is durable, even if its acknowledgement was lost.
    for (const message of messages) if (message.senderId === this.userId) this.#outbox.acknowledge(message);
  }

  #onSummary(summary: ConversationSummary): void {
    for (const participant of summary.participantIds) {
      if (participant !== this.userId) this.#outbox.linkRecipient(participant, summary.conversationId);
    }
    this.#conversations.get(summary.conversationId)?.catchUp(summary.lastSeq);
  }

  #onSend(update: SendUpdate): void {
    const { clientMessageId } = update.entry;
    this.#handles.get(clientMessageId)?.update(update);
    if (update.status === "sent" || update.status === "discarded") this.#handles.delete(clientMessageId);
    this.#emitter.emit("send", update);
  }

  async #publish(entry: OutboxEntry): Promise<void> {
    const { clientMessageId, target, text } = entry;
    const topic = commandTopic(this.options.topicRoot ?? DEFAULTS.topicRoot, this.userId, "sendMessage");
    await this.#connection.publish(topic, JSON.stringify({ ...target, clientMessageId, text }), clientMessageId);
  }

  #makeConnection(): Connection {
    const { options } = this;
    return new Connection({
      url: options.url,
      clientId: `${options.userId}:${options.deviceId}`,
      username: options.userId,
      token: options.token,
      filter: eventsFilter(options.topicRoot ?? DEFAULTS.topicRoot, options.userId),
      sessionExpirySeconds: options.sessionExpirySeconds ?? DEFAULTS.sessionExpirySeconds,
      keepaliveSeconds: options.keepaliveSeconds ?? DEFAULTS.keepaliveSeconds,
      connectTimeoutMs: options.connectTimeoutMs ?? DEFAULTS.connectTimeoutMs,
      backoff: options.reconnect ?? DEFAULTS.reconnect,
      onState: (state) => this.#onState(state),
      onMessage: (topic, payload, correlation) => this.#onMessage(topic, payload, correlation),
    });
  }

  #makeOutbox(): Outbox {
    const { options } = this;
    return new Outbox({
      storage: options.storage ?? defaultStorage(options.userId, options.deviceId),
      publish: (entry) => this.#publish(entry),
      onUpdate: (update) => this.#onSend(update),
      onStorageError: (cause) =>
        this.#emitter.emit("warning", new Error("Unsent messages would not survive a reload", { cause })),
      resend: options.resend ?? DEFAULTS.resend,
    });
  }
}

function defaultStorage(userId: string, deviceId: string): OutboxStorage {
  return IndexedDbOutboxStorage.available
    ? new IndexedDbOutboxStorage(`messaging-outbox/${userId}/${deviceId}`)
    : new MemoryOutboxStorage();
}
