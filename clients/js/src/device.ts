import { Connection, type ConnectionState } from "./connection.js";
import { ConversationList } from "./conversation-list.js";
import { Emitter } from "./emitter.js";
import { parseEvent, type ServiceEvent } from "./events.js";
import { FollowedConversations } from "./followed-conversations.js";
import { type ClientEvents, DEFAULTS, defaultStorage, type MessagingClientOptions, type StatusUpdate } from "./options.js";
import { Outbox, type SendUpdate } from "./outbox.js";
import { OwnPresence, PresenceBook } from "./presence.js";
import { PresenceQuestions } from "./presence-questions.js";
import { commandTopic, eventsFilter } from "./protocol.js";
import type { ConversationSummary, Message, Preferences, Presence, Receipt, ServiceError, SyncPage, Typing } from "./protocol.js";
import { Receipts } from "./receipts.js";
import { Requests } from "./requests.js";
import { type EventTakers, route } from "./router.js";
import type { SendHandle } from "./send-handle.js";
import { IncomingTyping, OutgoingTyping } from "./typing.js";
import { randomUuid } from "./uuid.js";
import { onBlur, onWakeUp } from "./wake-up.js";

/** The parts of one client, and who tells whom what: the inside of `MessagingClient`. */
export class Device implements EventTakers {
  readonly emitter = new Emitter<ClientEvents>();
  readonly handles = new Map<string, SendHandle>();
  readonly connection: Connection;
  readonly outbox: Outbox;
  readonly requests: Requests;
  readonly receipts: Receipts;
  readonly followed: FollowedConversations;
  readonly list: ConversationList;
  readonly ownPresence: OwnPresence;
  readonly presence = new PresenceBook((presence) => this.#onPresence(presence));
  readonly typing = new IncomingTyping((typing) => this.emitter.emit("typing", typing));
  readonly ownTyping = new OutgoingTyping((conversationId, isTyping) => {
    this.connection.signal(this.#topic("typing"), JSON.stringify({ conversationId, isTyping }));
  });
  preferences: Preferences | undefined;
  #stops: (() => void)[] = [];
  #questions: PresenceQuestions;

  constructor(private readonly options: MessagingClientOptions) {
    const publish = this.#publish.bind(this);
    this.connection = this.#makeConnection();
    this.outbox = this.#makeOutbox();
    this.requests = new Requests({ publish, retry: DEFAULTS.retry, timeoutMs: DEFAULTS.requestTimeoutMs });
    this.receipts = new Receipts({
      requests: this.requests,
      publish,
      newRequestId: randomUuid,
      marksDelivered: options.marksDelivered ?? true,
      coalesceMs: DEFAULTS.coalesceMs,
      onRefused: (error) => this.emitter.emit("serviceError", error),
    });
    this.ownPresence = new OwnPresence({
      newSessionId: randomUuid,
      publish: (state, sessionId) => publish("presence", { state, sessionId }, sessionId),
    });
    this.#questions = new PresenceQuestions(options.history, {
      onAnswers: (answers) => this.presence.learn(answers),
      onFailure: (cause) => this.emitter.emit("warning", new Error("Who was last there when is not known", { cause })),
    });
    this.followed = this.#makeFollowed();
    this.list = this.#makeList();
  }

  async start(): Promise<void> {
    await this.outbox.restore();
    this.#stops = [onWakeUp(() => this.wake()), onBlur(() => this.ownTyping.stopAll())];
    this.connection.start();
    void this.list.refresh();
  }

  async close(): Promise<void> {
    for (const stop of this.#stops) stop();
    this.ownTyping.stopAll();
    this.list.close();
    this.followed.close();
    this.requests.close();
    let patience: ReturnType<typeof setTimeout> | undefined;
    const timeout = new Promise((resolve) => (patience = setTimeout(resolve, DEFAULTS.farewellMs)));
    await Promise.race([Promise.all([this.receipts.close(), this.ownPresence.leave()]), timeout]);
    clearTimeout(patience);
    await this.connection.close();
    await this.outbox.close();
    this.presence.close();
    this.emitter.close();
  }

  wake(): void {
    this.connection.wake();
    this.list.wake();
    this.followed.wake();
  }

  onMessage(message: Message): void {
    this.typing.clear(message.senderId, message.conversationId);
    // The timeline first: a message must never be in neither of the two.
    const conversation = this.followed.follow(message.conversationId);
    conversation.receive(message);
    if (message.senderId === this.options.userId) this.outbox.acknowledge(conversation.withStatus(message));
    else this.outbox.linkRecipient(message.senderId, message.conversationId);
  }

  onReceipt(receipt: Receipt): void {
    if (receipt.userId === this.options.userId) this.list.read(receipt.conversationId, receipt.seq);
    if (this.followed.moved(receipt)) this.emitter.emit("receipt", receipt);
  }

  onSyncPage(page: SyncPage): void {
    this.followed.take(page, this.options.userId);
  }

  onTyping(typing: Typing, expiresInMs: number): void {
    this.typing.receive(typing, expiresInMs);
  }

  onPresence(presence: Presence): void {
    this.presence.receive(presence);
  }

  onPreferences(preferences: Preferences): void {
    this.preferences = preferences;
    this.emitter.emit("preferences", preferences);
  }

  onError(error: ServiceError, id: string | undefined): void {
    const isOurs =
      (id !== undefined && this.outbox.refuse(id, error)) ||
      this.requests.refuse(id, error) ||
      this.receipts.refuse(id, error);
    if (!isOurs) this.emitter.emit("serviceError", error);
  }

  onAnswer(requestId: string, event: ServiceEvent): void {
    this.requests.answer(requestId, event);
  }

  #onEvent(topic: string, payload: Uint8Array, correlation: string | undefined): void {
    try {
      route(parseEvent(topic, payload), correlation, this);
    } catch (error) {
      this.emitter.emit("warning", new Error("An event that this client cannot read was ignored", { cause: error }));
    }
  }

  #onState(state: ConnectionState): void {
    const isConnected = state.status === "connected";
    this.outbox.setOnline(isConnected);
    this.requests.setOnline(isConnected);
    if (isConnected) this.#onConnected();
    else this.#onDisconnected();
    this.emitter.emit("connection", state);
  }

  #onConnected(): void {
    this.#questions.startAgain();
    this.ownPresence.connected();
    this.receipts.connected();
    this.followed.wake();
    // The list says what changed meanwhile; while there is none, every conversation has to be asked for.
    if (this.options.history === undefined || this.list.isBehind) this.followed.resync();
    void this.list.refresh();
  }

  #onDisconnected(): void {
    this.ownPresence.disconnected();
    this.ownTyping.forget();
    this.typing.clearAll();
    this.presence.disconnected();
  }

  #onPresence(presence: Presence): void {
    if (presence.state === "offline") this.typing.clear(presence.userId);
    this.emitter.emit("presence", presence);
  }

  #onNew(message: Message): void {
    if (message.senderId !== this.options.userId) this.receipts.got(message);
    this.list.add(message);
    this.emitter.emit("message", message);
  }

  #onFetched(messages: readonly Message[]): void {
    for (const message of messages) {
      // What is in the history is durable, even if its acknowledgement was lost.
      const conversation = this.followed.follow(message.conversationId);
      if (message.senderId === this.options.userId) this.outbox.acknowledge(conversation.withStatus(message));
      else this.receipts.got(message);
    }
  }

  #onSummary(summary: ConversationSummary): void {
    const { userId } = this.options;
    const { lastMessage } = summary;
    for (const participant of summary.participantIds) {
      if (participant === userId) continue;
      this.outbox.linkRecipient(participant, summary.conversationId);
      this.#questions.ask(participant);
    }
    const tellsItself = this.followed.learn(summary, userId);
    if (!tellsItself && lastMessage && lastMessage.senderId !== userId && summary.unreadCount > 0) {
      this.receipts.got(lastMessage);
    }
  }

  #onSend(update: SendUpdate): void {
    const { clientMessageId } = update.entry;
    this.handles.get(clientMessageId)?.update(update);
    if (update.status === "sent" || update.status === "discarded") this.handles.delete(clientMessageId);
    this.emitter.emit("send", update);
    if (update.status === "sent") this.#onStatus(update.message);
    else this.emitter.emit("status", { status: update.status, clientMessageId });
  }

  #onStatus(message: Message): void {
    const status = message.status.toLowerCase() as StatusUpdate["status"];
    this.emitter.emit("status", { status, clientMessageId: message.clientMessageId, message });
  }

  async #sync(conversationId: string, afterSeq: number): Promise<SyncPage> {
    const answer = await this.requests.ask("sync", { conversationId, afterSeq });
    if (answer.type !== "syncPage") throw new TypeError("Not an answer to sync");
    return answer.page;
  }

  #topic(command: string): string {
    return commandTopic(this.options.topicRoot ?? DEFAULTS.topicRoot, this.options.userId, command);
  }

  async #publish(command: string, payload: object, correlation: string): Promise<void> {
    await this.connection.publish(this.#topic(command), JSON.stringify(payload), correlation);
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
      will: () => ({ topic: this.#topic("presence"), payload: JSON.stringify(this.ownPresence.newSession()) }),
      onState: (state) => this.#onState(state),
      onMessage: (topic, payload, correlation) => this.#onEvent(topic, payload, correlation),
    });
  }

  #makeOutbox(): Outbox {
    const { options } = this;
    return new Outbox({
      storage: options.storage ?? defaultStorage(options.userId, options.deviceId),
      publish: ({ clientMessageId, target, text }) =>
        this.#publish("sendMessage", { ...target, clientMessageId, text }, clientMessageId),
      onUpdate: (update) => this.#onSend(update),
      onStorageError: (cause) =>
        this.emitter.emit("warning", new Error("Unsent messages would not survive a reload", { cause })),
      resend: options.resend ?? DEFAULTS.resend,
    });
  }

  #makeFollowed(): FollowedConversations {
    return new FollowedConversations({
      userId: this.options.userId,
      history: this.options.history,
      retry: DEFAULTS.retry,
      keptMessages: this.options.keptMessages ?? DEFAULTS.keptMessages,
      sync: (conversationId, afterSeq) => this.#sync(conversationId, afterSeq),
      onMessage: (message) => this.#onNew(message),
      onFetched: (messages) => this.#onFetched(messages),
      onStatus: (message) => this.#onStatus(message),
      onChange: (conversation) => this.emitter.emit("conversation", conversation),
      onRefused: (conversationId, cause) =>
        this.emitter.emit("warning", new Error(`Conversation ${conversationId} cannot be read`, { cause })),
      onOwnPosition: (conversationId, seq) => this.receipts.isDelivered(conversationId, seq),
    });
  }

  #makeList(): ConversationList {
    return new ConversationList({
      userId: this.options.userId,
      history: this.options.history,
      retry: DEFAULTS.retry,
      unreadAfter: (conversationId, seq) => this.followed.get(conversationId)?.unreadAfter(seq),
      onUnreachable: (cause) => {
        this.emitter.emit("warning", new Error("The list of conversations cannot be read now", { cause }));
        this.followed.resync();
      },
      onChange: () => this.emitter.emit("conversations", this.list.all),
      onSummary: (summary) => this.#onSummary(summary),
    });
  }
}
