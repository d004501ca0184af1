// The plan's Markdown as elements: paragraphs, headings, lists, tables, bold, italics and code. Anything else stays as it is.

import { h } from "./dom.js";

export function words(text) {
  const blocks = [];
  for (const line of text.split("\n")) addLine(blocks, line.trimEnd());
  return blocks.map(element);
}

function addLine(blocks, line) {
  const last = blocks.at(-1);
  const heading = /^(#{1,6})\s+(.*)$/.exec(line);
  const item = /^\s*([-*]|\d+[.)])\s+(.*)$/.exec(line);
  if (!line) blocks.push({ kind: "gap" });
  else if (heading) blocks.push({ kind: "heading", lines: [heading[2]] });
  else if (item) addTo(blocks, /\d/.test(item[1]) ? "ol" : "ul", item[2]);
  else if (line.startsWith("|")) addTo(blocks, "table", line);
  else if (["ol", "ul"].includes(last?.kind) && /^\s/.test(line)) last.lines[last.lines.length - 1] += ` ${line.trim()}`;
  else addTo(blocks, "text", line);
}

function addTo(blocks, kind, line) {
  const last = blocks.at(-1);
  if (last?.kind === kind) last.lines.push(line);
  else blocks.push({ kind, lines: [line] });
}

function element({ kind, lines }) {
  if (kind === "gap") return null;
  if (kind === "heading") return h("h4", {}, inline(lines[0]));
  if (kind === "ol" || kind === "ul") return h(kind, {}, lines.map((line) => h("li", {}, inline(line))));
  if (kind === "table") return table(lines);
  return h("p", {}, inline(lines.join(" ")));
}

function table(lines) {
  const rows = lines.filter((line) => !/^[|\s:-]+$/.test(line)).map((line) =>
    line.replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim()),
  );
  const [head, ...body] = rows;
  const row = (cells, tag) => h("tr", {}, cells.map((cell) => h(tag, tag === "th" ? { scope: "col" } : {}, inline(cell))));
  return h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Table of the plan" },
    h("table", {}, h("thead", {}, row(head, "th")), h("tbody", {}, body.map((cells) => row(cells, "td")))));
}

function inline(text) {
  return text.split(/(\*\*[^*]+\*\*|\*[^*\s]+\*|`[^`]+`)/).map((piece) => {
    if (/^\*\*.+\*\*$/.test(piece)) return h("strong", {}, piece.slice(2, -2));
    if (/^\*.+\*$/.test(piece)) return h("em", {}, piece.slice(1, -1));
    if (/^`.+`$/.test(piece)) return h("code", {}, piece.slice(1, -1));
    return piece;
  });
}
