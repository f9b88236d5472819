
"use strict";
(() => {
  // ---- the data, and the few helpers everything is made with

  const data = JSON.parse(document.getElementById("data").textContent);
  const T = 0, SINCE = 1, KIND = 2, PHASE = 3, LAYER = 4, NAME = 5, WAY = 6, FACTS = 7, SIZE = 8, COUNT = 9,
    CONTENT = 10, LAST = 11, MARKS = 12, DETAIL = 13;
  const $ = (id) => document.getElementById(id);

  function add(parent, name, attributes, ...children) {
    const made = document.createElement(name);
    fill(made, attributes, children);
    if (parent) parent.append(made);
    return made;
  }

  function draw(parent, name, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    fill(made, attributes, children);
    if (parent) parent.append(made);
    return made;
  }

  function fill(element, attributes, children) {
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
    }
    for (const child of children) if (child !== "" && child !== null) element.append(child);
  }

  function time(ms) {
    if (ms <= 0) return "0 ms";
    if (ms >= 120000) return `${Math.floor(ms / 60000)} min ${Math.round(ms % 60000 / 1000)} s`;
    if (ms >= 1000) return `${(ms / 1000).toFixed(ms >= 10000 ? 1 : 2)} s`;
    return ms >= 100 ? `${ms.toFixed(0)} ms` : ms >= 1 ? `${ms.toFixed(1)} ms` : `${(ms * 1000).toFixed(0)} µs`;
  }

  function size(bytes) {
    if (bytes < 1000) return `${bytes} B`;
    const unit = bytes < 999950 ? 1 : bytes < 999950000 ? 2 : 3;
    return `${(bytes / 1000 ** unit).toFixed(1)} ${["", "kB", "MB", "GB"][unit]}`;
  }

  const CALM = new Set(["program", "idle", "person"]);  // told for completeness: nothing is wrong with them
  const short = (name) => name.replace(/^SSH_(MSG_)?/, "");
  const wayOf = (row) => (row[WAY] < 0 ? "state" : row[WAY] ? "sent" : "received");

  // ---- what is shown

  let at = 0;            // number of the connection
  let it = null;         // the connection
  let from = 0, to = 1;  // what the time line shows, in ms
  let whole = [0, 1];
  let items = [];        // the elements of the list, by row
  let matching = null;   // rows that the filter leaves, or null for all
  let chosen = -1;

  const ends = () => (it.role === "server" ? ["server", "client"] : ["client", "server"]);
  const words = () => ({
    peer: `waiting for the ${ends()[1]}`,
    own: it.role === "network" ? "the client's own time" : `computing here (${ends()[0]})`,
    person: "a person at a prompt",
    held: "waiting for an acknowledgement",
  });

  function open(number) {
    at = number;
    it = data.connections[number];
    const start = it.rows.length ? Math.min(...it.rows.map((row) => row[SINCE])) : 0;
    whole = [start, Math.max(start + it.took, start + 0.01)];
    const margin = (whole[1] - whole[0]) * 0.006;
    whole = [whole[0] - margin, whole[1] + margin];
    [from, to] = whole;
    chosen = -1;
    matching = null;
    head();
    tables();
    legend();
    list();
    filter();
    redraw();
  }

  // ---- the head and the tables

  function head() {
    const [us, them] = ends();
    const who = $("who");
    who.replaceChildren();
    const arrow = us === "client" ? " → " : " ← ";
    add(who, "b", {}, `${us} ${it.software}`.trim());
    who.append(arrow);
    add(who, "b", {}, `${them} ${it.peer_software}`.trim());
    const place = [it.peer, it.wall ? new Date(it.wall * 1000).toLocaleString() : ""].filter(Boolean);
    if (place.length) who.append("  ·  ", place.join("  ·  "));
    const said = it.sentence.replace(/ %/g, "\u00a0%").replace(/(\d) (ms|s|min)\b/g, "$1\u00a0$2");
    const [lead, rest] = [said.split(": ")[0], said.split(": ").slice(1).join(": ")];
    $("sentence").replaceChildren();
    add($("sentence"), "span", { class: "lead" }, rest ? `${lead}:` : lead);
    if (rest) $("sentence").append(` ${rest}`);
    $("error").hidden = !it.error;
    $("error").textContent = it.error;
    const problems = [...data.problems];
    if (data.left_out) problems.push(`${data.left_out} more connections were left out of this page.`);
    $("problems").hidden = !problems.length;
    $("problems").replaceChildren(...problems.map((text) => add(null, "li", {}, text)));
  }

  function legend() {
    const shown = new Set(it.spans.map((span) => span[2]));
    const entries = Object.entries(words()).filter(([kind]) => !["person", "held"].includes(kind) || shown.has(kind));
    const list = $("legend");
    list.replaceChildren();
    for (const [kind, text] of entries) add(list, "li", {}, add(null, "span", { class: `swatch ${kind}` }), text);
    if (it.stalls.length) add(list, "li", {}, add(null, "span", { class: "swatch stall" }), "stall");
    add(list, "li", {}, add(null, "span", { class: "swatch trip" }, "1"), "round trip");
  }

  function tables() {
    const table = $("phases");
    table.replaceChildren();
    const top = add(add(table, "thead"), "tr");
    const heads = ["phase", "ms", "waiting", it.role === "network" ? "client" : "here", ""];
    heads.forEach((text, i) => add(top, "th", { class: i && i < 4 ? "n" : null, scope: "col" }, text));
    const body = add(table, "tbody");
    const most = Math.max(...it.phases.map((phase) => phase.ms), 0.001);
    for (const phase of it.phases) {
      const line = add(body, "tr");
      add(line, "td", {}, phase.title);
      for (const value of [phase.ms, phase.waiting_ms, phase.own_ms]) add(line, "td", { class: "n" }, value.toFixed(1));
      const split = add(add(line, "td", { class: "share" }), "div", { class: "split" });
      for (const [kind, value] of [["peer", phase.waiting_ms], ["own", phase.own_ms]]) {
        add(split, "i", { class: kind }).style.width = `${value / most * 100}%`;
      }
    }
    const sum = (name) => it.phases.reduce((total, phase) => total + phase[name], 0).toFixed(1);
    const foot = add(add(table, "tfoot"), "tr");
    add(foot, "td", {}, "total");
    for (const name of ["ms", "waiting_ms", "own_ms"]) add(foot, "td", { class: "n" }, sum(name));
    add(foot, "td", { class: "share" });
    const rekeys = it.rekeys ? ` · ${it.rekeys} key re-exchange${it.rekeys > 1 ? "s" : ""}` : "";
    $("totals").textContent = `sent ${it.messages.sent} messages, ${size(it.bytes.sent)} · `
      + `received ${it.messages.received}, ${size(it.bytes.received)}${rekeys}`;
    stallList();
    algorithms();
  }

  function stallList() {
    const list = $("stalls");
    list.replaceChildren();
    const rank = (stall) => (CALM.has(stall[2]) ? 0 : 1e9) + stall[1] - stall[0];
    for (const [began, ended, kind, title, evidence, sure] of [...it.stalls].sort((a, b) => rank(b) - rank(a))) {
      const line = add(list, "li", { class: CALM.has(kind) ? "calm" : null });
      add(line, "span", { class: "took" }, time(ended - began));
      const text = add(line, "div");
      const button = add(text, "button", { type: "button" }, title);
      button.addEventListener("click", () => { look(began - (ended - began) * 0.6, ended + (ended - began) * 0.6); $("stage").focus(); });
      add(text, "span", { class: "sure" }, sure);
      add(text, "p", {}, evidence);
    }
    if (!it.stalls.length) add(list, "li", { class: "none" }, "None found: every stretch is explained by the line or too short to matter.");
  }

  function algorithms() {
    $("agreed").hidden = !it.algorithms.length;
    const table = $("algorithms");
    table.replaceChildren();
    const names = { kex: "key exchange", host_key: "host key", cipher: "cipher", mac: "MAC", compression: "compression" };
    const seen = new Map(it.algorithms.map(([name, value, why]) => [name, `${value}\n${why}`]));
    for (const [name, value, why] of it.algorithms) {
      const [kind, way] = name.endsWith("_c2s") ? [name.slice(0, -4), "c2s"] : name.endsWith("_s2c") ? [name.slice(0, -4), "s2c"] : [name, ""];
      const same = way && seen.get(`${kind}_c2s`) === seen.get(`${kind}_s2c`);
      if (same && way === "s2c") continue;
      const line = add(table, "tr");
      add(line, "td", {}, names[kind] + (way && !same ? { c2s: " to server", s2c: " to client" }[way] : ""));
      add(line, "td", {}, value);
      add(line, "td", {}, why);
    }
    if (it.algorithms.length) {
      const line = add(table, "tr");
      add(line, "td", {}, "strict kex");
      add(line, "td", {}, it.strict ? "yes" : "no");
      add(line, "td", {}, it.strict ? "both sides asked for it" : "one side did not ask for it");
    }
  }

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

  // ---- the list of messages

  function list() {
    const rows = $("rows");
    rows.replaceChildren();
    watcher.disconnect();
    near.clear();
    items = [];
    const ending = new Map();
    it.trips.forEach((trip) => ending.set(`${trip[3]}@${trip[4]}`, trip[0]));
    const stalls = [...it.stalls].sort((a, b) => a[1] - b[1]);
    let phase = null, here = null, crypt = false;
    it.rows.forEach((row, index) => {
      if (row[PHASE] !== phase) {
        phase = row[PHASE];
        const found = it.phases.find((each) => each.number === phase);
        add(rows, "h3", {}, found ? found.title : String(phase), add(null, "span", {}, found ? time(found.ms) : ""));
        here = add(rows, "ol", { class: "rows" });
      }
      while (stalls.length && stalls[0][1] <= row[T]) note(here, stalls.shift());
      if (it.dropped && index === it.head) plain(here, `${it.dropped} messages left out`);
      const name = row[NAME] === "connected" ? "connect done" : row[NAME];
      const trip = ending.get(`${row[NAME]}@${row[T]}`) || ending.get(`${tcp(row)}@${row[T]}`);
      items.push(line(here, row, index, name, trip));
      if (trip) { ending.delete(`${row[NAME]}@${row[T]}`); ending.delete(`${tcp(row)}@${row[T]}`); }
      if (!crypt && row[NAME] === "new keys in use both ways") { crypt = true; plain(here, "everything encrypted from here"); }
    });
    stalls.forEach((stall) => here && note(here, stall));
    const select = $("phase");
    select.replaceChildren(add(null, "option", { value: "" }, "every phase"));
    it.phases.forEach((each) => add(select, "option", { value: each.number }, each.title));
  }

  const tcp = (row) => ({ "connect done": "connected", "connection accepted": "connected" }[row[NAME]] || row[NAME]);

  function note(here, [began, ended, kind, title, evidence, sure]) {
    const made = add(here, "li", { class: CALM.has(kind) ? "note calm" : "note" });
    add(made, "b", {}, `${time(ended - began)} · ${title}`);
    add(made, "span", {}, `${evidence} (${sure})`);
  }

  function plain(here, text) { add(here, "li", { class: "note plain" }, text); }

  function line(here, row, index, name, trip) {
    const item = add(here, "li", { id: anchor(index) });
    const way = row[WAY] < 0 ? "·" : row[WAY] ? "→" : "←";
    const took = row[T] - row[SINCE];
    const button = add(item, "button", { type: "button", class: `line${row[WAY] < 0 ? " state" : ""}`, "aria-expanded": "false" });
    add(button, "span", { class: "n time" }, row[T].toFixed(row[T] < 100000 ? 1 : 0));
    add(button, "span", { class: "n delta" }, took >= 0.05 ? `+${took.toFixed(1)}` : "");
    add(button, "span", { class: "way" }, way);
    add(button, "span", { class: "out" }, wayOf(row));
    add(button, "span", { class: "n size" }, row[SIZE] ? size(row[SIZE]) : "");
    add(button, "span", { class: "layer" }, row[LAYER]);
    const what = add(button, "span", { class: "what" });
    add(what, "b", {}, row[COUNT] > 1 ? `${row[COUNT]} × ${name}` : name);
    if (trip) add(what, "span", { class: "badge", title: `round trip ${trip} ends here` }, String(trip));
    const bulk = row[CONTENT] ? `${name.endsWith("ADJUST") ? "+" : ""}${size(row[CONTENT])}` : "";
    const facts = [row[FACTS], bulk, row[COUNT] > 1 ? `in ${time(row[LAST] - row[T])}` : ""].filter(Boolean).join(" ");
    if (facts) add(what, "span", {}, facts);
    item.pieces = bars(add(button, "span", { class: "bar", "aria-hidden": "true" }), row);
    watcher.observe(item);
    button.addEventListener("click", () => choose(index, false));
    button.title = facts.length > 60 ? facts : "";
    return item;
  }

  function bars(bar, row) {
    const pieces = [];
    const piece = (name, a, b) => pieces.push([add(bar, "i", { class: name }), a, b]);
    if (row[T] > row[SINCE]) piece(row[KIND], row[SINCE], row[T]);
    else piece("point", row[T], row[T]);
    if (row[COUNT] > 1) piece("run", row[T], row[LAST]);
    return pieces;
  }

  // Only what is near the window is placed anew when the time line moves: there may be thousands.
  const near = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) { near.add(entry.target); place(entry.target); } else near.delete(entry.target);
    }
  }, { rootMargin: "800px" });

  function place(item) {
    for (const [bar, a, b] of item.pieces || []) {
      bar.style.left = `${clip((a - from) / (to - from) * 100, -1, 101)}%`;
      bar.style.width = `${clip((b - Math.max(a, from)) / (to - from) * 100, 0, 102)}%`;
    }
  }

  function axis() {
    near.forEach(place);
    $("axis").replaceChildren(add(null, "span", {}, time(Math.max(from, 0))), add(null, "span", {}, time(to)));
  }

  const anchor = (index) => (data.connections.length > 1 ? `c${data.connections[at].stream}m${index + 1}` : `m${index + 1}`);

  function choose(index, scroll) {
    const item = items[index];
    if (!item) return;
    const button = item.querySelector("button");
    const shut = !scroll && button.getAttribute("aria-expanded") === "true";
    if (shut) {
      item.querySelector(".detail")?.remove();
      button.setAttribute("aria-expanded", "false");
      chosen = -1;
      history.replaceState(null, "", location.pathname + location.search);
    } else {
      if (!item.querySelector(".detail")) detail(item, it.rows[index]);
      button.setAttribute("aria-expanded", "true");
      chosen = index;
      history.replaceState(null, "", `#${anchor(index)}`);
    }
    if (scroll) {
      item.classList.remove("off");
      item.scrollIntoView({ block: "center" });
      button.focus({ preventScroll: true });
    }
    soon();
  }

  // ---- what a message opens to

  function detail(item, row) {
    const told = row[DETAIL];
    const box = add(item, "div", { class: "detail" });
    const meta = add(box, "ul", { class: "meta" });
    const say = (name, value) => { if (value !== "" && value !== undefined) add(meta, "li", {}, `${name} `, add(null, "b", {}, String(value))); };
    say("at", `${row[T].toFixed(3)} ms`);
    if (row[T] > row[SINCE]) say("after", `${time(row[T] - row[SINCE])} ${words()[row[KIND]] || ""}`.trim());
    if (told.number !== undefined) {
      say("number", told.number);
      if (told.clause) clause(add(meta, "li", {}), told.clause);
      say("sequence", told.seq);
      say("epoch", told.epoch === undefined ? "" : told.epoch ? `${told.epoch}, encrypted` : "0, in clear");
      say("payload", `${told.length} B`);
      if (told.wire) say("on the wire", `${told.wire} B (packet ${told.packet}, padding ${told.padding})`);
    }
    if (told.frames) say(told.frames[0] === told.frames[1] ? "frame" : "frames", [...new Set(told.frames)].join("–"));
    if (told.verified !== undefined) say("MAC or tag", told.verified ? "right" : "WRONG");
    if (row[COUNT] > 1) say("of", `${row[COUNT]} messages; the first is shown`);
    const inside = add(box, "div", { class: "inside" });
    if (told.facts) facts(inside, told.facts);
    if (told.fields && told.fields.length) fields(inside, told);
    else if (told.number !== undefined) add(inside, "p", { class: "none" }, "Too many messages: the fields of this one were left out.");
    else if (!told.facts) add(inside, "p", { class: "none" }, "One of a run of messages: only the first are kept with their fields.");
  }

  function clause(place, text) {
    const found = /^RFC (\d+) ([\d.]+)$/.exec(text);
    if (!found) { place.append(text); return; }
    const href = `https://www.rfc-editor.org/rfc/rfc${found[1]}#section-${found[2]}`;
    add(place, "a", { href, rel: "noreferrer noopener", target: "_blank" }, `RFC ${found[1]} §${found[2]}`);
  }

  function facts(inside, pairs) {
    const list = add(inside, "ul", { class: "fields" });
    for (const [name, value] of pairs) {
      const entry = add(list, "li");
      add(entry, "span", { class: "f" }, name);
      add(entry, "span", { class: "t" }, "");
      add(entry, "span", { class: "v" }, value);
    }
    if (!pairs.length) add(list, "li", { class: "none" }, "nothing more is told");
  }

  function fields(inside, told) {
    const list = add(inside, "ul", { class: "fields", "aria-label": "Fields" });
    const bytes = hex(told);
    for (const [depth, name, type, text, start, end, , secret] of told.fields) {
      const entry = add(list, "li", { tabindex: 0 });
      const left = add(entry, "span", { class: "f" }, name);
      left.style.paddingLeft = `${depth * 14}px`;
      add(entry, "span", { class: "t" }, type);
      breakable(add(entry, "span", { class: secret ? "v secret" : "v" }), text);
      const mark = (on) => () => {
        entry.classList.toggle("on", on);
        for (let n = start; n < end && n < bytes.length; n += 1) bytes[n].classList.toggle("on", on);
      };
      ["mouseenter", "focus"].forEach((event) => entry.addEventListener(event, mark(true)));
      ["mouseleave", "blur"].forEach((event) => entry.addEventListener(event, mark(false)));
      entry.title = end > start ? `bytes ${start} to ${end - 1}` : "no bytes";
    }
    if (bytes.length) inside.append(bytes.box);
  }

  function breakable(place, text) {  // a list of names is broken after its commas
    text.split(/(?<=,)/).forEach((part, n) => { if (n) add(place, "wbr"); place.append(part); });
  }

  function hex(told) {
    const per = innerWidth < 700 ? 8 : 16;
    const bytes = told.hex.match(/../g) || [];
    const box = add(null, "pre", { class: "hex", tabindex: 0, role: "group", "aria-label": "Bytes of the payload" });
    const cells = [];
    const printable = (byte) => { const code = parseInt(byte, 16); return code > 32 && code < 127 ? String.fromCharCode(code) : "·"; };
    for (let n = 0; n < bytes.length; n += per) {
      const part = bytes.slice(n, n + per);
      add(box, "span", { class: "at" }, `${n.toString(16).padStart(4, "0")}  `);
      part.forEach((byte, k) => { cells.push(add(box, "b", {}, byte)); box.append(k === per / 2 - 1 ? "  " : " "); });
      box.append(" ".repeat((per - part.length) * 3 + (part.length < per / 2 ? 1 : 0) + 1), part.map(printable).join(""), "\n");
    }
    const left = told.length - bytes.length;
    if (left > 0) add(box, "span", { class: "at" }, `      ${left} bytes more are not shown`);
    cells.box = box;
    return cells;
  }

  // ---- search and filter

  function haystack(row) {
    if (row.hay === undefined) {
      const told = row[DETAIL];
      const texts = [row[NAME], row[FACTS], row[LAYER], ...(told.fields || []).flatMap((each) => [each[1], each[3]]), ...(told.facts || []).flat()];
      row.hay = texts.join("\n").toLowerCase();
    }
    return row.hay;
  }

  function filter() {
    const wanted = $("find").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const way = $("way").value, phase = $("phase").value;
    const passes = (row) => (way === "" || (way === "m" ? row[WAY] >= 0 : String(row[WAY]) === way))
      && (phase === "" || String(row[PHASE]) === phase) && wanted.every((word) => haystack(row).includes(word));
    const all = !wanted.length && way === "" && phase === "";
    matching = all ? null : new Set();
    it.rows.forEach((row, index) => {
      const on = all || passes(row);
      if (on && !all) matching.add(index);
      items[index].classList.toggle("off", !on);
    });
    document.querySelectorAll("#rows .note").forEach((each) => { each.hidden = !all; });
    document.querySelectorAll("#rows ol").forEach((group) => {
      const some = all || [...group.children].some((each) => !each.classList.contains("off") && !each.classList.contains("note"));
      group.hidden = !some;
      group.previousElementSibling.hidden = !some;
    });
    $("count").textContent = all ? `${it.rows.length} lines` : `${matching.size} of ${it.rows.length} lines`;
    soon();
  }

  // ---- the rest: theme, links, keys, printing

  function theme() {
    const names = { "": "automatic", light: "light", dark: "dark" };
    let now = "";
    try { now = localStorage.getItem("glasshell-theme") || ""; } catch { /* a page without storage forgets it */ }
    const show = () => {
      if (now) document.documentElement.dataset.theme = now;
      else delete document.documentElement.dataset.theme;
      $("theme").textContent = `theme: ${names[now]}`;
    };
    $("theme").addEventListener("click", () => {
      now = { "": "dark", dark: "light", light: "" }[now] ?? "";
      try { localStorage.setItem("glasshell-theme", now); } catch { /* as above */ }
      show();
    });
    if (!(now in names)) now = "";
    show();
  }

  function follow() {
    const found = /^#(?:c(\d+))?m(\d+)$/.exec(location.hash);
    if (!found) return;
    const wanted = found[1] === undefined ? at : data.connections.findIndex((each) => String(each.stream) === found[1]);
    if (wanted < 0) return;
    if (wanted !== at) { open(wanted); $("connection").value = wanted; }
    choose(Number(found[2]) - 1, true);
  }

  function start() {
    theme();
    if (!data.connections.length) {
      $("sentence").textContent = "No connection was seen.";
      document.querySelectorAll(".panel").forEach((panel) => { panel.hidden = true; });
      return;
    }
    $("which").hidden = data.connections.length < 2;
    data.connections.forEach((each, n) => add($("connection"), "option", { value: n }, `${each.stream}: ${each.peer || each.peer_software || "?"} · ${each.sentence.split(":")[0]}`));
    $("connection").addEventListener("change", (event) => { history.replaceState(null, "", location.pathname + location.search); open(Number(event.target.value)); });
    $("zoom-in").addEventListener("click", () => zoom(0.6));
    $("zoom-out").addEventListener("click", () => zoom(1 / 0.6));
    $("zoom-all").addEventListener("click", () => look(...whole));
    $("zoom-login").addEventListener("click", () => look(whole[0], login() * 1.02));
    let typing = 0;
    $("find").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(filter, 80); });
    $("way").addEventListener("change", filter);
    $("phase").addEventListener("change", filter);
    pointers();
    addEventListener("keydown", (event) => {
      const writing = /^(INPUT|SELECT)$/.test(document.activeElement?.tagName || "");
      if (event.key === "/" && !writing) { event.preventDefault(); $("find").focus(); }
      if (event.key === "Escape" && document.activeElement === $("find")) { $("find").value = ""; filter(); $("find").blur(); }
      if (["ArrowDown", "ArrowUp"].includes(event.key) && document.activeElement?.classList.contains("line")) {
        event.preventDefault();
        const lines = items.filter((item) => !item.classList.contains("off"));
        const next = lines.indexOf(document.activeElement.parentElement) + (event.key === "ArrowDown" ? 1 : -1);
        lines[next]?.querySelector("button").focus();
      }
    });
    addEventListener("resize", soon);
    addEventListener("hashchange", follow);
    let shown = null;  // paper has the whole connection
    addEventListener("beforeprint", () => { shown = [from, to]; [from, to] = whole; $("stage").style.width = "690px"; redraw(); items.forEach(place); });
    addEventListener("afterprint", () => { if (shown) [from, to] = shown; $("stage").style.width = ""; redraw(); });
    open(0);
    follow();
  }

  start();
})();
