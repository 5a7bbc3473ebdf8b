// Charts over the steps. All of them share one cursor: the step that is pointed at, or chosen with the arrow keys.
const WIDTH = 360, HEIGHT = 190, LEFT = 44, RIGHT = 14, TOP = 8, BOTTOM = 20;
const cursors = [];
let steps = [];

function niceTicks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const unit = [1, 2, 2.5, 5, 10].find((each) => each * power >= rough) * power;
  const ticks = [];
  for (let tick = Math.ceil(low / unit) * unit; tick <= high + unit * 1e-6; tick += unit) ticks.push(tick);
  return ticks;
}

function scale(low, high, start, end) {
  const span = high - low || 1;
  return (value) => start + ((value - low) / span) * (end - start);
}

// The frame of every chart: axes, cursor, caption and a line below for the values at the cursor.
function frame(title, names, x, y, label = title) {
  const across = scale(x[0], x[1], LEFT, WIDTH - RIGHT), up = scale(y[0], y[1], HEIGHT - BOTTOM, TOP);
  const svg = svgElement("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, tabindex: 0, role: "img", "aria-label": `${label}, chart over steps` });
  for (const tick of niceTicks(y[0], y[1], 4)) {
    svg.append(
      svgElement("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: up(tick), y2: up(tick) }),
      svgElement("text", { x: LEFT - 5, y: up(tick) + 4, "text-anchor": "end" }, number(tick)),
    );
  }
  for (const tick of niceTicks(x[0], x[1], 5).filter(Number.isInteger)) {
    svg.append(svgElement("text", { x: across(tick), y: HEIGHT - 5, "text-anchor": "middle" }, number(tick)));
  }
  const cursor = svgElement("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM });
  const readout = element("div", { class: "readout" });
  const figure = element("figure", {}, element("figcaption", {}, title, element("small", {}, names)), svg, readout);
  return { svg, across, up, cursor, readout, figure };
}

// `values` is how many the readout has: there is room for a few; more cover what is below while they are shown.
function finish(parts, xs, values, describe) {
  parts.readout.style.height = `${1.5 * Math.min(values, 2)}em`;
  parts.svg.append(parts.cursor);
  cursors.push({ ...parts, describe });
  steps.push(...xs);
  listen(parts);
  return parts.figure;
}

function nearest(xs, x) {
  let low = 0, high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= x) low = middle; else high = middle;
  }
  return x - xs[low] <= xs[high] - x ? low : high;
}

function path(xs, ys, across, up) {
  let drawn = "", pen = "M";
  for (let i = 0; i < xs.length; i++) {
    if (ys[i] === null) { pen = "M"; continue; }
    drawn += `${pen}${across(xs[i]).toFixed(1)} ${up(ys[i]).toFixed(1)}`;
    pen = "L";
  }
  return drawn;
}

// One area for each stretch without a gap.
function bandPath(x, low, high, across, up) {
  let drawn = "";
  for (let begin = 0, end; begin < x.length; begin = end + 1) {
    for (end = begin; end < x.length && low[end] !== null && high[end] !== null;) end++;
    if (end === begin) continue;
    const xs = x.slice(begin, end);
    const there = path(xs, high.slice(begin, end), across, up);
    const back = path(xs.reverse(), low.slice(begin, end).reverse(), across, up);
    drawn += `${there}L${back.slice(1)}Z`;
  }
  return drawn;
}

function lineChart(chart) {
  const xs = chart.lines.flatMap((line) => line.x);
  const ys = chart.lines.flatMap((line) => [...line.y, ...(line.low ?? []), ...(line.high ?? [])]);
  const finite = ys.filter((y) => y !== null);
  let [low, high] = extent(finite);
  if (chart.zero) low = Math.min(0, low);
  if (low === high) [low, high] = [low - (Math.abs(low) / 10 || 1), high + (Math.abs(high) / 10 || 1)];
  const margin = chart.zero && low === 0 ? 0 : (high - low) * 0.04;
  const parts = frame(chart.title, chart.names, extent(xs), [low - margin, high + (high - low) * 0.04]);
  for (const line of chart.lines) {
    const color = `c${line.color % 7}`, dash = `d${Math.floor(line.color / 7) % 4}`;
    if (line.low) parts.svg.append(svgElement("path", { class: `band ${color}`, d: bandPath(line.x, line.low, line.high, parts.across, parts.up) }));
    parts.svg.append(svgElement("path", { class: `line ${color} ${dash}${line.thin ? " thin" : ""}`, d: path(line.x, line.y, parts.across, parts.up) }));
    if ((line.dots && line.x.length < 60) || line.x.length === 1) {
      line.x.forEach((x, i) => line.y[i] !== null && parts.svg.append(svgElement("circle", { class: `dot ${color}`, cx: parts.across(x), cy: parts.up(line.y[i]), r: 2.6 })));
    }
  }
  if (chart.legend) parts.figure.querySelector("figcaption").append(...chart.lines.map((line) => entry([`c${line.color % 7}`, line.label, ""])));
  const named = chart.lines.filter((line) => !line.thin);
  const told = named.length ? named : chart.lines;
  return finish(parts, xs, told.length + (told[0].low ? 1 : 0), (step) => told.filter((line) => reaches(line, step)).map((line) => {
    return [`c${line.color % 7}`, told.length > 1 ? line.label : "", ...valueAt(line, step)];
  }));
}

function reaches({ x }, step) {
  return x[0] <= step && step <= x[x.length - 1];
}

function valueAt({ x, y, low, high, piece }, step) {
  const at = nearest(x, step);
  const interval = low ? ` (${number(low[at], 3)} to ${number(high[at], 3)})` : "";
  return [number(y[at]), `${interval}${Math.abs(x[at] - step) < piece ? "" : ` at ${x[at]}`}`];
}

function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : [0, 1];
}

function showStep(step) {
  for (const { svg, across, cursor, readout, describe } of cursors) {
    const x = step === null ? NaN : across(step);
    const inside = x >= LEFT - 1 && x <= WIDTH - RIGHT + 1;
    cursor.style.visibility = inside ? "visible" : "hidden";
    if (inside) filled(cursor, { x1: x, x2: x }, []);
    readout.replaceChildren(...(inside ? [element("div", {}, element("span", {}, `step ${step}`), ...describe(step).map(entry))] : []));
  }
}

function entry([color, label, value, more = ""]) {
  const short = label.length > 30 ? `${label.slice(0, 28)}…` : label;
  return element("span", {}, element("i", { class: `swatch ${color}` }), short ? `${short} ` : "", element("b", {}, value), more);
}

let shown = null, waiting = false;

// At most once per frame: a page of many charts would lag behind the pointer.
function choose(step) {
  shown = step;
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; showStep(shown); });
}

function listen({ svg, across, readout }) {
  const point = (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * WIDTH;
    const first = across(steps[0]), last = across(steps[steps.length - 1]);
    const guess = steps[0] + ((x - first) / (last - first || 1)) * (steps[steps.length - 1] - steps[0]);
    choose(steps[nearest(steps, guess)]);
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", () => choose(null));
  // A screen reader reads the values of the chart that has the focus, not those of all.
  svg.addEventListener("focus", () => readout.setAttribute("aria-live", "polite"));
  svg.addEventListener("blur", () => readout.removeAttribute("aria-live"));
  svg.addEventListener("keydown", (event) => {
    const at = shown === null ? -1 : nearest(steps, shown), last = steps.length - 1;
    const move = { ArrowRight: at + 1, ArrowLeft: at < 0 ? last : at - 1, Home: 0, End: last, PageDown: at + 10, PageUp: at - 10 }[event.key];
    if (event.key === "Escape") choose(null);
    else if (move !== undefined) choose(steps[Math.max(0, Math.min(last, move))]);
    else return;
    event.preventDefault();
  });
}
