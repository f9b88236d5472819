
// Third part: the list of messages, what they open to, search, and the start.

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
