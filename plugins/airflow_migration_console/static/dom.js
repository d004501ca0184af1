// Elements, text and links. Data only ever becomes text: nothing here takes markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element; attributes that are null or false are left out. */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Text that changes: nothing is touched when it stays the same, so no screen reader says it again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A link to another page of Airflow, or, with `fresh`, to one of its own. */
export function link(href, text, { fresh = false, ...attributes } = {}) {
  const target = fresh ? { target: "_blank", rel: "noopener" } : {};
  return h("a", { href, ...target, onclick: (event) => leave(event, href, fresh), ...attributes }, text);
}

// Airflow shows this page in a sandboxed frame, which may neither navigate what is around it nor open windows. The
// page around it may, and is of the same origin.
function leave(event, href, fresh) {
  let outside;
  try {
    outside = window.parent !== window && window.parent.document;
  } catch {
    outside = null; // in a frame of somebody else
  }
  if (!outside) return;
  event.preventDefault();
  const anchor = outside.createElement("a");
  anchor.href = href;
  if (fresh || event.ctrlKey || event.metaKey || event.shiftKey) {
    anchor.target = "_blank";
    anchor.rel = "noopener";
  }
  outside.body.append(anchor);
  anchor.click();
  anchor.remove();
}

/** Airflow's own choice of light or dark, followed as it changes. */
export function followTheme() {
  let root;
  try {
    root = window.parent !== window && window.parent.document.documentElement;
  } catch {
    root = null;
  }
  if (!root) return;
  const apply = () => {
    const theme = ["dark", "light"].find((name) => root.classList.contains(name));
    if (theme) document.documentElement.dataset.theme = theme;
  };
  apply();
  new MutationObserver(apply).observe(root, { attributes: true, attributeFilter: ["class"] });
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  const whole = Math.max(0, Math.round(seconds));
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (whole < 60) return `${whole} s`;
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  return hours ? `${hours} h ${String(minutes).padStart(2, "0")} min` : `${minutes} min ${whole % 60} s`;
}

export function amount(count, unit) {
  if (unit !== "bytes") return `${count.toLocaleString("en")} ${unit}`;
  const names = ["B", "kB", "MB", "GB", "TB"];
  const power = count > 0 ? Math.min(4, Math.floor(Math.log10(count) / 3)) : 0;
  return `${(count / 1000 ** power).toFixed(power > 1 ? 1 : 0)} ${names[power]}`;
}

export function moment(iso) {
  if (!iso) return h("span", {}, "–");
  const shown = new Date(iso).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  return h("time", { datetime: iso }, shown);
}

export const secondsBetween = (start, end) =>
  start ? (new Date(end ?? Date.now()) - new Date(start)) / 1000 : null;
