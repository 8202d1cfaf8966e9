// Runs a guest with and without the fast tier side by side and compares the whole state at many counts:
// `node tests/jit/lockstep.mjs [GUEST] [INSTRUCTIONS] [STEP] [THRESHOLD] [SEED]`. On a difference it says between which counts.
import { built, debian, difference, machine } from "./machine.mjs";

const [guest = "debian", total = "300000000", step = "1000000", threshold = "150", seed = "0"] = process.argv.slice(2);
const setup = guest === "debian" ? debian() : { fda: { data: built(`guests/${guest}.img`) } };
const a = machine({ ...setup, jit: false });
const b = machine({ ...setup, jit: true, jitThreshold: Number(threshold), jitSeed: Number(seed) });
const times = [0, 0];
const timed = (i, work) => {
  const began = performance.now();
  work();
  times[i] += performance.now() - began;
};
for (let done = 0; done < Number(total); done += Number(step)) {
  timed(0, () => a.run(Number(step)));
  timed(1, () => b.run(Number(step)));
  const [x, y] = [a.state(), b.state()];
  const differs = difference(x, y);
  if (differs) {
    console.log(`differs after ${x[0]} instructions (last equal ${done}):\n${differs}`, b.figures());
    process.exit(1);
  }
  if ((done / Number(step)) % 64 === 0 && a.hash() !== b.hash()) {
    console.log(`memory differs after ${x[0]} instructions`, b.figures());
    process.exit(1);
  }
}
if (a.hash() !== b.hash()) {
  console.log("memory differs at the end");
  process.exit(1);
}
console.log(`equal: ${a.icount()} instructions, ${a.hash()}; interpreter ${times[0] | 0} ms, fast tier ${times[1] | 0} ms`, b.figures());
