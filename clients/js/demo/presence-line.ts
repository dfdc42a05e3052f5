import type { MessagingClient, Presence } from "../src/index.js";
import { el, once, setAttribute, setText } from "./dom.js";
import { lastSeenInWords } from "./format.js";
import { displayName } from "./people.js";

/** A dot on somebody's picture: there, away, or nothing. */
export function presenceDot(client: MessagingClient, userId: string): HTMLElement {
  const state = client.presenceOf(userId)?.state ?? "unknown";
  return el("span", { class: "dot", "data-testid": "presence-dot", "data-state": state });
}

/** Whether the other one is there, was there, or is writing: a line in the header and a bubble below the messages. */
export class PresenceLine {
  readonly element = el("p", { class: "presence", "data-testid": "presence" });
  readonly dot: HTMLElement;
  readonly bubble: HTMLElement;
  #stops: (() => void)[];

  constructor(
    private readonly client: MessagingClient,
    private readonly peer: string,
    private readonly conversationId: () => string | undefined,
  ) {
    this.dot = presenceDot(client, peer);
    const dots = [el("i"), el("i"), el("i")];
    this.bubble = el("div", { class: "typing-line", role: "status", "data-testid": "typing" });
    this.bubble.append(el("span", { class: "typing-dots", "aria-hidden": "true" }, ...dots), el("span", {}, `${displayName(peer)} is typing…`));
    const show = once(() => this.#show());
    this.#stops = [client.on("presence", show), client.on("typing", show), client.on("connection", show)];
    this.#show();
  }

  close(): void {
    for (const stop of this.#stops) stop();
  }

  #show(): void {
    const { client, peer } = this;
    const conversationId = this.conversationId();
    const isTyping = conversationId !== undefined && client.typingIn(conversationId).includes(peer);
    const presence = client.presenceOf(peer);
    setAttribute(this.dot, "data-state", presence?.state ?? "unknown");
    setAttribute(this.element, "data-state", isTyping ? "typing" : (presence?.state ?? "unknown"));
    setText(this.element, isTyping ? "typing…" : presenceInWords(presence));
    setAttribute(this.bubble, "data-shown", isTyping);
  }
}

function presenceInWords(presence: Presence | undefined): string {
  if (presence === undefined) return "";
  if (presence.state !== "offline") return presence.state;
  return presence.lastSeenAt === null ? "offline" : lastSeenInWords(presence.lastSeenAt);
}
