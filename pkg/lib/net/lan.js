// Local networks by name: one switch for the machines of a page, joined with those of the origin's other pages by a
// BroadcastChannel. v86's "inbrowser" network has the same channel names and messages (one Uint8Array, one frame).
import { Tab86Error } from "../errors.js";
import { isFrame } from "./frames.js";
import { Switch } from "./switch.js";

const CHANNEL = "v86-inbrowser-";
const MAX_NAME = 64;

/** @typedef {{ hub: Switch, channel: BroadcastChannel }} Lan */

/** @type {Map<string, Lan>} */
const lans = new Map();

/** @param {unknown} name @returns {string} */
export function checkLanName(name) {
  const fits = typeof name === "string" && name.trim() !== "" && name.length <= MAX_NAME;
  if (!fits) throw new Tab86Error("bad-options", `\`network.lan\` is a name of 1 to ${MAX_NAME} characters.`);
  return name;
}

/** @param {string} name @returns {Lan} */
function open(name) {
  const hub = new Switch();
  const channel = new BroadcastChannel(CHANNEL + name);
  /** @type {import("./switch.js").SwitchPort} */
  const others = { receive: (frame) => channel.postMessage(frame) };
  hub.plug(others);
  channel.onmessage = ({ data }) => {
    // Any page of the origin can say anything.
    const frame = data instanceof ArrayBuffer ? new Uint8Array(data) : data;
    if (frame instanceof Uint8Array && isFrame(frame)) hub.send(others, frame);
  };
  return { hub, channel };
}

/**
 * Plugs a machine into a network.
 * @param {string} name @param {(frame: Uint8Array) => void} receive takes the frames for the machine
 * @returns {import("./cable.js").Cable}
 */
export function joinLan(name, receive) {
  const lan = lans.get(name) ?? open(name);
  lans.set(name, lan);
  const port = { receive };
  lan.hub.plug(port);
  return {
    send: (frame) => lan.hub.send(port, frame),
    dropped: 0,
    close() {
      lan.hub.unplug(port);
      // What is left is the channel's own port.
      if (lan.hub.size > 1 || lans.get(name) !== lan) return;
      lans.delete(name);
      lan.channel.close();
    },
  };
}
