// The timeline's report: what is shown of each turn, playing, correcting, and the table to download.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const audio = document.querySelector("audio");
const list = find("turns");
const editor = find("editor");
// Turns of one speaker that overlap share a lane of at most so many rows.
const MOST_ROWS = 8;

// The turns and the speakers' names. Nothing of a state is changed: a correction makes a new one, and undo takes the old.
let state = {
  speakers: data.speakers,
  turns: data.turns.map((turn, key) => ({ ...turn, key, found: turn.label, ratings: data.dimensions.map((each) => each.ratings[key]) })),
};
let saved = state;
const history = [];
let lastKey = state.turns.length;
// What is shown of each turn, by the turn's key, and in the order of the turns.
const viewOf = new Map([...list.children].map((item, key) => [key, makeView(item)]));
let views = [];
let current = null;
let edited = null;
let zoom = Math.max(1, data.seconds / 300);

function clock(seconds) {
  const whole = Math.floor(seconds);
  const rest = `${String(Math.floor(whole / 60) % 60).padStart(whole >= 3600 ? 2 : 1, "0")}:${String(whole % 60).padStart(2, "0")}`;
  return whole >= 3600 ? `${Math.floor(whole / 3600)}:${rest}` : rest;
}

function percent(share) {
  return `${Math.round(100 * share)}%`;
}

function counted(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

function styleOf(label) {
  return label < data.n_classes ? `class-${label % data.n_styles}` : "class-uncertain";
}

function speakerStyle(speaker) {
  return `speaker-${speaker % data.n_styles}`;
}

function nameOf(speaker) {
  return state.speakers[speaker] || "speech";
}

// How sure the model was, or that people gave the label.
function sureness(turn) {
  return turn.label === turn.found ? percent(probability(turn)) : "corrected";
}

// The probability of the most probable class; people are sure of the turns that they add.
function probability(turn) {
  return turn.probabilities ? Math.max(...turn.probabilities) : 1;
}

// ---- What is shown

function makeView(item) {
  const bar = document.createElement("button");
  bar.type = "button";
  bar.tabIndex = -1;
  bar.append(document.createElement("span"));
  const view = { item, bar, button: item.querySelector(".turn"), edit: item.querySelector(".edit"), turn: null };
  view.button.addEventListener("click", () => choose(view, true));
  view.edit.addEventListener("click", () => (edited === view ? leave() : correct(view)));
  bar.addEventListener("click", () => choose(view, true));
  return view;
}

function newView() {
  return makeView(find("turn").content.firstElementChild.cloneNode(true));
}

function fill(view, turn) {
  const part = (name) => view.button.querySelector(name);
  part(".begin").textContent = clock(turn.start);
  const said = part(".said");
  said.textContent = turn.text || "no text";
  said.classList.toggle("quiet", !turn.text);
  const chip = part(".chip");
  chip.className = `chip class ${styleOf(turn.label)}`;
  chip.firstElementChild.textContent = data.labels[turn.label];
  part(".sure").textContent = sureness(turn);
  const { bar } = view;
  bar.className = `bar class ${styleOf(turn.label)} ${speakerStyle(turn.speaker)}`;
  bar.style.left = `${(100 * turn.start) / data.seconds}%`;
  bar.style.width = `${(100 * (turn.end - turn.start)) / data.seconds}%`;
  bar.firstElementChild.textContent = `${data.labels[turn.label]} ${sureness(turn)}`;
  view.turn = turn;
}

// Names can change without the turn.
function fillName(view) {
  const { turn, bar } = view;
  const who = view.button.querySelector(".who");
  who.firstElementChild.className = `dot ${speakerStyle(turn.speaker)}`;
  who.lastElementChild.textContent = state.speakers[turn.speaker] || "";
  bar.title = `${clock(turn.start)} ${nameOf(turn.speaker)}: ${data.labels[turn.label]} ${sureness(turn)}`;
  bar.setAttribute("aria-label", bar.title);
}

function bySpeaker() {
  const own = state.speakers.map(() => []);
  views.forEach((view) => own[view.turn.speaker].push(view));
  return own;
}

function draw() {
  views = state.turns.map((turn) => viewOf.get(turn.key) || viewOf.set(turn.key, newView()).get(turn.key));
  state.turns.forEach((turn, index) => views[index].turn === turn || fill(views[index], turn));
  drawList();
  const own = bySpeaker();
  drawLanes(own);
  drawPeople(own);
  drawOverlaps();
  drawArea();
  drawDimensions(own);
  views.forEach(fillName);
  document.querySelectorAll(`[data-class="${data.uncertain}"]`).forEach((element) => {
    element.hidden = data.uncertain >= data.n_classes && !state.turns.some((turn) => turn.label === data.uncertain);
  });
  find("undo").disabled = !history.length;
  if (current && !views.includes(current)) current = null;
  if (current) showNow();
  filter();
}

// What stays in its place is not touched, so that it keeps the focus.
function drawList() {
  const shown = new Set(views.map((view) => view.item));
  [...list.children].forEach((item) => shown.has(item) || item.remove());
  let next = list.firstElementChild;
  views.forEach((view, index) => {
    view.index = index;
    view.button.dataset.turn = index;
    if (view.item === next) next = next.nextElementSibling;
    else list.insertBefore(view.item, next);
  });
}

function drawLanes(bySpeaker) {
  const lanes = find("lanes");
  while (lanes.children.length < 2 * state.speakers.length) {
    const [name, lane, dot] = ["div", "div", "span"].map((kind) => document.createElement(kind));
    name.className = "lane-name";
    lane.className = "lane";
    dot.className = `dot ${speakerStyle(lanes.children.length / 2)}`;
    name.append(dot, document.createElement("bdi"));
    lanes.append(name, lane);
  }
  const shown = new Set(views.map((view) => view.bar));
  lanes.querySelectorAll(".bar").forEach((bar) => shown.has(bar) || bar.remove());
  [...lanes.children].forEach((element, index) => {
    const own = bySpeaker[index >> 1];
    element.hidden = !own.length;
    if (index % 2) drawBars(element, own);
    else element.lastElementChild.textContent = nameOf(index / 2);
  });
}

function drawBars(lane, own) {
  const ends = [];
  own.forEach(({ bar, turn }) => {
    let row = ends.findIndex((end) => end <= turn.start);
    if (row < 0) row = Math.min(ends.length, MOST_ROWS - 1);
    ends[row] = turn.end;
    bar.style.setProperty("--row", row);
    if (bar.parentElement !== lane) lane.append(bar);
  });
  lane.style.setProperty("--rows", Math.max(1, ends.length));
  lane.style.height = `${Math.max(2.6, 1.6 * ends.length)}rem`;
}

function drawPeople(bySpeaker) {
  const people = find("people");
  while (people.children.length < state.speakers.length) people.append(find("person").content.firstElementChild.cloneNode(true));
  bySpeaker.forEach((own, speaker) => fillPerson(people.children[speaker], speaker, own.map((view) => view.turn)));
  [...people.children].slice(state.speakers.length).forEach((row) => row.remove());
  const chosen = find("speaker").value;
  const options = speaking().map((speaker) => new Option(nameOf(speaker), speaker));
  find("speaker").replaceChildren(new Option("all", ""), ...options);
  find("speaker").value = speaking().includes(Number(chosen)) ? chosen : "";
  find("speaker").parentElement.hidden = options.length < 2;
}

function speaking() {
  return [...new Set(state.turns.map((turn) => turn.speaker))].sort((a, b) => a - b);
}

function fillPerson(row, speaker, own) {
  const seconds = data.labels.map((_, label) => own.reduce((sum, turn) => sum + (turn.label === label ? turn.end - turn.start : 0), 0));
  const total = seconds.reduce((sum, value) => sum + value, 0);
  const [head, turns, time, shares] = row.children;
  row.hidden = !own.length;
  const [dot, box] = head.querySelectorAll(".dot, input");
  dot.className = `dot ${speakerStyle(speaker)}`;
  box.value = state.speakers[speaker] || "";
  box.setAttribute("aria-label", `name of speaker ${speaker + 1}`);
  box.onchange = () => rename(speaker, box.value.trim());
  turns.textContent = own.length;
  turns.dataset.unit = own.length === 1 ? "turn" : "turns";
  time.textContent = clock(total);
  seconds.forEach((value, label) => { shares.firstElementChild.children[label].style.flexGrow = total ? value / total : 0; });
  row.querySelectorAll(".rating").forEach((cell, index) => { cell.textContent = meanRating(own, index); });
  shares.querySelector(".shares").replaceChildren(...seconds.flatMap((value, label) => {
    if (!value) return [];
    const share = document.createElement("span");
    share.className = "share";
    share.textContent = `${data.labels[label]} ${percent(value / total)}`;
    return [share];
  }));
}

// The stretches where two turns or more are going on, in their order.
function overlapsOf(turns) {
  const edges = turns.flatMap((turn) => [[turn.start, 1], [turn.end, -1]]).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const found = [];
  let [going, since] = [0, 0];
  for (const [time, step] of edges) {
    if (going > 1 && time > since) {
      if (found.length && found.at(-1)[1] === since) found.at(-1)[1] = time;
      else found.push([since, time]);
    }
    going += step;
    since = time;
  }
  return found;
}

function drawOverlaps() {
  const overlaps = overlapsOf(state.turns);
  // The overlap before each stretch, so that a turn's is a difference.
  const sums = overlaps.reduce((all, [start, end]) => (all.push(all.at(-1) + end - start), all), [0]);
  const before = (time) => {
    let [low, high] = [0, overlaps.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (overlaps[middle][0] < time) low = middle + 1;
      else high = middle;
    }
    return low ? sums[low - 1] + Math.min(time, overlaps[low - 1][1]) - overlaps[low - 1][0] : 0;
  };
  views.forEach(({ button, turn }) => {
    const seconds = before(turn.end) - before(turn.start);
    button.querySelector(".lap").textContent = seconds >= 0.05 ? `overlaps ${seconds.toFixed(1)} s` : "";
  });
  const area = find("overlaps");
  area.setAttribute("viewBox", `0 0 ${data.seconds} 1`);
  area.replaceChildren(svg("path", { d: overlaps.map(([start, end]) => `M${start},0V1H${end}V0Z`).join("") }));
  const total = sums.at(-1);
  find("overlap").hidden = total < 0.05;
  find("overlap").lastChild.textContent = `voices overlap: ${total.toFixed(1)} s`;
}

function svg(kind, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
  Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
  return element;
}

// Each class is a band between two sums of probabilities, constant from the start of a turn to its end.
function drawArea() {
  const area = find("area");
  area.setAttribute("viewBox", `0 0 ${data.seconds} 1`);
  const turns = state.turns.filter((turn) => turn.probabilities).sort((a, b) => a.start - b.start);
  const sums = turns.map((turn) => turn.probabilities.reduce((all, value) => [...all, all[all.length - 1] + value], [0]));
  const bands = data.labels.slice(0, turns.length ? data.n_classes : 0).map((name, index) => {
    const side = (level) => turns.flatMap((turn, i) => [`${turn.start},${1 - sums[i][level]}`, `${turn.end},${1 - sums[i][level]}`]);
    const d = `M${side(index).join("L")}L${side(index + 1).reverse().join("L")}Z`;
    const band = svg("path", { d, fill: `var(--class-${index % data.n_styles})` });
    band.append(svg("title", {}));
    band.firstChild.textContent = name;
    return band;
  });
  area.replaceChildren(...bands);
}

// The mean of a dimension over the speaking time, as text; turns that people added have no number.
function meanRating(turns, index) {
  const rated = turns.filter((turn) => turn.ratings);
  const sum = (value) => rated.reduce((total, turn) => total + value(turn), 0);
  const weigh = sum((turn) => turn.end - turn.start) ? (turn) => turn.end - turn.start : () => 1;
  return rated.length ? (sum((turn) => weigh(turn) * turn.ratings[index]) / sum(weigh)).toFixed(2) : "";
}

// Each speaker is a line, which is level, and thick, from the start of a turn to its end.
function drawDimensions(bySpeaker) {
  const own = bySpeaker.map((views) => views.map((view) => view.turn).filter((turn) => turn.ratings));
  document.querySelectorAll("svg.lines").forEach((chart, index) => {
    const { name, low, high } = data.dimensions[index];
    chart.setAttribute("viewBox", `0 -0.05 ${data.seconds} 1.1`);
    chart.replaceChildren(svg("path", { class: "middle", d: `M0,0.5H${data.seconds}` }));
    const means = own.flatMap((turns, speaker) => {
      if (!turns.length) return [];
      const levels = turns.map((turn) => `${turn.start},${((high - turn.ratings[index]) / (high - low)).toFixed(4)}H${turn.end}`);
      chart.append(speakerLine(speaker, levels));
      return [`${nameOf(speaker)} ${meanRating(turns, index)}`];
    });
    chart.setAttribute("aria-label", `${name} over time, ${low} to ${high}, a line for each speaker; on average: ${means.join(", ")}`);
  });
  if (data.dimensions.length) find("voices").replaceChildren(...speaking().map(lineKey));
}

function speakerLine(speaker, levels) {
  const line = svg("g", { class: speakerStyle(speaker) });
  line.append(svg("title", {}), svg("path", { class: "way", d: `M${levels.join("L")}` }), svg("path", { class: "level", d: `M${levels.join("M")}` }));
  line.firstChild.textContent = nameOf(speaker);
  return line;
}

function lineKey(speaker) {
  const [key, name, sample] = [document.createElement("span"), document.createElement("bdi"), svg("svg", { viewBox: "0 0 52 10", "aria-hidden": "true" })];
  sample.append(speakerLine(speaker, ["0,5H10", "42,5H52"]));
  name.textContent = nameOf(speaker);
  key.append(sample, name);
  return key;
}

// Marks at the smallest round interval that leaves their labels readable.
function drawTicks() {
  const ticks = find("ticks");
  const width = find("canvas").clientWidth;
  const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200].find((each) => (width * each) / data.seconds > 60) || 14400;
  ticks.replaceChildren();
  for (let time = 0; time < data.seconds; time += step) {
    const tick = document.createElement("span");
    tick.textContent = clock(time);
    tick.style.left = `${(100 * time) / data.seconds}%`;
    ticks.append(tick);
  }
}

function setZoom(value) {
  zoom = Math.min(Math.max(1, value), Math.max(1, data.seconds / 5));
  find("canvas").style.width = `${100 * zoom}%`;
  drawTicks();
  if (current) center(current.turn.start);
}

function center(time) {
  const tracks = find("tracks");
  tracks.scrollLeft = (time / data.seconds) * find("canvas").clientWidth - tracks.clientWidth / 2;
}

// ---- Playing

// Mark a turn as the current one, and play it if asked to.
function choose(view, play) {
  if (!view) return;
  [...(current ? [current] : []), view].forEach((each) => {
    const chosen = each === view;
    each.button.classList.toggle("current", chosen);
    each.bar.classList.toggle("current", chosen);
    each.button.tabIndex = each.edit.tabIndex = chosen ? 0 : -1;
    if (chosen) each.button.setAttribute("aria-current", "true");
    else each.button.removeAttribute("aria-current");
  });
  if (!current && views[0] !== view) views[0].button.tabIndex = views[0].edit.tabIndex = -1;
  current = view;
  showNow();
  if (zoom > 1) center(view.turn.start);
  if (play && audio) {
    audio.currentTime = view.turn.start + 0.001;
    audio.play().catch(() => {});
  }
}

function showNow() {
  const part = (name) => current.button.querySelector(name).cloneNode(true);
  const words = part(".said");
  words.classList.add("words");
  find("now").replaceChildren(part(".chip"), part(".sure"), part(".who"), words);
}

function follow() {
  const time = audio.currentTime;
  find("playhead").style.left = `${(100 * time) / data.seconds}%`;
  // Of overlapping turns, show the one that started last.
  const view = views.findLast(({ turn }) => turn.start <= time && time < turn.end);
  if (view && view !== current) {
    choose(view, false);
    if (!audio.paused && !edited) view.item.scrollIntoView({ block: "nearest" });
  }
}

function step(by) {
  let index = current ? current.index : -1;
  do index += by; while (views[index] && views[index].item.hidden);
  const view = views[index];
  if (!view) return;
  choose(view, true);
  view.button.focus({ preventScroll: true });
  view.item.scrollIntoView({ block: "nearest" });
}

function filter() {
  const labels = new Set([...document.querySelectorAll(".filter[aria-pressed=true]")].map((button) => Number(button.dataset.class)));
  const least = Number(find("confidence").value) / 100;
  const speaker = find("speaker").value;
  find("least").textContent = percent(least);
  let shown = 0;
  views.forEach((view) => {
    const { turn } = view;
    const fits = labels.has(turn.label) && probability(turn) >= least && (speaker === "" || turn.speaker === Number(speaker));
    view.item.hidden = !fits && view !== edited;
    view.bar.classList.toggle("hidden-by-filter", !fits);
    shown += fits;
  });
  find("count").textContent = shown === views.length ? counted(shown, "turn") : `${shown} of ${counted(views.length, "turn")}`;
}

// ---- Correcting

function change(turns, speakers = state.speakers) {
  history.push(state);
  state = { speakers, turns: turns.toSorted((a, b) => a.start - b.start) };
  draw();
  if (edited) fillEditor();
}

// Put turns, or none, in the place of the one that is corrected.
function replaceEdited(...turns) {
  change(state.turns.flatMap((turn) => (turn.key === edited.turn.key ? turns : [turn])));
}

function undo() {
  if (!history.length) return;
  state = history.pop();
  draw();
  if (edited && !views.includes(edited)) leave();
  if (edited) fillEditor();
}

function rename(speaker, name) {
  if (name === (state.speakers[speaker] || "")) return;
  const twin = speaking().find((other) => other !== speaker && (state.speakers[other] || "") === name);
  const speakers = state.speakers.map((old, index) => (index === speaker ? name || null : old));
  const turns = state.turns.map((turn) => (turn.speaker === speaker && twin !== undefined ? { ...turn, speaker: twin } : turn));
  change(turns, speakers);
}

function correct(view) {
  leave();
  edited = view;
  choose(view, false);
  view.edit.setAttribute("aria-expanded", "true");
  view.item.append(editor);
  editor.hidden = false;
  fillEditor();
  find("start").focus();
}

function leave() {
  if (!edited) return;
  const view = edited;
  edited = null;
  view.edit.setAttribute("aria-expanded", "false");
  editor.hidden = true;
  find("turns").after(editor);
  if (views.includes(view)) view.button.focus({ preventScroll: true });
  filter();
}

function fillEditor() {
  const { turn } = edited;
  find("problem").textContent = "";
  find("start").value = turn.start;
  find("end").value = turn.end;
  const options = speaking().map((speaker) => new Option(nameOf(speaker), speaker));
  find("by").replaceChildren(...options, new Option("another speaker", "new"));
  find("by").value = turn.speaker;
  find("label").value = turn.label;
  find("words").value = turn.text || "";
  find("split").textContent = `split at ${clock(middleOf(turn))}`;
  find("join").disabled = !nextOf(edited);
}

// A time that is missing or wrong stays in its box, with what is wrong.
function correctTimes() {
  const { turn } = edited;
  const [start, end] = ["start", "end"].map((id) => Math.round(1000 * find(id).valueAsNumber) / 1000);
  const wrong = !(start >= 0 && end > start) ? "A turn ends after it starts; give both in seconds."
    : end > Math.max(data.seconds, turn.end) ? `The recording ends at ${data.seconds.toFixed(1)} s.` : "";
  find("problem").textContent = wrong;
  if (!wrong && (start !== turn.start || end !== turn.end)) replaceEdited({ ...turn, start, end });
}

function correctSpeaker() {
  const chosen = find("by").value;
  const speaker = chosen === "new" ? state.speakers.length : Number(chosen);
  const turns = state.turns.map((turn) => (turn === edited.turn ? { ...turn, speaker } : turn));
  change(turns, chosen === "new" ? [...state.speakers, unusedName()] : state.speakers);
}

function unusedName() {
  let number = state.speakers.length + 1;
  while (state.speakers.includes(`speaker ${number}`)) number += 1;
  return `speaker ${number}`;
}

// Where the player is, if it is in the turn.
function middleOf(turn) {
  const time = audio ? Math.round(1000 * audio.currentTime) / 1000 : 0;
  return time > turn.start + 0.01 && time < turn.end - 0.01 ? time : Math.round(500 * (turn.start + turn.end)) / 1000;
}

function split() {
  const { turn } = edited;
  const time = middleOf(turn);
  const words = turn.text ? turn.text.split(/\s+/) : [];
  const n = Math.round((words.length * (time - turn.start)) / (turn.end - turn.start));
  const parts = [words.slice(0, n), words.slice(n)].map((some) => some.join(" ") || null);
  replaceEdited({ ...turn, end: time, text: parts[0] }, { ...turn, key: lastKey++, start: time, text: parts[1] });
}

function nextOf(view) {
  return views.slice(view.index + 1).find(({ turn }) => turn.speaker === view.turn.speaker);
}

function join() {
  const [{ turn }, { turn: next }] = [edited, nextOf(edited)];
  const text = [turn.text, next.text].filter(Boolean).join(" ") || null;
  const whole = { ...turn, end: Math.max(turn.end, next.end), text };
  change(state.turns.filter((each) => each !== next).map((each) => (each === turn ? whole : each)));
}

function remove() {
  const { index } = edited;
  const { key } = edited.turn;
  leave();
  change(state.turns.filter((turn) => turn.key !== key));
  const view = views[Math.min(index, views.length - 1)];
  if (view) choose(view, false);
  (view ? view.button : find("add")).focus({ preventScroll: true });
}

// A second after the current turn, or where the player is.
function add() {
  const after = edited || current;
  const begin = after ? after.turn.end : audio ? audio.currentTime : 0;
  const start = Math.max(0, Math.round(1000 * Math.min(begin, data.seconds - 0.1)) / 1000);
  const end = Math.round(1000 * Math.min(start + 1, Math.max(data.seconds, start + 0.1))) / 1000;
  const speaker = after ? after.turn.speaker : 0;
  const turn = { key: lastKey++, id: null, start, end, channel: after ? after.turn.channel : null, speaker, text: null };
  leave();
  change([...state.turns, { ...turn, label: data.uncertain, found: null, probabilities: null, ratings: null }]);
  correct(viewOf.get(turn.key));
  edited.item.scrollIntoView({ block: "nearest" });
}

// ---- The corrected table, as `corpus.reader: table` reads it

// With an apostrophe before it where a spreadsheet would run it, which the reader takes off again.
const RUN = /^'*(?![+-](?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$)[=+\-@＝＋－＠\t\r\n]/;

function cell(value) {
  const text = value === null || value === undefined ? "" : String(value);
  const harmless = RUN.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}

function table() {
  const columns = {
    dialogue_id: () => data.name,
    audio: () => data.audio,
    start: (turn) => turn.start.toFixed(3),
    end: (turn) => turn.end.toFixed(3),
    channel: (turn) => turn.channel,
    text: (turn) => turn.text,
    speaker: (turn) => state.speakers[turn.speaker],
    label: (turn) => data.labels[turn.label],
    turn: (turn) => turn.id,
    model_label: (turn) => (turn.probabilities ? data.labels[turn.probabilities.indexOf(probability(turn))] : null),
    probability: (turn) => (turn.probabilities ? probability(turn).toFixed(4) : null),
  };
  data.dimensions.forEach(({ name }, index) => { columns[`model_${name}`] = (turn) => (turn.ratings ? turn.ratings[index].toFixed(4) : null); });
  // An empty text is a mistake in a table, and a table without texts is none.
  if (!state.turns.some((turn) => turn.text)) delete columns.text;
  const rows = [Object.keys(columns), ...state.turns.map((turn) => Object.values(columns).map((of) => of(turn)))];
  return rows.map((row) => `${row.map(cell).join(",")}\n`).join("");
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([table()], { type: "text/csv;charset=utf-8" }));
  link.download = `${data.name.replaceAll("/", "-")}.corrected.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  saved = state;
}

// ---- What people do

document.querySelectorAll(".filter").forEach((button) => button.addEventListener("click", () => {
  button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
  filter();
}));
["confidence", "speaker"].forEach((id) => find(id).addEventListener("input", filter));
const CLICKS = { previous: () => step(-1), next: () => step(1), in: () => setZoom(zoom * 1.6), out: () => setZoom(zoom / 1.6), add, undo, download, split, join, delete: remove, close: leave };
Object.entries(CLICKS).forEach(([id, action]) => find(id).addEventListener("click", action));
const CHANGES = {
  start: correctTimes,
  end: correctTimes,
  by: correctSpeaker,
  label: () => replaceEdited({ ...edited.turn, label: Number(find("label").value) }),
  words: () => replaceEdited({ ...edited.turn, text: find("words").value || null }),
};
Object.entries(CHANGES).forEach(([id, action]) => find(id).addEventListener("change", action));
document.querySelectorAll("[data-now]").forEach((button) => button.addEventListener("click", () => {
  find(button.dataset.now).value = audio.currentTime.toFixed(3);
  correctTimes();
}));
document.querySelectorAll(".area, .lines").forEach((chart) => chart.addEventListener("click", (event) => {
  if (!audio) return;
  const box = find("canvas").getBoundingClientRect();
  audio.currentTime = (data.seconds * (event.clientX - box.left)) / box.width;
}));
if (audio) {
  audio.addEventListener("timeupdate", follow);
  audio.addEventListener("seeked", follow);
  audio.addEventListener("seeked", () => edited && (find("split").textContent = `split at ${clock(middleOf(edited.turn))}`));
  find("speed").addEventListener("input", () => { audio.playbackRate = Number(find("speed").value); });
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") leave();
  if (event.target.matches("textarea, input:not([type=range])")) return;
  const choosing = event.target.matches("input, select, audio, summary");
  const press = (action) => { event.preventDefault(); action(); };
  if (event.key === "ArrowDown" && !choosing) press(() => step(1));
  else if (event.key === "ArrowUp" && !choosing) press(() => step(-1));
  else if (event.key === "e" && current && !choosing) press(() => correct(current));
  else if (event.key === "+") press(() => setZoom(zoom * 1.6));
  else if (event.key === "-") press(() => setZoom(zoom / 1.6));
  else if (!audio || choosing) return;
  else if (event.key === " " && !event.target.matches("button:not(.turn, .bar)")) press(() => (audio.paused ? audio.play() : audio.pause()));
  else if (event.key === "ArrowLeft") press(() => { audio.currentTime -= 5; });
  else if (event.key === "ArrowRight") press(() => { audio.currentTime += 5; });
});
window.addEventListener("beforeunload", (event) => { if (state !== saved) event.preventDefault(); });
window.addEventListener("resize", drawTicks);
draw();
setZoom(zoom);
