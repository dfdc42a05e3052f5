/**
 * Calls `wake` whenever the browser says that now is a good moment to reconnect:
 * the network is back, or the page is shown again. Does nothing elsewhere.
 *
 * Returns the function that stops it.
 */
export function onWakeUp(wake: () => void): () => void {
  if (typeof window === "undefined") return () => undefined;
  const onVisible = (): void => {
    if (document.visibilityState === "visible") wake();
  };
  window.addEventListener("online", wake);
  document.addEventListener("visibilitychange", onVisible);
  return () => {
    window.removeEventListener("online", wake);
    document.removeEventListener("visibilitychange", onVisible);
  };
}

/** Calls `leave` when the user turns away from the window. Does nothing outside of a browser. */
export function onBlur(leave: () => void): () => void {
  if (typeof window === "undefined") return () => undefined;
  window.addEventListener("blur", leave);
  window.addEventListener("pagehide", leave);
  return () => {
    window.removeEventListener("blur", leave);
    window.removeEventListener("pagehide", leave);
  };
}
