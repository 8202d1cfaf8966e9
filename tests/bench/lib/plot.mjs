// A line chart as SVG: logarithmic across, linear up from zero; each line has its name at its end. It follows the reader's colours.

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [640, 360, 56, 84, 44, 40];
const COLOURS = ["#b4540a", "#0b6bcb"];

/** The next 1, 2 or 5 times a power of ten. @param {number} value */
function round(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= value) ?? value;
}

/**
 * @param {{ title: string, x: number[], lines: { name: string, values: number[] }[] }} chart
 * @returns {string}
 */
export function plot({ title, x, lines }) {
  const most = Math.max(...lines.flatMap(({ values }) => values));
  const step = round(most / 5);
  const top = Math.ceil(most / step) * step;
  const [first, last] = [Math.log10(x[0]), Math.log10(/** @type {number} */ (x.at(-1)))];
  const across = (/** @type {number} */ v) => LEFT + ((Math.log10(v) - first) / (last - first)) * (WIDTH - LEFT - RIGHT);
  const up = (/** @type {number} */ v) => HEIGHT - BOTTOM - (v / top) * (HEIGHT - TOP - BOTTOM);
  const parts = [`<text x="${LEFT}" y="24" class="title">${title}</text>`];
  for (let v = 0; v <= top; v += step) {
    parts.push(`<path d="M${LEFT} ${up(v).toFixed(1)}H${WIDTH - RIGHT}" class="grid"/>`);
    parts.push(`<text x="${LEFT - 8}" y="${(up(v) + 4).toFixed(1)}" text-anchor="end">${v}</text>`);
  }
  for (const v of x) parts.push(`<text x="${across(v).toFixed(1)}" y="${HEIGHT - BOTTOM + 20}" text-anchor="middle">${v.toLocaleString("en")}</text>`);
  for (const [i, { name, values }] of lines.entries()) {
    const points = values.map((v, at) => [across(x[at]), up(v)].map((n) => n.toFixed(1)));
    const colour = COLOURS[i % COLOURS.length];
    parts.push(`<polyline points="${points.map((p) => p.join(",")).join(" ")}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    for (const [at, [px, py]] of points.entries()) {
      parts.push(`<circle cx="${px}" cy="${py}" r="3.5" fill="${colour}"><title>${name}: ${values[at].toFixed(0)} at ${x[at]}</title></circle>`);
    }
    const [px, py] = points[points.length - 1];
    parts.push(`<text x="${Number(px) + 10}" y="${Number(py) + 4}" fill="${colour}">${name}</text>`);
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="13">
<style>text:not([fill]) { fill: #333 } .title { font-weight: 600; font-size: 15px } .grid { stroke: #8885; fill: none } @media (prefers-color-scheme: dark) { text:not([fill]) { fill: #ddd } }</style>
${parts.join("\n")}
</svg>
`;
}
