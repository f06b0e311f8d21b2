/*
 * The status page: asks for status.json once a second, keeps what it was told
 * for an hour, and draws it.  Rates are differences of two answers, by the
 * server's own clock; where the process is another one there is a gap.
 */
const EVERY = 1000;
const PATIENCE = 5000;
const KEEP = 3600;
const SHORTEST = 30000; // ms that a plot shows at least
const SPANS = [["2 min", 120], ["10 min", 600], ["1 h", 3600]];
const COLORS = 8; // the last one is for all others together

const plots = [
  { title: "Connections", unit: "open",
    value: (s) => s.connections.now },
  { title: "New connections", unit: "per second",
    rate: (s) => s.accepted },
  { title: "Refused", unit: "per second",
    rate: (s) => s.refused.total },
  { title: "Received", unit: "bytes per second", bytes: true,
    rate: (s) => s.bytes.in },
  { title: "Sent", unit: "bytes per second", bytes: true,
    rate: (s) => s.bytes.out },
  { title: "Ended with an error", unit: "per second",
    rate: (s) => s.ended.error },
];

// { at: ms, now: answer or null, rates: Map(name -> [of each plot]) }
const samples = [];
const colors = new Map(); // of the services, in the order they came
let span = SPANS[0][1];
let paused = false;
let pointed = null; // the time that the pointer shows, in ms
let style = null;

const $ = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const e = Object.assign(document.createElement(tag), properties);
  e.append(...children);
  return e;
}

/* -- numbers as people read them ------------------------------------------ */

function digits(value) {
  if (value === 0 || value >= 100)
    return String(Math.round(value));
  return value.toPrecision(value >= 10 ? 3 : 2).replace(/\.?0+$/, "");
}

function scaled(value, base, units) {
  let i = 0;
  // What would be rounded to the next unit belongs there.
  for (; value >= base - 0.5 && i < units.length - 1; i++)
    value /= base;
  return digits(value) + units[i];
}

function count(value) {
  return value < 10000 ? digits(value) :
    scaled(value, 1000, ["", " k", " M", " G", " T"]);
}

function bytes(value) {
  return scaled(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB", " PiB"]);
}

function duration(seconds) {
  const s = Math.floor(seconds), m = Math.floor(s / 60), h = Math.floor(m / 60);
  if (h >= 24)
    return `${Math.floor(h / 24)} d ${h % 24} h`;
  if (h > 0)
    return `${h} h ${m % 60} min`;
  return m > 0 ? `${m} min ${s % 60} s` : `${s} s`;
}

function clock(ms, seconds) {
  return new Date(ms).toLocaleTimeString([], { hour: "2-digit",
    minute: "2-digit", second: seconds ? "2-digit" : undefined,
    hourCycle: "h23" });
}

const format = (plot, value) =>
  value === null ? "–" : plot.bytes ? bytes(value) + "/s" : count(value);

/* -- what is known ---------------------------------------------------------- */

function remember(at, answer) {
  const before = samples.length > 0 ? samples[samples.length - 1].now : null;
  const rates = new Map();
  for (const s of answer === null ? [] : answer.services) {
    const old = before !== null && before.pid === answer.pid ?
      before.services.find((b) => b.name === s.name) : undefined;
    const time = old === undefined ? 0 : answer.uptime - before.uptime;
    if (!colors.has(s.name))
      colors.set(s.name, Math.min(colors.size, COLORS - 1));
    rates.set(s.name, plots.map((plot) => {
      if (plot.value !== undefined)
        return plot.value(s);
      const more = time > 0 ? plot.rate(s) - plot.rate(old) : -1;
      return more < 0 ? null : more / time;
    }));
  }
  samples.push({ at, now: answer, rates });
  while (samples.length > KEEP)
    samples.shift();
}

function add(a, b) {
  return a === null || a === undefined ? b : b === null ? a : a + b;
}

// The value of each color in a sample: an array with holes.
function values(sample, which) {
  const all = [];
  for (const [name, rates] of sample.rates) {
    const color = colors.get(name);
    all[color] = add(all[color], rates[which]);
  }
  return all;
}

function total(sample, which) {
  return sample === undefined ? null :
    [...sample.rates.values()].reduce((sum, r) => add(sum, r[which]), null);
}

function seriesNames() {
  const names = [];
  for (const [name, color] of colors) {
    const last = color === COLORS - 1 && colors.size > COLORS;
    names[color] = last ? "all others" : name;
  }
  return names;
}

/* -- plots ------------------------------------------------------------------ */

function readStyle() {
  const css = getComputedStyle(document.documentElement);
  const get = (name) => css.getPropertyValue(name).trim();
  style = { font: "12px system-ui, sans-serif" };
  for (const name of ["card", "grid", "text", "dim", "good", "warn", "bad"])
    style[name] = get("--" + name);
  style.series = [];
  for (let i = 0; i < COLORS; i++)
    style.series.push(get("--series-" + i));
}

// The first step of 1, 2 or 5 that makes at most so many.
function niceStep(range, most, bases) {
  if (bases !== undefined)
    return bases.find((b) => range / b <= most) || bases[bases.length - 1];
  const power = 10 ** Math.floor(Math.log10(range / most));
  return [1, 2, 5].map((m) => m * power).find((s) => range / s <= most) ||
    10 * power;
}

// The distance of the levels, and the highest one.
function scale(plot, most) {
  if (most === 0)
    return [1, 1];
  let unit = 1;
  if (plot.bytes)
    while (most / unit >= 1024)
      unit *= 1024;
  // Connections come whole.
  const step = Math.max(niceStep(most / unit, 4),
    plot.value === undefined ? 0 : 1) * unit;
  return [step, Math.ceil(most / step) * step];
}

function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { width, height } = canvas.getBoundingClientRect();
  const w = Math.round(width * ratio), h = Math.round(height * ratio);
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  const g = canvas.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  g.font = style.font;
  g.lineJoin = "round";
  return { g, width, height };
}

function drawTimes(g, area, from, to) {
  const step = niceStep((to - from) / 1000, area.width / 85,
    [5, 10, 15, 30, 60, 120, 300, 600, 900, 1200, 1800]) * 1000;
  const zone = new Date(to).getTimezoneOffset() * 60000;
  g.fillStyle = style.dim;
  g.textAlign = "center";
  g.textBaseline = "top";
  for (let t = Math.ceil((from - zone) / step) * step + zone; t <= to;
    t += step) {
    const x = area.left + (t - from) / (to - from) * area.width;
    const text = clock(t, step < 60000);
    const half = g.measureText(text).width / 2;
    if (x - half >= area.left - 8 && x + half <= area.left + area.width + 8)
      g.fillText(text, x, area.top + area.height + 6);
  }
}

function drawLevels(g, area, plot, step, max) {
  g.textAlign = "right";
  g.textBaseline = "middle";
  g.lineWidth = 1;
  for (let v = 0; v <= max * 1.001; v += step) {
    const y = Math.round(area.top + area.height * (1 - v / max)) + 0.5;
    g.strokeStyle = style.grid;
    g.beginPath();
    g.moveTo(area.left, y);
    g.lineTo(area.left + area.width, y);
    g.stroke();
    g.fillStyle = style.dim;
    g.fillText(plot.bytes ? bytes(v) : count(v), area.left - 8, y);
  }
}

// Points are [x, y], or null where there is a gap.
function drawLine(g, points, color) {
  let open = false;
  g.strokeStyle = g.fillStyle = color;
  g.lineWidth = 1.75;
  g.beginPath();
  points.forEach((p, i) => {
    if (p === null) {
      open = false;
      return;
    }
    if (open)
      g.lineTo(p[0], p[1]);
    else
      g.moveTo(p[0], p[1]);
    open = true;
    // One that stands alone is no line.
    if ((points[i - 1] ?? null) === null && (points[i + 1] ?? null) === null)
      g.fillRect(p[0] - 1, p[1] - 1, 2, 2);
  });
  g.stroke();
}

function drawPointer(g, area, x) {
  g.strokeStyle = style.dim;
  g.lineWidth = 1;
  g.beginPath();
  g.moveTo(Math.round(x) + 0.5, area.top);
  g.lineTo(Math.round(x) + 0.5, area.top + area.height);
  g.stroke();
}

/*
 * The samples that are shown, from when to when, and the one pointed at.  At
 * first there is less to show than was asked for.
 */
function view() {
  const last = samples.length > 0 ? samples[samples.length - 1].at : Date.now();
  const begun = samples.length > 0 ? samples[0].at : last;
  const to = paused || last;
  const from = Math.max(to - span * 1000, Math.min(begun, to - SHORTEST));
  let first = samples.findIndex((s) => s.at >= from);
  first = Math.max(first - 1, 0);
  const shown = samples.slice(first).filter((s) => s.at <= to);
  let at = shown[shown.length - 1];
  if (pointed !== null)
    for (const s of shown)
      if (Math.abs(s.at - pointed) < Math.abs(at.at - pointed))
        at = s;
  return { from, to, shown, at };
}

function drawPlot(plot, which, { from, to, shown, at }) {
  const { g, width, height } = prepare(plot.canvas);
  const area = { left: 62, top: 10, width: width - 74, height: height - 36 };
  const rows = shown.map((s) => values(s, which));
  const most = rows.reduce((m, row) =>
    row.reduce((n, v) => v === null ? n : Math.max(n, v), m), 0);
  const [step, max] = scale(plot, most);
  const x = (t) => area.left + (t - from) / (to - from) * area.width;
  const y = (v) => area.top + area.height * (1 - v / max);

  drawLevels(g, area, plot, step, max);
  drawTimes(g, area, from, to);
  g.save();
  g.beginPath();
  g.rect(area.left, area.top - 4, area.width, area.height + 8);
  g.clip();
  for (let color = 0; color < Math.min(colors.size, COLORS); color++)
    drawLine(g, shown.map((s, i) => {
      const v = rows[i][color] ?? null;
      return v === null ? null : [x(s.at), y(v)];
    }), style.series[color]);
  if (pointed !== null && at !== undefined)
    drawPointer(g, area, x(at.at));
  g.restore();
  plot.area = area;
  updateLegend(plot, at === undefined ? [] : values(at, which));
}

function swatch(color) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const shape = document.createElementNS(svg.namespaceURI, "rect");
  svg.setAttribute("viewBox", "0 0 12 12");
  svg.setAttribute("aria-hidden", "true");
  for (const [k, v] of Object.entries({ y: 3, width: 12, height: 6, rx: 2 }))
    shape.setAttribute(k, v);
  shape.style.fill = `var(--${color})`;
  svg.append(shape);
  return svg;
}

function updateLegend(plot, row) {
  seriesNames().forEach((name, color) => {
    let item = plot.legend.children[color];
    if (item === undefined) {
      item = element("li", {}, swatch("series-" + color), element("span"), " ",
        element("b"));
      plot.legend.append(item);
    }
    setText(item.children[1], name);
    setText(item.children[2], format(plot, row[color] ?? null));
  });
}

function setText(e, text) {
  if (e.textContent !== text)
    e.textContent = text;
}

function draw() {
  if (style === null)
    readStyle();
  const shown = view();
  plots.forEach((plot, i) => {
    drawPlot(plot, i, shown);
    setText(plot.time, pointed !== null && shown.at !== undefined ?
      ` at ${clock(shown.at.at, true)}` : "");
  });
  drawHealth(shown);
}

/* -- targets over time ------------------------------------------------------ */

const health = {};
const HEALTH_ROW = 20;
const HEALTH_MOST = 20;
const GRADES = { up: "good", unchecked: "good", failing: "warn", down: "bad" };

function targetsOf(answer) {
  return answer === null ? [] : answer.services.flatMap((s) =>
    s.targets.map((t) => ({ ...t, service: s.name,
      key: JSON.stringify([s.name, t.name, t.address]) })));
}

function drawHealth({ from, to, shown, at }) {
  const last = samples.length > 0 ? samples[samples.length - 1].now : null;
  const targets = targetsOf(last).slice(0, HEALTH_MOST);
  if (last !== null)
    health.card.hidden = targets.length === 0;
  if (targets.length === 0)
    return;
  health.canvas.style.height = `${targets.length * HEALTH_ROW + 30}px`;
  const { g, width, height } = prepare(health.canvas);
  const names = targets.map((t) => `${t.service} → ${t.address}`);
  const left = Math.min(width * 0.45,
    Math.max(...names.map((n) => g.measureText(n).width)) + 12);
  const area = { left, top: 4, width: width - left - 12, height: height - 30 };
  const x = (t) => Math.max(area.left,
    area.left + (t - from) / (to - from) * area.width);
  const states = shown.map((s) => new Map(
    targetsOf(s.now).map((t) => [t.key, t.health])));

  drawTimes(g, area, from, to);
  g.textBaseline = "middle";
  targets.forEach((t, row) => {
    const y = area.top + row * HEALTH_ROW;
    g.fillStyle = style.dim;
    g.textAlign = "left";
    g.fillText(names[row], 0, y + HEALTH_ROW / 2, area.left - 8);
    g.fillStyle = style.grid;
    g.fillRect(area.left, y + 3, area.width, HEALTH_ROW - 6);
    let begin = 0;
    for (let i = 1; i <= shown.length; i++) {
      const state = states[begin].get(t.key);
      if (i < shown.length && states[i].get(t.key) === state)
        continue;
      const end = Math.min(i, shown.length - 1);
      const grade = GRADES[state];
      // What is not well is told by its height as well.
      const inset = grade === "good" ? 6 : grade === "warn" ? 4 : 2;
      if (grade !== undefined) {
        g.fillStyle = style[grade];
        g.fillRect(x(shown[begin].at), y + inset,
          x(shown[end].at) - x(shown[begin].at), HEALTH_ROW - 2 * inset);
      }
      begin = i;
    }
  });
  if (pointed !== null && at !== undefined)
    drawPointer(g, area, x(at.at));
  health.area = area;
}

/* -- numbers and tables ------------------------------------------------------ */

function setTiles(answer) {
  const last = samples[samples.length - 1];
  const sum = (f) => answer.services.reduce((n, s) => n + f(s), 0);
  const targets = targetsOf(answer);
  const up = targets.filter((t) => t.up).length;
  const tiles = [
    ["Connections", count(sum((s) => s.connections.now)),
      `of ${count(sum((s) => s.limits.max_connections))}`],
    ["New per second", format(plots[1], total(last, 1)),
      `${count(sum((s) => s.accepted))} in all`],
    ["Received", format(plots[3], total(last, 3)),
      `${bytes(sum((s) => s.bytes.in))} in all`],
    ["Sent", format(plots[4], total(last, 4)),
      `${bytes(sum((s) => s.bytes.out))} in all`],
    ["Refused per second", format(plots[2], total(last, 2)),
      `${count(sum((s) => s.refused.total))} in all`, total(last, 2) > 0],
    ["Errors per second", format(plots[5], total(last, 5)),
      `${count(sum((s) => s.ended.error))} in all`],
  ];
  if (targets.length > 0)
    tiles.push(["Targets up", `${up} of ${targets.length}`,
      up < targets.length ? `${targets.length - up} not used` : "all well",
      up < targets.length]);
  const box = $("tiles");
  while (box.children.length > tiles.length)
    box.lastChild.remove();
  tiles.forEach(([title, value, more, bad], i) => {
    if (box.children[i] === undefined)
      box.append(element("div", {}, element("h3"), element("p"),
        element("small")));
    const tile = box.children[i];
    tile.className = bad ? "tile bad" : "tile";
    [title, value, more].forEach((text, k) => setText(tile.children[k], text));
  });
}

// A cell is a text, or { text, small, className, title, meter: [value, max] }.
function setCell(td, cell, column) {
  const c = typeof cell === "object" ? cell : { text: String(cell) };
  const classes = [column.className, c.className].filter(Boolean).join(" ");
  if (td.className !== classes)
    td.className = classes;
  if (c.title !== undefined)
    td.title = c.title;
  const shown = JSON.stringify(c);
  if (td.dataset.shown === shown)
    return;
  td.dataset.shown = shown;
  td.replaceChildren(c.text);
  if (c.small !== undefined)
    td.append(" ", element("small", {}, c.small));
  if (c.meter !== undefined)
    td.append(element("meter", { max: c.meter[1], high: c.meter[1] * 0.9,
      value: c.meter[0], ariaLabel: "of its limit" }));
}

function setTable(table, columns, rows) {
  if (table.tHead === null) {
    table.createTHead().insertRow().append(...columns.map((c) =>
      element("th", { scope: "col", className: c.className || "" }, c.title)));
    table.createTBody();
  }
  const body = table.tBodies[0];
  while (body.rows.length > rows.length)
    body.deleteRow(-1);
  rows.forEach((row, i) => {
    const tr = body.rows[i] || body.insertRow();
    columns.forEach((column, k) => setCell(tr.cells[k] || tr.insertCell(),
      row[k], column));
  });
}

const number = (title) => ({ title, className: "number" });
const serviceColumns = [{ title: "Service" }, { title: "Handler" },
  number("Connections"), number("Peak"), number("Accepted"),
  number("Refused"), number("Errors"), number("Received"), number("Sent"),
  { title: "Listening", className: "long" }];
const targetColumns = [{ title: "Service" }, { title: "Target" },
  { title: "Health" }, number("Weight"), number("Connections"),
  number("Dialled"), number("Failures")];

// "full 3, rate 1"; undefined if there is none.
function reasons(counts) {
  const some = Object.entries(counts).filter(([k, n]) => k !== "total" && n > 0);
  return some.length === 0 ? undefined :
    some.map(([k, n]) => some.length === 1 ? k : `${k} ${count(n)}`).join(", ");
}

function setServices(answer) {
  setTable($("services"), serviceColumns, answer.services.map((s) => [
    s.name,
    s.handler,
    { text: count(s.connections.now),
      small: s.connections.draining > 0 ?
        `${count(s.connections.draining)} draining` : undefined,
      title: `of ${s.limits.max_connections}`,
      meter: [s.connections.now, s.limits.max_connections] },
    count(s.connections.peak),
    count(s.accepted),
    { text: count(s.refused.total), small: reasons(s.refused),
      className: s.refused.total > 0 ? "bad" : "" },
    { text: count(s.ended.error), title: reasons(s.ended) },
    bytes(s.bytes.in),
    bytes(s.bytes.out),
    s.listening.length > 0 ? s.listening.join(", ") : "drained",
  ]));
}

function setTargets(answer) {
  const targets = targetsOf(answer);
  const marks = { good: "●", warn: "▲", bad: "✕" };
  $("targets-section").hidden = targets.length === 0;
  setTable($("targets"), targetColumns, targets.map((t) => [
    t.service,
    { text: t.address, small: (t.name + " ").startsWith(t.address + " ") ?
      undefined : t.name },
    { text: `${marks[GRADES[t.health]]} ${t.health}`,
      small: t.backup ? "backup" : undefined,
      className: "health " + GRADES[t.health] },
    t.weight,
    t.max_connections === null ? count(t.connections) :
      { text: count(t.connections), meter: [t.connections, t.max_connections] },
    count(t.dialled),
    count(t.failures),
  ]));
}

function setAbout(answer) {
  const plural = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
  setText($("version"), answer.version);
  setText($("about"), [`up ${duration(answer.uptime)}`, `pid ${answer.pid}`,
    plural(answer.workers, "worker"), `configuration ${answer.generation}`,
    ...answer.log_lost > 0 ?
      [`${plural(answer.log_lost, "line")} of the log lost`] : []].join(" · "));
}

function setLive(text, grade) {
  setText($("live"), text);
  $("live").className = grade;
}

/* -- asking ------------------------------------------------------------------ */

let since = Date.now(); // the last answer

async function ask() {
  try {
    const response = await fetch("status.json",
      { signal: AbortSignal.timeout(PATIENCE), cache: "no-store" });
    if (!response.ok)
      throw new Error(`${response.status} ${response.statusText}`);
    const answer = await response.json();
    since = Date.now();
    remember(since, answer);
    setLive("live", "good");
    setAbout(answer);
    setTiles(answer);
    setServices(answer);
    setTargets(answer);
  } catch (error) {
    remember(Date.now(), null);
    setLive(`no answer since ${clock(since, true)}`, "bad");
    $("live").title = String(error);
  }
  if (!paused)
    draw();
  setTimeout(ask, Math.max(EVERY - (Date.now() - since), EVERY / 4));
}

/* -- the page ----------------------------------------------------------------- */

function makeCard(title, unit) {
  const time = element("span");
  const canvas = element("canvas");
  const legend = element("ul", { className: "legend" });
  const card = element("article", { className: "card" },
    element("h3", {}, title, " ", element("span", {}, unit), time), canvas,
    legend);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Plot: ${title}, ${unit}`);
  $("plots").append(card);
  return { card, canvas, legend, time };
}

function pointAt(parts) {
  parts.canvas.addEventListener("pointermove", (event) => {
    const { from, to } = view();
    const { left } = parts.canvas.getBoundingClientRect();
    const { area } = parts;
    pointed = from + (event.clientX - left - area.left) / area.width *
      (to - from);
    draw();
  });
  parts.canvas.addEventListener("pointerleave", () => {
    pointed = null;
    draw();
  });
}

function makePage() {
  for (const plot of plots) {
    Object.assign(plot, makeCard(plot.title, plot.unit));
    pointAt(plot);
  }
  Object.assign(health, makeCard("Targets", "over time"));
  health.card.hidden = true;
  health.card.classList.add("whole");
  for (const [text, color] of [["up or unchecked", "good"],
    ["failing, left alone for a while", "warn"], ["down", "bad"]])
    health.legend.append(element("li", {}, swatch(color), text));
  pointAt(health);
  for (const [text, seconds] of SPANS) {
    const input = element("input", { type: "radio", name: "span",
      checked: seconds === span });
    input.addEventListener("change", () => {
      span = seconds;
      draw();
    });
    $("spans").append(element("label", {}, input, text));
  }
  $("pause").addEventListener("click", () => {
    paused = paused ? false : Date.now();
    $("pause").setAttribute("aria-pressed", String(Boolean(paused)));
    draw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    style = null;
    draw();
  });
  new ResizeObserver(draw).observe($("plots"));
}

makePage();
ask();
