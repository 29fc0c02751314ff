/** The service worker: it keeps the page for use without a network, and makes threads possible. */

const TRIED = "isolation was tried";
const LONGEST_WAIT = 15_000; // ms, for its small files on a slow connection

/** Register it; true if the page loads again, so that the worker can add the isolation headers. */
export async function isolate(): Promise<boolean> {
  if (!navigator.serviceWorker) return false;
  try {
    await navigator.serviceWorker.register("sw.js");
    if (crossOriginIsolated || sessionStorage.getItem(TRIED)) return false;
    const waited = new Promise((resolve) => setTimeout(resolve, LONGEST_WAIT));
    await Promise.race([navigator.serviceWorker.ready, waited]);
    sessionStorage.setItem(TRIED, "yes");
    location.reload();
    return true;
  } catch {
    return false; // the page works without it
  }
}
