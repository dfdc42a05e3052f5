import type { ConnectionState } from "./connection.js";
import type { Conversation } from "./conversation.js";
import { Device } from "./device.js";
import type { EventOf } from "./emitter.js";
import type { ClientEvents, MessagingClientOptions } from "./options.js";
import type { OutboxEntry } from "./outbox-storage.js";
import { MAX_TEXT_CHARACTERS } from "./protocol.js";
import type { ConversationSummary, Message, Preferences, Presence, Target } from "./protocol.js";
import { SendHandle } from "./send-handle.js";
import { randomUuid } from "./uuid.js";

/**
 * One user's device: connected for as long as it is not closed, sending what it
 * is given until it is answered, and showing conversations without holes.
 */
export class MessagingClient {
  readonly userId: string;
  readonly deviceId: string;
  #device: Device;
  #started = false;

  constructor(options: MessagingClientOptions) {
    this.userId = options.userId;
    this.deviceId = options.deviceId;
    this.#device = new Device(options);
  }

  get connectionState(): ConnectionState {
    return this.#device.connection.state;
  }

  /** The user's conversations, latest activity first; empty until read from the history. */
  get conversations(): readonly ConversationSummary[] {
    return this.#device.list.all;
  }

  /** Whether the list of conversations was read. */
  get hasConversations(): boolean {
    return this.#device.list.isLoaded;
  }

  /** Messages of this device that the service has not acknowledged, oldest first. */
  get unsent(): readonly OutboxEntry[] {
    return this.#device.outbox.entries;
  }

  /** The user's preferences, once the service has told them. */
  get preferences(): Preferences | undefined {
    return this.#device.preferences;
  }

  on<Name extends keyof ClientEvents>(name: Name, listener: (value: ClientEvents[Name]) => void): () => void {
    return this.#device.emitter.on(name, listener);
  }

  /** Every event from now on, in order, until the client is closed. */
  events(): AsyncIterableIterator<EventOf<ClientEvents>> {
    return this.#device.emitter.stream();
  }

  /** Restores the outbox and begins to connect; resolves without waiting for the broker. */
  async start(): Promise<void> {
    if (this.#started) throw new Error("The client was started before");
    this.#started = true;
    await this.#device.start();
  }

  /** Says goodbye and ends everything; unsent messages stay in the storage, the broker's session until it expires. */
  async close(): Promise<void> {
    await this.#device.close();
  }

  /** Tries again now whatever waits for its next attempt. */
  wake(): void {
    this.#device.wake();
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
    this.#device.handles.set(handle.clientMessageId, handle);
    const target: Target =
      message.conversationId !== undefined
        ? { conversationId: message.conversationId }
        : { recipientId: message.recipientId };
    if (target.conversationId !== undefined) this.#device.ownTyping.sent(target.conversationId);
    this.#device.outbox.add(target, text, handle.clientMessageId);
    return handle;
  }

  /** Sends a failed message again. */
  retry(clientMessageId: string): void {
    this.#device.outbox.retry(clientMessageId);
  }

  /** Gives up a failed message. */
  discard(clientMessageId: string): void {
    this.#device.outbox.discard(clientMessageId);
  }

  /**
   * The conversation, followed from now on.
   *
   * Its newest page is being read; or, with `afterSeq`, everything after a position that
   * the application has kept, as `message` events. Without a history that is also what
   * happens without `afterSeq`, from the conversation's start.
   *
   * `afterSeq` belongs before `start()`: the first event of a conversation makes the client follow it from there.
   *
   * @throws RangeError when `afterSeq` is before the position from which the client follows the conversation already.
   */
  conversation(conversationId: string, from: { readonly afterSeq?: number } = {}): Conversation {
    const conversation = this.#device.followed.follow(conversationId);
    if (from.afterSeq !== undefined) conversation.startAfter(from.afterSeq);
    void conversation.load();
    return conversation;
  }

  /** The direct conversation with a user, if there is one. */
  conversationWith(userId: string): ConversationSummary | undefined {
    return this.#device.list.withUser(userId);
  }

  /** The user has read everything up to this message; told until it is answered. */
  markRead(conversationId: string, messageId: string): void {
    const conversation = this.#device.followed.follow(conversationId);
    const message = conversation.find(messageId);
    if (message !== undefined && message.seq <= conversation.positionOf(this.userId).readSeq) return;
    this.#device.receipts.markRead(conversationId, messageId, message?.seq);
  }

  /** This device has everything up to this message; only needed with `marksDelivered: false`. */
  markDelivered(message: Message): void {
    this.#device.receipts.markDelivered(message);
  }

  /** `true` for each key pressed. It ends by itself: with the message, a blur of the window, or 5 s without a call. */
  setTyping(conversationId: string, isTyping: boolean): void {
    this.#device.ownTyping.set(conversationId, isTyping);
  }

  /** Who is writing in this conversation now. */
  typingIn(conversationId: string): readonly string[] {
    return this.#device.typing.in(conversationId);
  }

  /** Whether this device's user is there; `online` is what a client says of itself at first. */
  setPresence(state: "online" | "away"): void {
    this.#device.ownPresence.set(state);
  }

  /** Whether another user is there; undefined when that is not known at the moment. */
  presenceOf(userId: string): Presence | undefined {
    return this.#device.presence.of(userId);
  }

  /** Resolves with what the service has stored. @throws CommandError when it refuses. */
  async setPreferences(change: Partial<Preferences>): Promise<Preferences> {
    const answer = await this.#device.requests.insist("setPreferences", change);
    if (answer?.type !== "preferencesChanged") throw new TypeError("Not an answer to setPreferences");
    return answer.preferences;
  }
}
