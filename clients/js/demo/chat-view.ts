import type { Conversation, MessagingClient } from "../src/index.js";
import { Composer } from "./composer.js";
import { connectionPill } from "./connection-pill.js";
import { el, icon, once, setText } from "./dom.js";
import { type ListTop, MessageList } from "./message-list.js";
import { fromMessage, fromOutbox } from "./message-row.js";
import { avatar, displayName } from "./people.js";
import { PresenceLine } from "./presence-line.js";

export interface ChatViewOptions {
  readonly client: MessagingClient;
  readonly peer: string;
  readonly onBack?: () => void;
}

/** One conversation with one person: header, messages, composer. */
export class ChatView {
  readonly element: HTMLElement;
  #conversation: Conversation | undefined;
  #list: MessageList;
  #presence: PresenceLine;
  #composer: Composer;
  #empty: HTMLElement;
  #announcer = el("div", { class: "visually-hidden", "aria-live": "polite", "data-testid": "announcer" });
  #notice = el("div", { class: "notice", role: "status", hidden: true, "data-testid": "notice" });
  #olderFailed = false;
  #loadingOlder = false;
  #online = true;
  #unsubscribe: (() => void)[] = [];
  #render = once(() => this.#show());

  constructor(private readonly options: ChatViewOptions) {
    const { client, peer } = options;
    const name = displayName(peer);
    this.#list = new MessageList({
      label: `Messages with ${name}`,
      onWantOlder: () => void this.#loadOlder(),
      onAtEnd: () => this.#markRead(),
      retry: (id) => client.retry(id),
      discard: (id) => client.discard(id),
    });
    this.#composer = new Composer(name, {
      send: (text) => this.#send(text),
      typing: (isTyping) => this.#conversation && client.setTyping(this.#conversation.conversationId, isTyping),
    });
    this.#presence = new PresenceLine(client, peer, () => this.#conversation?.conversationId);
    this.#empty = emptyState(peer);
    this.element = el("section", { class: "chat", "data-testid": "chat", "data-peer": peer, "aria-label": `Conversation with ${name}` });
    this.element.append(this.#header(), this.#list.element, this.#empty, this.#presence.bubble, this.#notice, this.#composer.element, this.#announcer);
    this.#listen();
    this.#attach();
    this.#show();
  }

  focus(): void {
    this.#composer.focus();
  }

  /** The view became visible: go to the newest message. */
  shown(): void {
    this.#list.scrollToEnd();
  }

  close(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.element.remove();
  }

  #header(): HTMLElement {
    const { client, peer, onBack } = this.options;
    const back = onBack && el("button", { type: "button", class: "back", "aria-label": "Back to conversations" }, icon("back"));
    back?.addEventListener("click", () => onBack?.());
    const names = el("div", { class: "names" }, el("h2", {}, displayName(peer)), this.#presence.element);
    const as = el("span", { class: "as" }, "You are ", el("strong", {}, displayName(client.userId)));
    const pill = connectionPill(client, (online) => {
      this.#online = online;
      this.#render();
    });
    this.#unsubscribe.push(() => pill.close());
    return el("header", { class: "chat-header" }, back, avatar(peer, this.#presence.dot), names, as, pill.element);
  }

  #listen(): void {
    const { client, peer } = this.options;
    const onVisible = (): void => this.#markRead();
    document.addEventListener("visibilitychange", onVisible);
    this.#unsubscribe.push(
      () => document.removeEventListener("visibilitychange", onVisible),
      () => this.#presence.close(),
      client.on("conversations", () => this.#attach()),
      client.on("conversation", (conversation) => conversation === this.#conversation && this.#render()),
      client.on("send", (update) => {
        // The first message to someone opens the conversation; the list of conversations follows later.
        if (update.status === "sent" && update.entry.target.recipientId === peer) this.#attach(update.message.conversationId);
        this.#render();
      }),
      client.on("message", (message) => {
        if (message.senderId !== peer) return;
        this.#attach(message.conversationId);
        if (message.conversationId === this.#conversation?.conversationId) this.#announce(message.text);
      }),
    );
  }

  #attach(conversationId = this.options.client.conversationWith(this.options.peer)?.conversationId): void {
    if (this.#conversation === undefined && conversationId !== undefined) {
      this.#conversation = this.options.client.conversation(conversationId);
    }
    this.#render();
  }

  #send(text: string): void {
    const { client, peer } = this.options;
    const conversationId = this.#conversation?.conversationId;
    client.send(conversationId === undefined ? { recipientId: peer, text } : { conversationId, text });
    this.#show();
    this.#list.scrollToEnd();
  }

  async #loadOlder(): Promise<void> {
    if (this.#loadingOlder || this.#conversation === undefined) return;
    this.#loadingOlder = true;
    this.#olderFailed = false;
    this.#show();
    try {
      await this.#conversation.loadOlder();
    } catch {
      this.#olderFailed = true;
    }
    this.#loadingOlder = false;
    this.#show();
  }

  #show(): void {
    const { client, peer } = this.options;
    const conversation = this.#conversation;
    const isReady = conversation ? conversation.isLoaded : client.hasConversations;
    const placed = [
      ...(conversation?.messages ?? []),
      // Ours are durable and were on the screen before: they must not vanish while a hole is being filled.
      ...(conversation?.heldBack ?? []).filter(({ senderId }) => senderId === client.userId),
    ].map((message) => fromMessage(message, client.userId));
    const known = new Set(placed.map(({ key }) => key));
    const unsent = client.unsent
      .filter(({ target }) => target.recipientId === peer || (conversation && target.conversationId === conversation.conversationId))
      .map((entry) => fromOutbox(entry, client.userId, peer))
      .filter(({ key }) => !known.has(key));
    const models = [...placed, ...unsent];
    this.#list.render(models, this.#top(isReady));
    this.#empty.hidden = !isReady || models.length > 0;
    this.element.dataset.loaded = String(isReady);
    this.#showNotice(conversation, unsent.some(({ status }) => status === "sending"));
    this.#markRead();
  }

  #top(isReady: boolean): ListTop {
    if (!isReady || this.#loadingOlder) return "loading";
    if (this.#olderFailed) return "failed";
    return this.#conversation === undefined || this.#conversation.reachedStart ? "start" : "more";
  }

  #showNotice(conversation: Conversation | undefined, hasUnsent: boolean): void {
    let words = "";
    if (!this.#online && hasUnsent) words = "No connection right now. Your messages will go out as soon as it is back.";
    else if (!this.#online) words = "No connection right now. You can keep writing.";
    else if (conversation?.isBehind) words = "Some messages can’t be loaded right now. Trying again…";
    setText(this.#notice, words);
    this.#notice.hidden = words === "";
  }

  #markRead(): void {
    const conversation = this.#conversation;
    if (conversation === undefined || document.visibilityState !== "visible" || !this.#list.isAtEnd) return;
    const newest = conversation.messages.findLast(({ senderId }) => senderId === this.options.peer);
    if (newest) this.options.client.markRead(conversation.conversationId, newest.messageId);
  }

  #announce(text: string): void {
    setText(this.#announcer, `${displayName(this.options.peer)}: ${text}`);
  }
}

function emptyState(peer: string): HTMLElement {
  return el(
    "div",
    { class: "empty", hidden: true, "data-testid": "empty-state" },
    el("span", { class: "empty-art" }, icon("chat")),
    el("h3", {}, `Say hello to ${displayName(peer)}`),
    el("p", {}, "There are no messages here yet. What you write below starts the conversation."),
  );
}
