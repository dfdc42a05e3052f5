import type { MessagingClient } from "../src/index.js";
import { ChatView } from "./chat-view.js";
import { el, icon } from "./dom.js";
import { Sidebar } from "./sidebar.js";

/** One user alone: whom to write to on the left, the conversation on the right; one of the two on a phone. */
export function showOneUser(app: HTMLElement, client: MessagingClient): void {
  const main = el("main", { class: "main" });
  const sidebar = new Sidebar({ client, onChoose: (peer) => go(peer) });
  const shell = el("div", { class: "shell one-user", "data-testid": "pane", "data-user": client.userId }, sidebar.element, main);
  let chat: ChatView | undefined;

  const open = (peer: string | undefined): void => {
    chat?.close();
    chat = peer === undefined ? undefined : new ChatView({ client, peer, onBack: () => go(undefined) });
    main.replaceChildren(chat?.element ?? nothingChosen());
    shell.dataset.open = String(peer !== undefined);
    sidebar.choose(peer);
    chat?.shown();
    if (peer !== undefined && matchMedia("(pointer: fine)").matches) chat?.focus();
  };
  const go = (peer: string | undefined): void => {
    const url = new URL(location.href);
    if (peer === undefined) url.searchParams.delete("with");
    else url.searchParams.set("with", peer);
    history.pushState(null, "", url);
    open(peer);
  };
  const chosen = (): string | undefined => {
    const peer = new URLSearchParams(location.search).get("with");
    return peer === null || peer === client.userId ? undefined : peer;
  };

  addEventListener("popstate", () => open(chosen()));
  app.replaceChildren(shell);
  open(chosen());
}

function nothingChosen(): HTMLElement {
  return el(
    "div",
    { class: "empty", "data-testid": "nothing-chosen" },
    el("span", { class: "empty-art" }, icon("chat")),
    el("h3", {}, "Your conversations"),
    el("p", {}, "Choose someone on the left to read or write messages."),
  );
}
