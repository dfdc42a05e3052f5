import { el, icon, once, setText } from "./dom.js";
import { dayKey, dayLabel } from "./format.js";
import { type MessageModel, MessageRow, type RowActions } from "./message-row.js";

type Unplaced = Omit<MessageModel, "startsRun" | "endsRun">;

/** What stands above the oldest message. */
export type ListTop = "start" | "more" | "loading" | "failed";

export interface MessageListOptions extends RowActions {
  readonly label: string;
  readonly onWantOlder: () => void;
  /** The reader has the newest message in view. */
  readonly onAtEnd: () => void;
}

const RUN_MS = 5 * 60 * 1000;
const WANT_OLDER_PX = 300;
const END_SLACK_PX = 60;

/** The scrolling list: stays at the end while the reader is there, and else where the reader is. */
export class MessageList {
  readonly element: HTMLElement;
  #scroller: HTMLElement;
  #rows = el("ol", { class: "rows" });
  #top = el("div", { class: "list-top", "data-testid": "list-top" });
  #jump: HTMLButtonElement;
  #jumpLabel = el("span");
  #views = new Map<string, { element: HTMLElement; row?: MessageRow }>();
  #atEnd = true;
  #notedTop = 0;
  #unseen = 0;
  #received = 0;
  #topState: ListTop | undefined;

  constructor(private readonly options: MessageListOptions) {
    this.#scroller = el("div", { class: "scroller", tabindex: 0, role: "region", "aria-label": options.label });
    this.#scroller.dataset.testid = "message-scroller";
    this.#scroller.append(this.#top, this.#rows);
    this.#jump = el("button", { type: "button", class: "jump", hidden: true, "data-testid": "jump-to-end" }, icon("down"), this.#jumpLabel);
    this.#jump.addEventListener("click", () => this.scrollToEnd());
    this.element = el("div", { class: "message-list" }, this.#scroller, this.#jump);
    this.#scroller.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    const settle = once(() => this.#atEnd && this.scrollToEnd());
    // The pane gets smaller when a phone's keyboard opens or the composer grows.
    new ResizeObserver(settle).observe(this.#scroller);
  }

  get isAtEnd(): boolean {
    return this.#atEnd && this.#scroller.clientHeight > 0;
  }

  scrollToEnd(): void {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#onScroll();
  }

  render(models: readonly Unplaced[], top: ListTop): void {
    // A scroll takes effect at once, its event comes with the next frame: what is drawn in between must not undo it.
    if (this.#scroller.scrollTop !== this.#notedTop) this.#notePosition();
    const anchor = this.#atEnd ? undefined : this.#firstVisible();
    this.#renderTop(top, models.length === 0);
    this.#reconcile(models);
    this.#countUnseen(models);
    if (anchor === undefined) this.scrollToEnd();
    else this.#scroller.scrollTop += anchor.element.getBoundingClientRect().top - anchor.top;
    this.#wantOlder();
  }

  #reconcile(models: readonly Unplaced[]): void {
    const wanted = new Set<string>();
    let cursor = this.#rows.firstElementChild;
    const place = (key: string, make: () => { element: HTMLElement; row?: MessageRow }): void => {
      wanted.add(key);
      const view = this.#views.get(key) ?? make();
      this.#views.set(key, view);
      if (view.element === cursor) cursor = cursor.nextElementSibling;
      else this.#rows.insertBefore(view.element, cursor);
    };
    models.forEach((model, index) => {
      const before = models[index - 1];
      const newDay = before === undefined || dayKey(before.timestamp) !== dayKey(model.timestamp);
      if (newDay) place(`day/${dayKey(model.timestamp)}`, () => ({ element: daySeparator(model.timestamp) }));
      const placed: MessageModel = {
        ...model,
        startsRun: newDay || !isRun(before, model),
        endsRun: !isRun(model, models[index + 1]),
      };
      place(model.key, () => {
        const row = new MessageRow(placed, this.options);
        return { element: row.element, row };
      });
      this.#views.get(model.key)?.row?.update(placed);
    });
    for (const [key, view] of this.#views) {
      if (wanted.has(key)) continue;
      view.element.remove();
      this.#views.delete(key);
    }
  }

  #renderTop(state: ListTop, isEmpty: boolean): void {
    this.#top.hidden = state === "start" && isEmpty;
    if (state === this.#topState) return;
    this.#topState = state;
    this.#top.dataset.status = state;
    if (state === "start") this.#top.replaceChildren("This is the beginning of your conversation");
    else if (state === "failed") {
      const again = el("button", { type: "button", class: "link" }, "Try again");
      again.addEventListener("click", () => this.options.onWantOlder());
      this.#top.replaceChildren("Earlier messages could not be loaded. ", again);
    } else this.#top.replaceChildren(el("span", { class: "spinner" }), "Loading earlier messages…");
  }

  #countUnseen(models: readonly Unplaced[]): void {
    const newest = models.reduce((seq, model) => (model.isMine ? seq : Math.max(seq, model.seq ?? 0)), 0);
    if (!this.#atEnd && newest > this.#received) {
      this.#unseen += models.filter((model) => !model.isMine && (model.seq ?? 0) > this.#received).length;
    }
    this.#received = newest;
    this.#showJump();
  }

  #notePosition(): void {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    // A pane that is not shown has no size; it knows nothing about where its reader is.
    if (clientHeight === 0) return;
    this.#notedTop = scrollTop;
    this.#atEnd = scrollHeight - scrollTop - clientHeight < END_SLACK_PX;
  }

  #onScroll(): void {
    if (this.#scroller.clientHeight === 0) return;
    this.#notePosition();
    if (this.#atEnd) {
      this.#unseen = 0;
      this.options.onAtEnd();
    }
    this.#showJump();
    this.#wantOlder();
  }

  #wantOlder(): void {
    if (this.#topState !== "more" || this.#scroller.clientHeight === 0) return;
    if (this.#scroller.scrollTop < WANT_OLDER_PX) this.options.onWantOlder();
  }

  #showJump(): void {
    this.#jump.hidden = this.#atEnd;
    const words = this.#unseen === 0 ? "Latest" : this.#unseen === 1 ? "1 new message" : `${this.#unseen} new messages`;
    setText(this.#jumpLabel, words);
  }

  #firstVisible(): { element: Element; top: number } | undefined {
    const edge = this.#scroller.getBoundingClientRect().top;
    for (const element of this.#rows.children) {
      const box = element.getBoundingClientRect();
      if (box.bottom > edge) return { element, top: box.top };
    }
    return undefined;
  }
}

function isRun(before: Unplaced | undefined, after: Unplaced | undefined): boolean {
  if (before === undefined || after === undefined || before.isMine !== after.isMine) return false;
  if (before.status === "failed" || dayKey(before.timestamp) !== dayKey(after.timestamp)) return false;
  return Date.parse(after.timestamp) - Date.parse(before.timestamp) < RUN_MS;
}

function daySeparator(timestamp: string): HTMLElement {
  return el("li", { class: "day" }, el("span", {}, dayLabel(timestamp)));
}
