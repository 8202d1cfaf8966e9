// Two workers with nothing but a loop in wasm: what two cores of this machine give at best, inside this browser.

/** (func (export "spin") (param i32) (result i32) (local i32)): a multiplication and an addition for each count */
const SPIN = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 1, 127, 1, 127, 3, 2, 1, 0, 7, 8, 1, 4, 115, 112, 105, 110, 0, 0, 10, 37, 1, 35, 1, 1,
  127, 3, 64, 32, 1, 65, 141, 204, 229, 0, 108, 65, 223, 230, 187, 227, 3, 106, 33, 1, 32, 0, 65, 1, 107, 34, 0, 13, 0, 11, 32, 1, 11,
];

/** For `page.evaluate`: `window.ideal(count, ms)` runs the loop on `count` workers, and says how much they did. */
export const IDEAL = `
  window.ideal = async (count, ms) => {
    const source = \`onmessage = async ({ data: { wasm, words, at } }) => {
      const { instance } = await WebAssembly.instantiate(Uint8Array.from(wasm));
      while (words[2] === 0) {
        instance.exports.spin(1_000_000);
        Atomics.add(words, at, 1);
      }
    }\`;
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const words = new Int32Array(new SharedArrayBuffer(12));
    const workers = Array.from({ length: count }, (_, at) => {
      const worker = new Worker(url);
      worker.postMessage({ wasm: ${JSON.stringify(SPIN)}, words, at });
      return worker;
    });
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const [begin, at] = [words[0] + words[1], performance.now()];
    await new Promise((resolve) => setTimeout(resolve, ms));
    const done = (words[0] + words[1] - begin) / (performance.now() - at);
    // A worker that is terminated in a loop may go on for two seconds.
    words[2] = 1;
    workers.forEach((worker) => worker.terminate());
    return done;
  };
`;
