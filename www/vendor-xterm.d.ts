// What the site serves at /vendor/xterm/xterm.mjs.
export * from "@xterm/xterm";
