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
