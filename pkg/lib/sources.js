// From what a caller names (URL, Blob, bytes) to what the worker takes: bytes, or an image that is streamed.
import { Tab86Error } from "./errors.js";
import { CHUNK } from "./rings.js";

/** @typedef {import("../tab86.js").Source} Source */
/** @typedef {import("./protocol.js").ImageSetup} ImageSetup */

/** Images up to here are loaded whole: sooner there than in pieces. */
const WHOLE_LIMIT = 4 << 20;
/** The largest image that is downloaded whole because the server can't give parts of it. */
const DOWNLOAD_LIMIT = 700 << 20;

/** What a source is called in messages. @param {Source} source */
export function describe(source) {
  if (typeof source === "string") return source.length > 80 ? `${source.slice(0, 77)}…` : source;
  if (source instanceof URL) return source.href;
  if (typeof File !== "undefined" && source instanceof File) return source.name;
  return "the given data";
}

/** @param {string} role @param {Source} source */
const named = (role, source) => `The ${role} (${describe(source)})`;

/** @param {string} role @param {Source} source */
function empty(role, source) {
  return new Tab86Error("empty-image", `${named(role, source)} is empty: choose another file.`);
}

/** @param {string} role @param {unknown} source */
function wrongType(role, source) {
  return new Tab86Error("bad-options", `The ${role} must be a URL, a Blob, an ArrayBuffer or a Uint8Array, not ${source === null ? "null" : typeof source}.`);
}

/** @param {Source} source @returns {Uint8Array<ArrayBuffer> | null} a copy: the caller keeps his */
function bytesOf(source) {
  if (source instanceof ArrayBuffer) return new Uint8Array(source.slice(0));
  if (source instanceof Uint8Array) return new Uint8Array(source);
  return null;
}

/** @param {string} role @param {string | URL} url @param {RequestInit} [init] */
async function request(role, url, init) {
  let address;
  try {
    address = new URL(url, document.baseURI);
  } catch {
    throw new Tab86Error("bad-options", `${named(role, url)} has no valid address.`);
  }
  let response;
  try {
    response = await fetch(address, init);
  } catch {
    throw new Tab86Error("network", `${named(role, url)} could not be loaded: the server does not answer, or does not allow this page to read it.`);
  }
  if (response.status === 404 || response.status === 410) {
    throw new Tab86Error("not-found", `${named(role, url)} does not exist on the server: check the address.`);
  }
  // 416: asked for a part of an empty file.
  if (response.status === 416) throw empty(role, url);
  if (!response.ok) {
    throw new Tab86Error("http", `${named(role, url)} could not be loaded: the server answered ${response.status} ${response.statusText}.`.replace(" .", "."));
  }
  return { response, address: address.href };
}

/** @param {string} role @param {string | URL} url @param {Response} response */
async function body(role, url, response) {
  try {
    return new Uint8Array(await response.arrayBuffer());
  } catch {
    throw new Tab86Error("network", `${named(role, url)} broke off while it was loaded: try again.`);
  }
}

/**
 * The whole of a source, for firmware and kernels.
 * @param {string} role @param {Source} source
 */
export async function readWhole(role, source) {
  let bytes = bytesOf(source);
  if (source instanceof Blob) bytes = await readBlob(role, source);
  else if (typeof source === "string" || source instanceof URL) {
    bytes = await body(role, source, (await request(role, source)).response);
  }
  if (!bytes) throw wrongType(role, source);
  if (bytes.length === 0) throw empty(role, source);
  return bytes;
}

/** @param {string} role @param {Blob} blob */
async function readBlob(role, blob) {
  try {
    return new Uint8Array(await blob.arrayBuffer());
  } catch {
    throw new Tab86Error("not-found", `${named(role, blob)} cannot be read: it was changed or removed since it was chosen.`);
  }
}

/**
 * A disk's image: whole when it is small (or must be), streamed otherwise.
 * @param {string} role @param {Source} source
 * @param {{ whole: boolean, cdrom: boolean, readOnly: boolean }} how
 * @returns {Promise<ImageSetup>}
 */
export async function openImage(role, source, { whole, cdrom, readOnly }) {
  const image = await locate(role, source, whole);
  const size = "data" in image ? image.data.length : image.size;
  if (size === 0) throw empty(role, source);
  if (cdrom) await checkIso(role, source, image, size);
  return { ...image, readOnly };
}

/** @param {string} role @param {Source} source @param {boolean} whole @returns {Promise<ImageSetup>} */
async function locate(role, source, whole) {
  if (typeof source === "string" || source instanceof URL) return locateUrl(role, source, whole);
  if (source instanceof Blob) {
    if (whole || source.size <= WHOLE_LIMIT) return { data: await readBlob(role, source) };
    return { size: source.size, blob: source };
  }
  const bytes = bytesOf(source);
  if (!bytes) throw wrongType(role, source);
  return whole || bytes.length <= WHOLE_LIMIT ? { data: bytes } : { size: bytes.length, blob: new Blob([bytes]) };
}

/** @param {string} role @param {string | URL} url @param {boolean} whole @returns {Promise<ImageSetup>} */
async function locateUrl(role, url, whole) {
  if (whole) return { data: await readWhole(role, url) };
  const { response, address } = await request(role, url, { headers: { Range: `bytes=0-${CHUNK - 1}` } });
  const total = /^bytes 0-\d+\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "");
  if (response.status === 206 && total) {
    const size = Number(total[1]);
    const first = await body(role, url, response);
    if (first.length === size) return { data: first };
    return size <= WHOLE_LIMIT ? { data: await readWhole(role, url) } : { size, url: address };
  }
  // No Range: everything or nothing.
  const length = Number(response.headers.get("Content-Length") ?? 0);
  if (length > DOWNLOAD_LIMIT) {
    response.body?.cancel();
    throw new Tab86Error("too-large", `${named(role, url)} has ${Math.ceil(length / (1 << 20))} MiB and its server cannot send it in parts (HTTP Range): download it and open the file, or use a server with Range.`);
  }
  return fromWhole(await body(role, url, response));
}

/** @param {Uint8Array<ArrayBuffer>} bytes @returns {ImageSetup} */
function fromWhole(bytes) {
  // Outside the machine's memory, which has better uses.
  return bytes.length <= WHOLE_LIMIT ? { data: bytes } : { size: bytes.length, blob: new Blob([bytes]) };
}

/** Position of the ISO 9660 primary volume descriptor, and of the volume's size in it (ECMA-119, 8.4.8). */
const DESCRIPTOR = 16 * 2048;
const VOLUME_SPACE_SIZE = 80;

/** A CD image must be as long as its file system says. @param {string} role @param {Source} source @param {ImageSetup} image @param {number} size */
async function checkIso(role, source, image, size) {
  const descriptor = await readSome(image, DESCRIPTOR, 2048);
  if (descriptor.length < 2048 || String.fromCharCode(...descriptor.subarray(0, 6)) !== "\x01CD001") return;
  const sectors = new DataView(descriptor.buffer, descriptor.byteOffset).getUint32(VOLUME_SPACE_SIZE, true);
  if (sectors * 2048 > size) {
    throw new Tab86Error("truncated", `${named(role, source)} is truncated: its file system has ${sectors * 2048} bytes, but the file only ${size}. Download it again.`);
  }
}

/** @param {ImageSetup} image @param {number} offset @param {number} length */
async function readSome(image, offset, length) {
  if ("data" in image) return image.data.subarray(offset, offset + length);
  if (image.blob) return new Uint8Array(await image.blob.slice(offset, offset + length).arrayBuffer());
  const response = await fetch(/** @type {string} */ (image.url), { headers: { Range: `bytes=${offset}-${offset + length - 1}` } });
  return response.status === 206 ? new Uint8Array(await response.arrayBuffer()) : new Uint8Array(0);
}
