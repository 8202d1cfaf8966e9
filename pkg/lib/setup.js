// What is in a MachineSetup besides plain values.

/** Properties that hold images, in the order in which the machine numbers its streams (web/src/config.rs). */
const IMAGES = /** @type {const} */ (["fda", "fdb", "hda", "hdb", "cdrom"]);

/** @param {import("./protocol.js").MachineSetup} setup @returns {import("./protocol.js").StreamedImage[]} */
export function streamsOf(setup) {
  const streamed = IMAGES.map((name) => setup[name]).filter((image) => image && !("data" in image));
  return /** @type {import("./protocol.js").StreamedImage[]} */ (streamed);
}

/** The buffers that move to the worker instead of being copied. @param {import("./protocol.js").MachineSetup} setup @returns {Transferable[]} */
export function transferOf(setup) {
  const values = Object.values(setup).map((value) => (value && typeof value === "object" && "data" in value ? value.data : value));
  const buffers = values.filter((value) => value instanceof Uint8Array).map((value) => value.buffer);
  return [...new Set(buffers)];
}
