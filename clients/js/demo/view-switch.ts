import { el } from "./dom.js";
import { DEMO_USERS, displayName } from "./people.js";

/** Links to the demo's other views; `current` is a user or "both". */
export function viewSwitch(current: string): HTMLElement {
  const link = (name: string, label: string, href: string): HTMLElement =>
    el("a", { href, "aria-current": name === current && "page" }, label);
  return el(
    "nav",
    { class: "view-switch", "aria-label": "Demo views" },
    link("both", "Side by side", "/"),
    ...DEMO_USERS.map((user) => link(user, displayName(user), `/?user=${user}`)),
  );
}
