import type { MessagingClient } from "../src/index.js";
import { ChatView } from "./chat-view.js";
import { el, setAttribute } from "./dom.js";
import { displayName } from "./people.js";
import { viewSwitch } from "./view-switch.js";

/** Two users with independent clients: next to each other, or behind two tabs on a phone. */
export function showSideBySide(app: HTMLElement, clients: readonly [MessagingClient, MessagingClient]): void {
  const [left, right] = clients;
  const shell = el("div", { class: "shell side-by-side" });
  const tabs = el("div", { class: "tabs", role: "group", "aria-label": "Whose messages to show" });
  const panes = [pane(left, right.userId), pane(right, left.userId)];

  const show = (userId: string): void => {
    shell.dataset.shown = userId;
    for (const each of panes) {
      setAttribute(each.element, "data-shown", each.userId === userId);
      setAttribute(each.tab, "aria-pressed", String(each.userId === userId));
      if (each.userId === userId) each.chat.shown();
      each.refreshBadge();
    }
  };
  for (const each of panes) {
    each.tab.addEventListener("click", () => show(each.userId));
    tabs.append(each.tab);
  }
  const header = el("header", { class: "demo-header" }, el("h1", {}, "Messages"), viewSwitch("both"));
  shell.append(header, tabs, el("main", { class: "panes" }, ...panes.map(({ element }) => element)));
  app.replaceChildren(shell);
  document.title = `${displayName(left.userId)} and ${displayName(right.userId)} · Messages`;
  show(left.userId);
}

function pane(client: MessagingClient, peer: string) {
  const { userId } = client;
  const badge = el("span", { class: "badge", hidden: true });
  const tab = el("button", { type: "button", class: "tab" }, `As ${displayName(userId)}`, badge);
  const refreshBadge = (): void => {
    const unread = client.conversationWith(peer)?.unreadCount ?? 0;
    badge.hidden = unread === 0;
    badge.textContent = String(unread);
  };
  const chat = new ChatView({ client, peer });
  client.on("conversations", refreshBadge);
  const element = el("div", { class: "pane", "data-testid": "pane", "data-user": userId }, chat.element);
  return { userId, chat, tab, element, refreshBadge };
}
