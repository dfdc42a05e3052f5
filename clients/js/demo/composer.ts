import { MAX_TEXT_CHARACTERS } from "../src/index.js";
import { el, icon, setText } from "./dom.js";

const COUNT_FROM = MAX_TEXT_CHARACTERS - 300;

export interface ComposerActions {
  send(text: string): void;
  /** For each key pressed, and when the writer turns away. */
  typing(isTyping: boolean): void;
}

/** Where a message is written: grows with its text, Enter sends, Shift+Enter breaks the line. */
export class Composer {
  readonly element: HTMLFormElement;
  #input: HTMLTextAreaElement;
  #send: HTMLButtonElement;
  #count = el("span", { class: "count", "aria-live": "polite" });

  constructor(
    peerName: string,
    private readonly actions: ComposerActions,
  ) {
    this.#input = el("textarea", {
      rows: 1,
      placeholder: `Message ${peerName}`,
      "aria-label": `Message to ${peerName}`,
      "data-testid": "composer-input",
      enterkeyhint: "send",
      dir: "auto",
    });
    this.#send = el("button", { type: "submit", "aria-label": "Send", title: "Send", "data-testid": "composer-send" }, icon("send"));
    this.element = el("form", { class: "composer" }, el("div", { class: "field" }, this.#input, this.#count), this.#send);
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#input.addEventListener("keydown", (event) => {
      // While an input method composes, Enter chooses a character. On a touch keyboard it breaks the line.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || matchMedia("(pointer: coarse)").matches) return;
      event.preventDefault();
      this.#submit();
    });
    this.#input.addEventListener("input", () => {
      this.#adjust();
      this.actions.typing(this.#input.value.trim() !== "");
    });
    this.#input.addEventListener("blur", () => this.actions.typing(false));
    this.#adjust();
  }

  focus(): void {
    this.#input.focus({ preventScroll: true });
  }

  #submit(): void {
    if (this.#send.disabled) return;
    this.actions.send(this.#input.value.trim());
    this.#input.value = "";
    this.#adjust();
    this.focus();
  }

  #adjust(): void {
    this.#input.style.height = "auto";
    this.#input.style.height = `${this.#input.scrollHeight}px`;
    const characters = [...this.#input.value.trim()].length;
    this.#send.disabled = characters === 0 || characters > MAX_TEXT_CHARACTERS;
    const left = MAX_TEXT_CHARACTERS - characters;
    setText(this.#count, characters > COUNT_FROM ? String(left) : "");
    this.#count.classList.toggle("over", left < 0);
  }
}
