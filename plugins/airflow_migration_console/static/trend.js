// How long the cut-over would take, and what was found, from rehearsal to rehearsal.

import { duration, h, svg } from "./dom.js";

const WIDTH = matchMedia("(max-width: 40rem)").matches ? 380 : 760; // on a phone no smaller labels, but less room
const HEIGHT = 240;
const LEFT = 84;
const RIGHT = 12;
const TOP = 12;
const FLOOR = 168; // of the downtime
const BARS = 224; // foot of the findings
const BAR_HEIGHT = 36;

/** @param rehearsals oldest first: {at, low, downtime, high, findings} */
export function trend(rehearsals) {
  const points = rehearsals.filter(({ downtime }) => Number.isFinite(downtime));
  if (points.length < 2) return null;
  const top = Math.max(...points.map(({ high, downtime }) => Math.max(high ?? 0, downtime)), 1);
  const most = Math.max(...points.map(({ findings }) => countOf(findings)), 1);
  const x = (number) => LEFT + (number * (WIDTH - LEFT - RIGHT)) / (points.length - 1);
  const y = (seconds) => FLOOR - (seconds / top) * (FLOOR - TOP);
  const line = (value) => points.map((point, number) => `${x(number).toFixed(1)},${y(value(point)).toFixed(1)}`);
  const band = [...line(({ low, downtime }) => low ?? downtime), ...line(({ high, downtime }) => high ?? downtime).reverse()];
  const last = points.at(-1);
  const label = `Downtime of ${points.length} rehearsals, last ${duration(last.downtime)}; `
    + `between ${duration(Math.min(...points.map((p) => p.downtime)))} and ${duration(Math.max(...points.map((p) => p.downtime)))}. `
    + `Findings of the last: ${countOf(last.findings)}.`;
  return h("figure", {}, h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Trend" },
    svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, class: "trend" },
      [0, 0.5, 1].map((share) => axis(y(share * top), duration(share * top))),
      svg("polygon", { class: "band", points: band.join(" ") }),
      svg("polyline", { class: "line", points: line(({ downtime }) => downtime).join(" ") }),
      points.length <= 60
        ? points.map((point, number) => svg("circle", { class: "dot", cx: x(number), cy: y(point.downtime), r: 3 },
            svg("title", {}, titleOf(point))))
        : [],
      points.map((point, number) => bars(point, x(number), Math.max(1.5, Math.min(14, (WIDTH - LEFT) / points.length - 1)), most)),
      svg("text", { class: "label", x: LEFT - 6, y: BARS, "text-anchor": "end" }, "findings"))),
    h("figcaption", { class: "muted" }, "Line: downtime as predicted by each rehearsal, with its range. Bars: ",
      h("span", { class: "key warning" }), " warnings, ", h("span", { class: "key blocker" }), " blockers."));
}

const countOf = (findings) => (findings?.blocker ?? 0) + (findings?.warning ?? 0);
const titleOf = ({ at, downtime, findings }) =>
  `${new Date(at).toLocaleString("en-GB")}: ${duration(downtime)}, ${countOf(findings)} finding(s)`;

function axis(y, text) {
  return svg("g", {}, svg("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y }),
    svg("text", { class: "label", x: LEFT - 6, y: y + 4, "text-anchor": "end" }, text));
}

function bars({ findings }, middle, width, most) {
  const height = (count) => ((count ?? 0) / most) * BAR_HEIGHT;
  const [warnings, blockers] = [height(findings?.warning), height(findings?.blocker)];
  const bar = (kind, foot, tall) =>
    tall ? svg("rect", { class: kind, x: middle - width / 2, y: foot - tall, width, height: tall }) : null;
  return svg("g", {}, bar("warning", BARS, warnings), bar("blocker", BARS - warnings, blockers));
}
