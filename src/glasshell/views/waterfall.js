
// The page's program, first of three parts that are joined into one module: what is shown, head and tables.

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
