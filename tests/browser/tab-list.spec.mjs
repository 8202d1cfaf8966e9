// The tab list and the figures of tabs, without a page.
import assert from "node:assert/strict";
import { test } from "node:test";
import { indicator, isAlive, total, totalText } from "../../www/tabs/figures.js";
import { TabList } from "../../www/tabs/tab-list.js";

const guest = (name) => ({ name, source: { kind: "guest", guest: name } });
const names = (list) => list.tabs.map(({ name }) => name);

/** A list with tabs of these names, the first one active. */
function listOf(...all) {
  const list = new TabList();
  const tabs = all.map((name) => list.add(guest(name)));
  list.activate(tabs[0]?.id ?? null);
  return list;
}
const idOf = (list, name) => list.tabs.find((tab) => tab.name === name).id;

test("a name that is taken gets a number; a number of its own stays", () => {
  const list = listOf("Debian", "Debian", "Debian 2", "Windows 98", "Windows 98");
  assert.deepEqual(names(list), ["Debian", "Debian 2", "Debian 3", "Windows 98", "Windows 98 2"]);
});

test("ids are never used twice", () => {
  const list = listOf("a", "b");
  const [, b] = list.tabs;
  list.remove(b.id);
  assert.notEqual(list.add(guest("c")).id, b.id);
});

test("closing the active tab activates its right neighbour, at the end the left one, and then none", () => {
  const list = listOf("a", "b", "c");
  const active = () => list.get(list.active)?.name ?? null;
  list.activate(idOf(list, "b"));
  list.remove(idOf(list, "b"));
  assert.equal(active(), "c");
  list.remove(idOf(list, "c"));
  assert.equal(active(), "a");
  list.remove(idOf(list, "a"));
  assert.equal(active(), null);
});

test("closing another tab leaves the active one active", () => {
  const list = listOf("a", "b", "c");
  list.remove(idOf(list, "c"));
  assert.equal(list.get(list.active).name, "a");
});

test("a closed tab comes back where it was", () => {
  const list = listOf("a", "b", "c");
  const { tab, index } = list.remove(idOf(list, "b"));
  list.putBack(tab, index);
  list.putBack(tab, index);
  assert.deepEqual(names(list), ["a", "b", "c"]);
});

test("moving stops at the ends", () => {
  const list = listOf("a", "b", "c");
  const move = (name, to) => (list.move(idOf(list, name), to), names(list).join(""));
  assert.equal(move("a", 1), "bac");
  assert.equal(move("a", Infinity), "bca");
  assert.equal(move("a", -5), "abc");
  assert.equal(move("c", 0), "cab");
  list.move("no such tab", 1);
  assert.equal(names(list).join(""), "cab");
});

test("steps go around the ends", () => {
  const list = listOf("a", "b", "c");
  const step = (name, by) => list.step(idOf(list, name), by).name;
  assert.deepEqual([step("a", -1), step("c", 1), step("b", 1), step("a", -4)], ["c", "a", "c", "c"]);
  assert.equal(list.step("no such tab", 1), null);
});

test("names are one line, short, and never empty", () => {
  const list = listOf("a");
  const [{ id }] = list.tabs;
  list.rename(id, "  my\n machine\t1 ");
  assert.deepEqual(names(list), ["my machine 1"]);
  list.rename(id, " \n ");
  assert.deepEqual(names(list), ["my machine 1"]);
  list.rename(id, "x".repeat(1000));
  assert.equal(list.tabs[0].name.length, 80);
});

test("every change is told once, and what changes nothing is not", () => {
  const list = listOf("a", "b");
  let told = 0;
  list.onChange(() => told++);
  list.activate(list.active);
  list.activate("no such tab");
  list.move(idOf(list, "a"), 0);
  list.remove("no such tab");
  list.rename("no such tab", "x");
  assert.equal(told, 0);
  list.move(idOf(list, "a"), 1);
  list.rename(idOf(list, "a"), "c");
  list.setPauseHidden(idOf(list, "c"), true);
  assert.equal(told, 3);
});

test("what is saved is restored: order, names as they are, sources, settings, the active tab", () => {
  const list = listOf("a", "b");
  list.add({ name: "mine", source: { kind: "files", files: ["disk.img", "initrd"] }, settings: { memory: 1 << 24, jit: false, clock: "deterministic", network: { lan: "x" } }, pauseHidden: true });
  list.rename(idOf(list, "b"), "a");
  list.move(list.tabs[2].id, 0);
  list.activate(list.tabs[2].id);
  const copy = new TabList();
  copy.restore(JSON.parse(JSON.stringify(list.save())));
  assert.deepEqual(copy.save(), list.save());
  assert.deepEqual(names(copy), ["mine", "a", "a"]);
  assert.equal(copy.indexOf(copy.active), 2);
});

test("nonsense in the store restores what makes sense of it", () => {
  const restored = (saved) => {
    const list = new TabList();
    list.restore(saved);
    return list;
  };
  for (const nothing of [null, 7, "x", [], {}, { version: 2, tabs: [guest("a")] }, { version: 1, tabs: "a" }]) {
    assert.deepEqual(restored(nothing).tabs, [], JSON.stringify(nothing));
  }
  const list = restored({
    version: 1,
    active: 99,
    tabs: [
      null, {}, { name: "no source" }, { name: 1, source: { kind: "guest", guest: "a" } },
      { name: "no files", source: { kind: "files", files: [] } }, { name: "bad files", source: { kind: "files", files: [1, {}] } },
      { name: "good", source: { kind: "guest", guest: "a", more: 1 }, settings: { memory: "much", jit: 1, clock: "sundial", network: { lan: 7 }, evil: 1 }, pauseHidden: "yes" },
    ],
  });
  assert.deepEqual(list.save().tabs, [{ name: "good", source: { kind: "guest", guest: "a" }, settings: {}, pauseHidden: false }]);
  assert.equal(list.active, list.tabs[0].id);
  assert.equal(restored({ version: 1, tabs: Array.from({ length: 10_000 }, () => guest("a")) }).tabs.length, 64);
});

test("a tab says what its machine does", () => {
  const text = (state, stats = null) => indicator(state, stats).text;
  assert.equal(text("running", { mips: 123.4, idle: 0.1 }), "123 MIPS");
  assert.equal(text("running", { mips: 1.23, idle: 0 }), "1.2 MIPS");
  assert.equal(text("running", { mips: 1, idle: 0.99 }), "Idle");
  assert.equal(text("running"), "Running");
  assert.equal(text("paused", { mips: 100, idle: 0 }), "Paused");
  assert.deepEqual([text("off"), text("shutdown"), text("crashed"), text("loading")], ["Off", "Crashed", "Failed", "Loading"]);
  assert.equal(indicator("shutdown", null).tone, "bad");
  assert.deepEqual(["running", "paused", "halted", "off", "shutdown", "loading"].map(isAlive), [true, true, true, false, false, false]);
});

test("the page's total adds up speed and memory", () => {
  const all = total([{ mips: 100, memory: 256 << 20 }, { mips: 50.5, memory: 64 << 20 }], 2);
  assert.deepEqual(all, { machines: 2, mips: 150.5, memory: 320 << 20, workers: 2 });
  assert.equal(totalText(all), "2 machines on · 151 MIPS · 320 MiB · 2 workers");
  assert.equal(totalText(total([{ mips: 0, memory: 16 << 20 }], 1)), "1 machine on · 0.0 MIPS · 16 MiB · 1 worker");
  assert.equal(totalText(total([], 2)), "No machine is on");
});
