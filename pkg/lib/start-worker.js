// Starts a module worker, also from another origin.

/** @param {URL} address @param {string} name */
export function startWorker(address, name) {
  if (address.origin === location.origin) return new Worker(address, { type: "module", name });
  // A page may not start another origin's script as a worker, but its worker may import it.
  const text = `import ${JSON.stringify(address.href)};`;
  const local = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  const worker = new Worker(local, { type: "module", name });
  worker.addEventListener("message", () => URL.revokeObjectURL(local), { once: true });
  return worker;
}
