// What the site serves at /vendor/xterm/addon-fit.mjs.
export * from "@xterm/addon-fit";
