import type { ConversationSummary, MessagingClient } from "../src/index.js";
import { connectionPill } from "./connection-pill.js";
import { el, once, setAttribute } from "./dom.js";
import { listTime } from "./format.js";
import { avatar, DEMO_USERS, displayName } from "./people.js";
import { presenceDot } from "./presence-line.js";
import { viewSwitch } from "./view-switch.js";

export interface SidebarOptions {
  readonly client: MessagingClient;
  readonly onChoose: (peer: string) => void;
}

interface Contact {
  readonly peer: string;
  readonly summary?: ConversationSummary;
}

/** Whom to write to: conversations first, latest activity on top, then the other people. */
export class Sidebar {
  readonly element: HTMLElement;
  #items = el("ul", { class: "contacts", "data-testid": "contact-list" });
  #chosen: string | undefined;
  readonly refresh = once(() => this.#show());

  constructor(private readonly options: SidebarOptions) {
    const { client } = options;
    const name = displayName(client.userId);
    const header = el("header", { class: "sidebar-header" }, avatar(client.userId));
    header.append(el("div", { class: "names" }, el("h1", {}, name), el("p", {}, "Your messages")), connectionPill(client, () => undefined).element);
    const nav = el("nav", { "aria-label": "Conversations" }, this.#items);
    this.element = el("aside", { class: "sidebar" }, header, nav, viewSwitch(client.userId));
    client.on("conversations", this.refresh);
    for (const event of ["message", "status", "typing", "presence"] as const) client.on(event, this.refresh);
    this.#show();
  }

  choose(peer: string | undefined): void {
    this.#chosen = peer;
    this.#show();
  }

  /** Unread messages over all conversations. */
  get unread(): number {
    return this.options.client.conversations.reduce((sum, summary) => sum + summary.unreadCount, 0);
  }

  #show(): void {
    // Rebuilt as a whole: the list is short. The focus must survive it.
    const focused = (document.activeElement as HTMLElement | null)?.closest<HTMLElement>("[data-peer]")?.dataset.peer;
    const hadFocus = this.#items.contains(document.activeElement);
    this.#items.replaceChildren(...this.#contacts().map((contact) => this.#item(contact)));
    if (hadFocus) this.#items.querySelector<HTMLElement>(`[data-peer="${CSS.escape(focused ?? "")}"] button`)?.focus();
    document.title = `${this.unread > 0 ? `(${this.unread}) ` : ""}${displayName(this.options.client.userId)} · Messages`;
  }

  #contacts(): Contact[] {
    const { client } = this.options;
    const seen = new Set<string>([client.userId]);
    const contacts: Contact[] = [];
    for (const summary of client.conversations) {
      const peer = summary.participantIds.find((id) => id !== client.userId);
      if (peer === undefined || seen.has(peer)) continue;
      seen.add(peer);
      contacts.push({ peer, summary });
    }
    for (const peer of DEMO_USERS) if (!seen.has(peer)) contacts.push({ peer });
    return contacts;
  }

  #item({ peer, summary }: Contact): HTMLElement {
    const { client } = this.options;
    const last = summary?.lastMessage;
    const unread = summary?.unreadCount ?? 0;
    const isTyping = summary !== undefined && client.typingIn(summary.conversationId).includes(peer);
    const words = last ? (last.senderId === client.userId ? `You: ${last.text}` : last.text) : "No messages yet";
    const button = el(
      "button",
      { type: "button", class: "contact", "data-testid": "contact", "data-user": peer },
      avatar(peer, presenceDot(client, peer)),
      el("span", { class: "contact-name" }, displayName(peer)),
      el("span", { class: "contact-time" }, last ? listTime(last.timestamp) : ""),
      el("span", { class: previewClass(isTyping, last !== undefined && last !== null), dir: "auto", "data-testid": "contact-preview" }, isTyping ? "typing…" : words),
      unread > 0 && el("span", { class: "badge", "data-testid": "unread-badge", "aria-label": `${unread} unread` }, String(unread)),
    );
    setAttribute(button, "aria-current", this.#chosen === peer ? "true" : undefined);
    button.addEventListener("click", () => this.options.onChoose(peer));
    return el("li", { "data-peer": peer }, button);
  }
}

function previewClass(isTyping: boolean, hasMessages: boolean): string {
  if (isTyping) return "contact-preview typing";
  return hasMessages ? "contact-preview" : "contact-preview quiet";
}
