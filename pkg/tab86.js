// tab86: an x86 PC in a browser tab. The public API; tab86.d.ts documents it.
import { Pool } from "./lib/pool.js";
import { defineElement } from "./lib/element.js";

export { isolate } from "./lib/isolation.js";
export { connectInput } from "./lib/input.js";
export { Tab86Error } from "./lib/errors.js";

/** @param {import("./tab86.js").PoolOptions} [options] */
export function createPool(options = {}) {
  return Pool.create(options);
}

defineElement(createPool);
