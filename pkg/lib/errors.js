// Errors of tab86: a `code` for programs, a sentence that a person can act on.

/** An error that a caller can tell apart by its `code`. */
export class Tab86Error extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.name = "Tab86Error";
    this.code = code;
  }
}

/**
 * An error as plain data, to cross between page and worker.
 * @param {unknown} error
 * @returns {{ code: string, message: string }}
 */
export function packError(error) {
  const { code, message } = /** @type {{ code?: unknown, message?: unknown }} */ (Object(error));
  return {
    code: typeof code === "string" ? code : "internal",
    message: typeof message === "string" && message ? message : String(error),
  };
}

/** @param {{ code: string, message: string }} packed */
export function unpackError(packed) {
  return new Tab86Error(packed.code, packed.message);
}
