// Cross-origin isolation for pages whose server sends no headers: by a service worker that adds them.

/** How long the service worker may take to begin. */
const READY_MS = 5_000;
/** @param {number} ms @returns {Promise<null>} */
const after = (ms) => new Promise((resolve) => setTimeout(resolve, ms, null));
/** Set while the page is loaded again, so that a browser that refuses is not asked for ever. */
const TRIED = "tab86-isolation";

/**
 * Isolates the page if it is not: registers the service worker and loads the page again, once.
 * @param {string | URL} script address of isolation-worker.js, which can only isolate pages in its folder and below
 * @returns {Promise<boolean>} false when the page stays as it is; otherwise it is about to be loaded again
 */
export async function isolate(script) {
  if (globalThis.crossOriginIsolated) {
    sessionStorage.removeItem(TRIED);
    return false;
  }
  if (!globalThis.isSecureContext || !navigator.serviceWorker || sessionStorage.getItem(TRIED)) return false;
  try {
    const registration = await navigator.serviceWorker.register(script);
    const ready = registration && (await Promise.race([navigator.serviceWorker.ready, after(READY_MS)]));
    if (!ready) return false;
  } catch {
    // The browser or the site allows none: machines use messages.
    return false;
  }
  sessionStorage.setItem(TRIED, "1");
  location.reload();
  return true;
}
