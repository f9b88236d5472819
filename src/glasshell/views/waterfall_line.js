
// Second part: the time line, and moving about on it.

// ---- the time line

const pen = document.createElement("canvas").getContext("2d");
const widths = new Map();
let family = "";

function width(text, px, weight = 400) {
  const key = `${weight} ${px} ${text}`;
  let found = widths.get(key);
  if (found === undefined) {
    family = family || getComputedStyle(document.body).fontFamily;
    pen.font = `${weight} ${px}px ${family}`;
    found = pen.measureText(text).width;
    if (widths.size < 20000) widths.set(key, found);
  }
  return found;
}

let hits = [];  // [x, row] of what was drawn, by x

function redraw() {
  const stage = $("stage");
  hide();
  const wide = Math.max(stage.clientWidth, 280);
  const gutter = wide < 640 ? 0 : 112;
  const x = (ms) => gutter + (ms - from) / (to - from) * (wide - gutter);
  const svg = draw(null, "svg", { width: wide, role: "img", "aria-label": it.sentence });
  patterns(svg);
  const rows = wide < 640 ? 1 : 2;
  const lane = 14 + rows * 13;
  const y = { ruler: 0, band: 20, sent: 48 + (gutter ? 0 : 12) };
  y.spine = y.sent + lane;
  y.received = y.spine + 24;
  y.stalls = y.received + lane + (gutter ? 4 : 22);
  ruler(svg, x, wide, gutter);
  bands(svg, x, y, wide, gutter);
  spine(svg, x, y, gutter, wide);
  hits = [];
  const ticks = visibleTicks(x);
  lanes(svg, ticks, y, rows, wide);
  const depth = stalls(svg, x, y, wide, gutter);
  const trips = y.stalls + (depth ? depth * 19 + 6 : 0) + (gutter ? 0 : 12);
  roundTrips(svg, x, trips, wide, gutter);
  laneNames(svg, y, trips, gutter, lane, depth);
  draw(svg, "line", { class: "cross", id: "cross", y1: y.band, y2: trips + 22, x1: -9, x2: -9 });
  svg.setAttribute("height", trips + 26);
  svg.setAttribute("viewBox", `0 0 ${wide} ${trips + 26}`);
  stage.replaceChildren(svg);
  stage.dataset.gutter = gutter;
  overview(wide);
  $("range").textContent = `${time(Math.max(from, 0))} – ${time(to)}`;
  axis();
}

function patterns(svg) {
  const made = draw(svg, "defs");
  const hatch = draw(made, "pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  draw(hatch, "rect", { class: "h-back", width: 6, height: 6 });
  draw(hatch, "line", { class: "h-line", x1: 1, x2: 1, y1: 0, y2: 6 });
  const held = draw(made, "pattern", { id: "held", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(-45)" });
  draw(held, "rect", { class: "k-back", width: 6, height: 6 });
  draw(held, "line", { class: "k-line", x1: 1, x2: 1, y1: 0, y2: 6 });
  const dots = draw(made, "pattern", { id: "dots", width: 6, height: 6, patternUnits: "userSpaceOnUse" });
  draw(dots, "rect", { class: "d-back", width: 6, height: 6 });
  draw(dots, "circle", { class: "d-dot", cx: 3, cy: 3, r: 1.3 });
}

function step(span, count) {
  const rough = span / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((n) => n * power).find((value) => value >= rough);
}

function ruler(svg, x, wide, gutter) {
  const by = step(to - from, (wide - gutter) / 90);
  const digits = Math.max(0, -Math.floor(Math.log10(by) + 1e-9));
  const unit = by >= 1000 ? 1000 : 1;
  for (let n = Math.ceil(from / by); n * by <= to; n += 1) {
    const ms = n * by;
    if (x(ms) < gutter - 0.5) continue;
    draw(svg, "line", { class: "rule", x1: x(ms), x2: x(ms), y1: 15, y2: 400 });
    const text = unit === 1000 ? `${(ms / 1000).toFixed(Math.max(0, digits - 3))} s` : `${ms.toFixed(digits)} ms`;
    const middle = x(ms) < gutter + 18 ? "start" : x(ms) > wide - 24 ? "end" : "middle";
    draw(svg, "text", { class: "soft", x: x(ms), y: 11, "text-anchor": middle }, text);
  }
}

function clip(value, low, high) { return Math.min(Math.max(value, low), high); }

function bands(svg, x, y, wide, gutter) {
  it.bands.forEach(([began, ended, number], index) => {
    const [left, right] = [clip(x(began), gutter, wide), clip(x(ended), gutter, wide)];
    if (right - left < 0.3) return;
    const title = it.phases.find((phase) => phase.number === number)?.title || String(number);
    const group = draw(svg, "g", { class: "band" });
    draw(group, "title", {}, `${title}: ${time(ended - began)}`);
    draw(group, "rect", { class: index % 2 ? "band-a" : "band-b", x: left, y: y.band, width: right - left, height: 380 });
    draw(group, "rect", { class: index % 2 ? "band-a" : "band-b", x: left, y: y.band, width: right - left, height: 18 });
    const text = [title, title.split(" ")[0]].find((each) => width(each, 11) + 8 < right - left);
    if (text) draw(group, "text", { x: left + 5, y: y.band + 13 }, text);
    group.addEventListener("click", () => { if (!moved) look(began - (ended - began) * 0.02, ended + (ended - began) * 0.02); });
  });
}

function spine(svg, x, y, gutter, wide) {
  let last = null;
  for (const [began, ended, kind] of it.spans) {
    const [left, right] = [clip(x(began), gutter, wide), clip(x(ended), gutter, wide)];
    if (ended < from || began > to || right <= left) continue;
    if (last && right - last.left < 0.7) continue;  // less than a pixel: the one before it stands for it
    last = { left };
    draw(svg, "rect", { class: `s-${kind}`, x: left, y: y.spine + 2, width: Math.max(right - left, 0.7), height: 20 });
  }
}

function visibleTicks(x) {
  const ticks = [];
  it.rows.forEach((row, index) => {
    if (row[LAST] < from || row[T] > to) return;
    const faint = matching !== null && !matching.has(index);
    const times = row[MARKS].length ? row[MARKS] : [row[T]];
    times.forEach((ms, n) => { if (ms >= from && ms <= to) ticks.push({ x: x(ms), index, row, faint, first: n === 0 || ticks.length === 0 }); });
  });
  return ticks.sort((a, b) => a.x - b.x);
}

const linked = () => new Set(it.trips.flatMap((trip) => [`${trip[1]}@${trip[2]}`, `${trip[3]}@${trip[4]}`]));

function lanes(svg, ticks, y, rows, wide) {
  const important = linked();
  for (const way of [1, 0, -1]) {
    const mine = ticks.filter((tick) => tick.row[WAY] === way);
    let column = -9;
    for (const tick of mine) {
      hits.push(tick);
      const pixel = Math.round(tick.x * 2);
      if (pixel === column && tick.index !== chosen) continue;
      column = pixel;
      mark(svg, tick, way, y);
    }
    if (way >= 0) labels(svg, mine, way, y, rows, wide, important);
  }
  hits.sort((a, b) => a.x - b.x);
}

function mark(svg, tick, way, y) {
  const look = `tick${tick.faint ? " faint" : ""}${tick.index === chosen ? " chosen" : ""}`;
  if (way < 0) {
    draw(svg, "circle", { class: `state${tick.faint ? " faint" : ""}${tick.index === chosen ? " chosen" : ""}`, cx: tick.x, cy: y.spine + 12, r: 2.6 });
  } else if (way) {
    draw(svg, "line", { class: look, x1: tick.x, x2: tick.x, y1: y.spine - 10, y2: y.spine + 2 });
  } else {
    draw(svg, "line", { class: look, x1: tick.x, x2: tick.x, y1: y.received - 2, y2: y.received + 10 });
  }
}

function labels(svg, ticks, way, y, rows, wide, important) {
  const taken = Array.from({ length: rows }, () => []);
  const rank = (tick) => (tick.index === chosen ? 0 : important.has(`${tick.row[NAME]}@${tick.row[T]}`) ? 1 : tick.row[COUNT] > 1 ? 3 : 2);
  const wanted = ticks.filter((tick) => tick.first && !tick.faint).slice(0, 4000).sort((a, b) => rank(a) - rank(b) || a.x - b.x);
  for (const tick of wanted) {
    const name = (tick.row[COUNT] > 1 ? `${tick.row[COUNT]} × ` : "") + short(tick.row[NAME]);
    const long = width(name, 10.5) + 9;
    const left = Math.min(tick.x, wide - long);
    const row = taken.findIndex((spans) => spans.every(([a, b]) => left + long < a || left > b));
    if (row < 0) continue;
    taken[row].push([left, left + long]);
    const line = way ? y.spine - 14 - row * 13 : y.received + 19 + row * 13;
    if (row) draw(svg, "line", { class: "leader", x1: tick.x, x2: tick.x, y1: way ? y.spine - 10 : y.received + 10, y2: way ? line + 2 : line - 9 });
    draw(svg, "text", { class: "label", x: left + 1, y: line }, name);
    for (const spans of taken.slice(0, row)) spans.push([tick.x - 2, tick.x + 2]);  // its leader is not written over
  }
}

function stalls(svg, x, y, wide, gutter) {
  const taken = [];
  for (const [began, ended, kind, title, evidence] of it.stalls) {
    if (ended < from || began > to) continue;
    const [left, right] = [clip(x(began), gutter, wide), clip(x(ended), gutter, wide)];
    const text = `${time(ended - began)} · ${title}`;
    const long = width(text, 11, CALM.has(kind) ? 400 : 600) + 8;
    const start = clip(left, gutter, Math.max(wide - long, gutter));
    let row = taken.findIndex((until) => until < Math.min(start, left));
    if (row < 0) { if (taken.length > 3) continue; row = taken.push(0) - 1; }
    taken[row] = Math.max(start + long, right);
    const line = y.stalls + row * 19;
    const group = draw(svg, "g", { class: CALM.has(kind) ? "calm" : null });
    draw(group, "title", {}, `${text}: ${evidence}`);
    draw(group, "rect", { class: "stall-box", x: left, y: y.spine, width: Math.max(right - left, 1.5), height: line + 4 - y.spine });
    draw(group, "path", { class: "stall-line", d: `M${left} ${line}v4H${Math.max(right, left + 1.5)}v-4` });
    draw(group, "text", { class: "stall-text", x: start + 1, y: line + 15 }, text);
  }
  return taken.length;
}

function roundTrips(svg, x, y, wide, gutter) {
  const shown = it.trips.filter((trip) => trip[4] >= from && trip[2] <= to);
  let pill = null;
  const pills = [];
  for (const [number, asked, began, answered, ended] of shown) {
    const [left, right] = [clip(x(began), gutter, wide), clip(x(ended), gutter, wide)];
    draw(svg, "path", { class: "trip-line", d: `M${left} ${y + 4}v10M${left} ${y + 9}H${right}M${right} ${y + 4}v10` });
    const middle = clip((left + right) / 2, gutter + 9, wide - 9);
    if (pill && middle - pill.right < 19) Object.assign(pill, { last: number, right: middle, ended, answered });
    else pills.push(pill = { first: number, last: number, left: middle, right: middle, asked, began, answered, ended });
  }
  for (const each of pills) {
    const text = each.first === each.last ? String(each.first) : `${each.first}–${each.last}`;
    const half = Math.max(width(text, 10.5) / 2 + 4.5, 8.5);
    const middle = clip((each.left + each.right) / 2, gutter + half, wide - half);
    const group = draw(svg, "g", {});
    draw(group, "title", {}, `round trip ${text}: ${short(each.asked)} → ${short(each.answered)}, ${time(each.ended - each.began)}`);
    draw(group, "rect", { class: "trip-dot", x: middle - half, y, width: half * 2, height: 17, rx: 8.5 });
    draw(group, "text", { class: "trip-text", x: middle, y: y + 12.5 }, text);
  }
}

function laneNames(svg, y, trips, gutter, lane, depth) {
  const [us, them] = ends();
  const names = [[y.spine - 12, `${us} → ${them}`], [y.received + 20, `${them} → ${us}`]];
  if (gutter) names.push([y.spine + 16, "time"], [trips + 12.5, "round trips"], [y.band + 13, "phase"]);
  if (gutter && depth) names.push([y.stalls + 13, "stalls"]);
  if (gutter) draw(svg, "rect", { x: 0, y: 16, width: gutter - 4, height: 400, fill: "var(--panel)" });
  else names.forEach((each, i) => { each[0] = i ? y.stalls - 8 : y.band + 32; });
  for (const [line, text] of names) draw(svg, "text", { class: "lane-name", x: 0, y: line }, text);
}

function overview(wide) {
  const all = from <= whole[0] + 1e-9 && to >= whole[1] - 1e-9;
  $("overview").classList.toggle("on", !all);
  const x = (ms) => (ms - whole[0]) / (whole[1] - whole[0]) * wide;
  const svg = draw(null, "svg", { width: wide, height: 20, viewBox: `0 0 ${wide} 20` });
  let column = -1;
  for (const [began, ended, kind] of it.spans) {
    if (x(ended) - column < 0.7) continue;
    column = x(ended);
    draw(svg, "rect", { class: `s-${kind}`, x: x(began), y: 5, width: Math.max(x(ended) - x(began), 0.7), height: 10 });
  }
  draw(svg, "rect", { class: "window", x: x(from), y: 1, width: Math.max(x(to) - x(from), 3), height: 18, rx: 3 });
  $("overview").replaceChildren(svg);
}

function look(began, ended) {
  const least = 0.02;  // 20 µs: records are told to the microsecond
  let span = Math.max(ended - began, least);
  span = Math.min(span, whole[1] - whole[0]);
  from = clip((began + ended) / 2 - span / 2, whole[0], whole[1] - span);
  to = from + span;
  soon();
}

let waiting = false;
function soon() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; redraw(); });
}

const login = () => Math.max(0, ...it.bands.filter((band) => band[2] < 5).map((band) => band[1]));
const zoom = (factor, around = (from + to) / 2) => look(around - (around - from) * factor, around + (to - around) * factor);
const pan = (share) => { const by = (to - from) * share; look(from + by, to + by); };
const msAt = (clientX) => {
  const box = $("stage").getBoundingClientRect();
  const gutter = Number($("stage").dataset.gutter);
  return from + clip((clientX - box.left - gutter) / (box.width - gutter), 0, 1) * (to - from);
};

function nearest(clientX, clientY) {
  const box = $("stage").getBoundingClientRect();
  const x = clientX - box.left, y = clientY - box.top;
  const spine = Number($("stage").querySelector("[class^=s-]")?.getAttribute("y") || 80) + 10;
  const side = y < spine - 12 ? 1 : y > spine + 12 ? 0 : null;
  let best = null, least = 12;
  for (const tick of hits) {
    const off = Math.abs(tick.x - x) + (side !== null && tick.row[WAY] !== side ? 6 : 0);
    if (off < least) { least = off; best = tick; }
  }
  return best;
}

// ---- moving about on the time line

let moved = false;
const fingers = new Map();

function pointers() {
  const stage = $("stage");
  let grabbed = null;
  stage.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, event.clientX);
    grabbed = { x: event.clientX, from, to };
    moved = false;
  });
  addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    const before = [...fingers.values()];
    fingers.set(event.pointerId, event.clientX);
    const after = [...fingers.values()];
    if (after.length === 2) {
      const spread = (pair) => Math.max(Math.abs(pair[0] - pair[1]), 10);
      moved = true;
      zoom(spread(before) / spread(after), msAt((after[0] + after[1]) / 2));
    } else if (grabbed && Math.abs(event.clientX - grabbed.x) > 3) {
      moved = true;
      stage.classList.add("moving");
      hide();
      const by = (event.clientX - grabbed.x) / stage.clientWidth * (grabbed.to - grabbed.from);
      look(grabbed.from - by, grabbed.to - by);
    }
  });
  const release = (event) => { fingers.delete(event.pointerId); grabbed = null; stage.classList.remove("moving"); };
  addEventListener("pointerup", release);
  addEventListener("pointercancel", release);
  stage.addEventListener("click", (event) => {
    stage.focus({ preventScroll: true });
    const tick = moved ? null : nearest(event.clientX, event.clientY);
    if (tick && !event.target.closest(".band > text")) { event.stopPropagation(); choose(tick.index, true); }
  }, true);
  stage.addEventListener("mousemove", (event) => { if (!event.buttons) hover(event); });
  stage.addEventListener("mouseleave", hide);
  stage.addEventListener("wheel", (event) => {
    if (!(event.ctrlKey || event.metaKey || document.activeElement === stage)) return;
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan(event.deltaX / 900);
    else zoom(Math.exp(clip(event.deltaY, -120, 120) / 300), msAt(event.clientX));
  }, { passive: false });
  stage.addEventListener("keydown", (event) => {
    const act = { "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), 0: () => look(...whole), ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), Home: () => look(whole[0], whole[0] + to - from), End: () => look(whole[1] - to + from, whole[1]) }[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
  const jump = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const box = $("overview").getBoundingClientRect();
    const ms = whole[0] + (event.clientX - box.left) / box.width * (whole[1] - whole[0]);
    look(ms - (to - from) / 2, ms + (to - from) / 2);
  };
  $("overview").addEventListener("pointerdown", jump);
  $("overview").addEventListener("pointermove", jump);
}

function hover(event) {
  const tick = nearest(event.clientX, event.clientY);
  const cross = document.getElementById("cross");
  if (!tick) { hide(); return; }
  if (cross) { cross.setAttribute("x1", tick.x); cross.setAttribute("x2", tick.x); }
  const tip = $("tip"), row = tick.row;
  tip.replaceChildren();
  add(tip, "b", {}, `${row[COUNT] > 1 ? `${row[COUNT]} × ` : ""}${row[NAME]}`);
  const length = row[SIZE] ? ` · ${size(row[SIZE])}` : "";
  tip.append(`${time(row[T])} · ${wayOf(row)}${length}${row[FACTS] ? ` · ${row[FACTS]}` : ""}`);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${clip(event.clientX + 14, 4, innerWidth - box.width - 6)}px`;
  tip.style.top = `${event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 12 : event.clientY + 18}px`;
}

function hide() {
  $("tip").hidden = true;
  const cross = document.getElementById("cross");
  if (cross) { cross.setAttribute("x1", -9); cross.setAttribute("x2", -9); }
}
