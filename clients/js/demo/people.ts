import { el } from "./dom.js";

/** The demo's users: Alice and Bob are connected, Bob and Carol are, Alice and Carol are not. */
export const DEMO_USERS: readonly string[] = ["alice", "bob", "carol"];

const HUES: Readonly<Record<string, number>> = { alice: 262, bob: 168, carol: 22 };

export function displayName(userId: string): string {
  return userId.charAt(0).toUpperCase() + userId.slice(1);
}

export function avatar(userId: string, dot?: HTMLElement): HTMLElement {
  const hue = HUES[userId] ?? [...userId].reduce((sum, character) => sum + (character.codePointAt(0) ?? 0) * 37, 0) % 360;
  const element = el("span", { class: "avatar", "aria-hidden": "true" }, displayName(userId).charAt(0));
  element.style.setProperty("--hue", String(hue));
  if (dot) element.append(dot);
  return element;
}
