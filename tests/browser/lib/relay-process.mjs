// The relay itself, as a process on a free port of the loopback interface.
import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";

const TARGET = path.resolve(import.meta.dirname, "../../../target");
const binary = (profile) => path.join(TARGET, profile, "tab86-relay");

export const noRelay = fs.existsSync(binary("debug")) ? false : "there is no relay: run `cargo build -p tab86-relay`";

/** @param {string[]} flags @param {{ port?: number, profile?: string }} [options] */
export async function startRelayProcess(flags, { port = 0, profile = "debug" } = {}) {
  const child = spawn(binary(profile), [`--listen=127.0.0.1:${port}`, "--log-format=json", ...flags], { stdio: ["ignore", "ignore", "pipe"] });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const lines = createInterface({ input: child.stderr });
  const said = [];
  const address = await new Promise((resolve, reject) => {
    child.once("error", reject);
    ended.then((code) => reject(new Error(`the relay ended with ${code}:\n${said.join("\n")}`)));
    lines.on("line", (line) => {
      said.push(line);
      const found = /"address":"([^"]+)"/.exec(line);
      if (found) resolve(found[1]);
    });
  });
  return {
    port: Number(address.split(":").at(-1)),
    pid: child.pid,
    /** A room's address. @param {string} room */
    url: (room) => `ws://${address}/r/${room}`,
    /** What it counts, by name. */
    async metrics() {
      const text = await (await fetch(`http://${address}/metrics`)).text();
      return Object.fromEntries([...text.matchAll(/^tab86_relay_(\S+) (\S+)$/gm)].map(([, name, value]) => [name, Number(value)]));
    },
    /** @param {NodeJS.Signals} [signal] SIGKILL is a crash */
    async close(signal = "SIGTERM") {
      child.kill(signal);
      await ended;
    },
  };
}
