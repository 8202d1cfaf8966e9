// "Open your own image": files by picker or drag and drop, a guess what each is, and a dialog to correct it.
import { element } from "./elements.js";
import { size } from "./sizes.js";

/** @typedef {import("/pkg/tab86.js").VmOptions} VmOptions */

const ROLES = /** @type {const} */ ({
  fda: "Floppy disk",
  cdrom: "CD",
  hda: "Hard disk",
  kernel: "Linux kernel",
  initrd: "Initial RAM disk",
  multiboot: "Multiboot kernel",
});

/** @typedef {keyof typeof ROLES} Role */

/** Sizes of whole floppies: 160 K to 2.88 M. */
const FLOPPIES = [160, 180, 320, 360, 720, 1200, 1440, 1680, 1722, 2880].map((kib) => kib * 1024);
/** Where each kind of file shows what it is. */
const ISO_MAGIC = 0x8001;
const LINUX_MAGIC = 0x202;
const MULTIBOOT_MAGIC = 0x1badb002;
const MULTIBOOT_SEARCH = 8192;

/** @param {File} file @returns {Promise<Role>} */
export async function guessRole(file) {
  const head = new Uint8Array(await file.slice(0, ISO_MAGIC + 5).arrayBuffer());
  const text = (/** @type {number} */ at, /** @type {number} */ length) => String.fromCharCode(...head.subarray(at, at + length));
  if (text(ISO_MAGIC, 5) === "CD001" || /\.iso$/i.test(file.name)) return "cdrom";
  if (text(LINUX_MAGIC, 4) === "HdrS") return "kernel";
  if (FLOPPIES.includes(file.size)) return "fda";
  const words = new DataView(head.buffer, 0, Math.min(head.length, MULTIBOOT_SEARCH) & ~3);
  for (let at = 0; at < words.byteLength; at += 4) if (words.getUint32(at, true) === MULTIBOOT_MAGIC) return "multiboot";
  const compressed = head[0] === 0x1f && head[1] === 0x8b;
  if (compressed || text(0, 5) === "07070" || /initr(d|amfs)/i.test(file.name)) return "initrd";
  if (/^(vmlinu|bzimage)/i.test(file.name)) return "kernel";
  return /\.(ima?|flp|vfd)$/i.test(file.name) && file.size <= 2880 * 1024 ? "fda" : "hda";
}

/** @typedef {(options: VmOptions, names: string[]) => void} Boot gets the machine and the names of its files */

/**
 * @param {Boot} boot @param {(error: unknown) => void} fail
 * @returns {(once: Boot) => void} opens the file picker; what is chosen then goes to `once`
 */
export function setUpOwnImage(boot, fail) {
  const input = element("files", HTMLInputElement);
  /** @type {Boot | null} */ let next = null;
  input.addEventListener("change", () => {
    const files = [...(input.files ?? [])];
    // Choosing the same file again is a change, too.
    input.value = "";
    const to = next ?? boot;
    next = null;
    ask(files, to).catch(fail);
  });
  input.addEventListener("cancel", () => (next = null));
  setUpDrop((files) => ask(files, boot).catch(fail));
  return (once) => {
    next = once;
    input.click();
  };
}

/** @param {(files: File[]) => void} dropped */
function setUpDrop(dropped) {
  const root = document.documentElement;
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    root.classList.add("dragging");
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && root.classList.remove("dragging"));
  addEventListener("drop", (event) => {
    root.classList.remove("dragging");
    if (!hasFiles(event)) return;
    event.preventDefault();
    dropped([...(event.dataTransfer?.files ?? [])]);
  });
}

/** @param {File[]} files @param {Boot} boot */
async function ask(files, boot) {
  if (files.length === 0) return;
  const dialog = element("own-dialog", HTMLDialogElement);
  if (dialog.open) return;
  const roles = await Promise.all(files.map(guessRole));
  const selects = files.map((file, i) => fileRow(file, roles[i]));
  const rows = element("own-files", HTMLDivElement);
  rows.replaceChildren(...selects.map(({ row }) => row));
  const showCmdline = () => {
    element("own-cmdline-row", HTMLLabelElement).hidden = !selects.some(({ select }) => ["kernel", "multiboot"].includes(select.value));
  };
  rows.onchange = showCmdline;
  showCmdline();
  dialog.onclose = () => {
    if (dialog.returnValue !== "boot") return;
    boot(collect(files, selects.map(({ select }) => /** @type {Role} */ (select.value))), files.map(({ name }) => name));
  };
  dialog.returnValue = "";
  dialog.showModal();
  dialog.querySelector("select")?.focus();
}

/** @param {File} file @param {Role} role */
function fileRow(file, role) {
  const row = document.createElement("label");
  row.className = "row";
  const name = document.createElement("span");
  const bytes = document.createElement("small");
  bytes.textContent = ` ${size(file.size)}`;
  name.append(file.name, bytes);
  const select = document.createElement("select");
  select.append(...Object.entries(ROLES).map(([value, title]) => new Option(title, value, value === role, value === role)));
  row.append(name, select);
  return { row, select };
}

/** @param {File[]} files @param {Role[]} roles @returns {VmOptions} */
function collect(files, roles) {
  /** @type {VmOptions} */
  const options = { memory: Number(element("own-memory", HTMLSelectElement).value) * 2 ** 20 };
  files.forEach((file, i) => {
    // A second floppy or disk goes into the second drive.
    const second = { fda: "fdb", hda: "hdb" };
    const role = roles[i];
    const slot = role in options && role in second ? second[/** @type {"fda" | "hda"} */ (role)] : role;
    Object.assign(options, { [slot]: file });
  });
  if (options.kernel || options.multiboot) options.cmdline = element("own-cmdline", HTMLInputElement).value;
  options.bootOrder = options.fda ? "acd" : options.cdrom ? "dca" : "cad";
  return options;
}

