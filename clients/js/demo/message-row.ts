import type { Message, OutboxEntry } from "../src/index.js";
import { el, icon, setAttribute, setText } from "./dom.js";
import { refusalInWords, timeOfDay } from "./format.js";

export type RowStatus = "received" | "sending" | "sent" | "delivered" | "read" | "failed";

/** One line of the conversation as it is to be shown. */
export interface MessageModel {
  readonly kind: "message";
  /** The same before and after the message was acknowledged, so that its row stays in place. */
  readonly key: string;
  readonly isMine: boolean;
  readonly text: string;
  readonly timestamp: string;
  readonly status: RowStatus;
  readonly seq?: number;
  readonly clientMessageId: string;
  readonly refusal?: string;
  /** First and last of a run of messages by one author. */
  readonly startsRun: boolean;
  readonly endsRun: boolean;
}

export interface RowActions {
  retry(clientMessageId: string): void;
  discard(clientMessageId: string): void;
}

const STATUS_ICONS: Readonly<Record<RowStatus, string | undefined>> = {
  received: undefined,
  sending: "clock",
  sent: "tick",
  delivered: "ticks",
  read: "ticks",
  failed: "alert",
};

const STATUS_WORDS: Readonly<Record<RowStatus, string>> = {
  received: "",
  sending: "Sending",
  sent: "Sent",
  delivered: "Delivered",
  read: "Read",
  failed: "Not sent",
};

const ONLY_EMOJI = /^(?:\p{Extended_Pictographic}(?:\p{Emoji_Modifier}|\uFE0F|\u200D\p{Extended_Pictographic})*){1,3}$/u;

type Unplaced = Omit<MessageModel, "startsRun" | "endsRun">;

export function fromMessage(message: Message, userId: string): Unplaced {
  const isMine = message.senderId === userId;
  return {
    kind: "message",
    key: `${message.senderId}/${message.clientMessageId}`,
    isMine,
    text: message.text,
    timestamp: message.timestamp,
    status: isMine ? (message.status.toLowerCase() as RowStatus) : "received",
    seq: message.seq,
    clientMessageId: message.clientMessageId,
  };
}

export function fromOutbox(entry: OutboxEntry, userId: string, peer: string): Unplaced {
  return {
    kind: "message",
    key: `${userId}/${entry.clientMessageId}`,
    isMine: true,
    text: entry.text,
    timestamp: entry.createdAt,
    status: entry.status,
    clientMessageId: entry.clientMessageId,
    ...(entry.error && { refusal: refusalInWords(entry.error, peer) }),
  };
}

/** One message's elements; `update` changes only what differs. */
export class MessageRow {
  readonly element: HTMLElement;
  #time = el("time");
  #tick = el("span", { class: "tick" });
  #problem: HTMLElement | undefined;
  #status: RowStatus | undefined;

  constructor(
    model: MessageModel,
    private readonly actions: RowActions,
  ) {
    const text = el("span", { class: "text", dir: "auto", "data-testid": "message-text" }, model.text);
    const meta = el("span", { class: "meta" }, this.#time, model.isMine && this.#tick);
    const bubble = el("div", { class: ONLY_EMOJI.test(model.text) ? "bubble bubble-emoji" : "bubble" }, text, meta);
    this.element = el("li", { class: model.isMine ? "row mine" : "row theirs", "data-testid": "message" }, bubble);
    this.element.dataset.clientMessageId = model.clientMessageId;
    this.update(model);
  }

  update(model: MessageModel): void {
    setAttribute(this.element, "data-status", model.status);
    setAttribute(this.element, "data-seq", model.seq);
    setAttribute(this.element, "data-starts-run", model.startsRun);
    setAttribute(this.element, "data-ends-run", model.endsRun);
    setAttribute(this.#time, "datetime", model.timestamp);
    setText(this.#time, timeOfDay(model.timestamp));
    if (model.status !== this.#status) this.#showStatus(model);
  }

  #showStatus(model: MessageModel): void {
    this.#status = model.status;
    const name = STATUS_ICONS[model.status];
    if (name !== undefined) {
      const words = STATUS_WORDS[model.status];
      this.#tick.title = words;
      this.#tick.replaceChildren(icon(name), el("span", { class: "visually-hidden" }, words));
    }
    this.#problem?.remove();
    this.#problem = model.status === "failed" ? this.#refusal(model) : undefined;
    if (this.#problem) this.element.append(this.#problem);
  }

  #refusal(model: MessageModel): HTMLElement {
    const retry = el("button", { type: "button", class: "link", "data-testid": "retry" }, "Try again");
    retry.addEventListener("click", () => this.actions.retry(model.clientMessageId));
    const discard = el("button", { type: "button", class: "link", "data-testid": "discard" }, "Delete");
    discard.addEventListener("click", () => this.actions.discard(model.clientMessageId));
    const words = el("span", { "data-testid": "message-error" }, model.refusal ?? "This message was not sent.");
    return el("div", { class: "problem", role: "alert" }, words, el("span", { class: "actions" }, retry, discard));
  }
}
