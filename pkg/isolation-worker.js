// A service worker for sites that cannot set headers: it adds those that isolate a page across origins, so that its
// machines get shared memory. It changes nothing else and stores nothing. isolate() in tab86.js registers it.

self.addEventListener("install", () => void /** @type {any} */ (self).skipWaiting());
self.addEventListener("activate", (event) => /** @type {any} */ (event).waitUntil(/** @type {any} */ (self).clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request, respondWith } = /** @type {any} */ (event);
  // What only the cache may answer is not for the network.
  if (request.cache === "only-if-cached" && request.mode !== "same-origin") return;
  respondWith.call(event, isolated(request));
});

/** @param {Request} request */
async function isolated(request) {
  const response = await fetch(request);
  // An opaque response has no headers to add to.
  if (response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  if (!headers.has("Cross-Origin-Resource-Policy")) headers.set("Cross-Origin-Resource-Policy", "same-origin");
  const { status, statusText } = response;
  // A body belongs to no answer with these.
  const body = [101, 204, 205, 304].includes(status) ? null : response.body;
  return new Response(body, { status, statusText, headers });
}
