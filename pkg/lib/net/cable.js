// What a machine's card can be plugged into.

/**
 * @typedef {object} Cable
 * @property {(frame: Uint8Array) => void} send a frame from the machine; the cable may keep the array
 * @property {number} dropped frames that could not be carried
 * @property {() => void} close
 *
 * @typedef {"up" | "connecting" | "down"} LinkState
 */
export {};
