// What the page shows is made of text nodes alone: names in tables of scores are others' words.
"use strict";

const at = (id) => document.getElementById(id);
const decimals = (value, count) => value.toFixed(count).replace("-", "−");
const percent = (rate) => (100 * rate).toFixed(2);
const number = (count) => count.toLocaleString("en");

let chosen = 0; // counts the tables chosen, so that a late answer for another one is dropped
let table = null; // what the server told of the one that is shown, with `number`, its place
let place = 0; // of the threshold, in table.thresholds
let cells = []; // of each row of rates: what changes with the threshold
let pairs = []; // [pair, whether genuine, where its verdict stands]
let asked = null; // the threshold whose intervals are wanted next
let asking = false;

function made(name, content = [], attributes = {}) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...[content].flat());
  return element;
}

function show(element, text) {
  element.textContent = text;
  element.hidden = !text;
}

async function get(address) {
  try {
    const answer = await fetch(address);
    return answer.headers.get("Content-Type")?.startsWith("application/json")
      ? await answer.json()
      : { fault: `${answer.status}: ${await answer.text()}` };
  } catch {
    return { fault: "mstkd view does not answer any more; was it ended?" };
  }
}

// ---------------------------------------------------------------- a table

async function choose(which) {
  const own = ++chosen;
  at("shown").hidden = true;
  show(at("fault"), "");
  show(at("state"), "Reading the table …");
  const told = await get(`tables/${which}`);
  if (own !== chosen) return;
  show(at("state"), "");
  if (told.fault) return show(at("fault"), told.fault);
  table = { ...told, number: which };
  at("enough").textContent = table.enough;
  const across = `${number(table.across)} pairs across groups are left out.`;
  show(at("across"), table.across ? across : "");
  show(at("pictureless"), table.pictureless ? `There are no pictures: ${table.pictureless}` : "");
  fillMarks();
  fillRates();
  fillPairs();
  at("threshold").max = table.thresholds.length - 1;
  at("shown").hidden = false;
  move(table.first);
}

function fillMarks() {
  const buttons = table.marks.map((mark) => {
    const button = made("button", `${+(100 * mark.fmr).toPrecision(3)} %`, { type: "button" });
    button.addEventListener("click", () => move(mark.place));
    return button;
  });
  at("marks").replaceChildren(made("span", "Lowest for a global FMR of at most"), ...buttons);
}

function fillRates() {
  const every = table.groups.map((group) => [group.name, group.impostor, group.genuine]);
  if (every.length > 1) {
    const sum = (column) => every.reduce((total, row) => total + row[column], 0);
    every.push(["all groups", sum(1), sum(2)]);
  }
  cells = [];
  const rows = every.map(([name, impostor, genuine], row) => {
    // The rates of all groups' pairs together stand last; of one group they are its own.
    const kinds = [["fmr", impostor], ["fnmr", genuine]].map(([kind, count]) => {
      const cell = { kind, count, rates: table[kind][row], row };
      cell.rate = made("span");
      cell.interval = made("span", [], { class: "interval" });
      cell.errors = made("td");
      cells.push(cell);
      return [made("td", [cell.rate, cell.interval]), cell.errors];
    });
    return made("tr", [made("th", name, { scope: "row" }), ...kinds.flat()]);
  });
  at("rates").replaceChildren(...rows);
}

// ---------------------------------------------------------------- the threshold

function move(to) {
  place = to;
  const threshold = table.thresholds[place];
  const text = `similarity ${threshold}`;
  at("threshold").value = place;
  at("threshold").setAttribute("aria-valuetext", text);
  const [fmr, fnmr] = [table.fmr.at(-1)[place], table.fnmr.at(-1)[place]].map(percent);
  at("at").textContent = `At ${text}: global FMR ${fmr} %, global FNMR ${fnmr} %.`;
  for (const cell of cells) {
    const rate = cell.rates[place];
    const errors = Math.round(rate * cell.count);
    cell.rate.textContent = percent(rate);
    cell.interval.textContent = "…";
    cell.few = errors < table.enough ? ", few" : "";
    cell.errors.textContent = `${number(errors)} of ${number(cell.count)}`;
  }
  for (const [pair, genuine, verdict] of pairs) {
    const accepted = pair.similarity >= threshold;
    verdict.className = accepted === genuine ? "" : "wrong";
    verdict.textContent = accepted
      ? genuine ? "accepted" : "false match"
      : genuine ? "false non-match" : "rejected";
  }
  asked = threshold;
  if (!asking) askIntervals();
}

async function askIntervals() {
  asking = true;
  while (asked !== null) {
    const [own, threshold] = [chosen, asked];
    asked = null;
    const told = await get(`tables/${table.number}/rates?threshold=${threshold}`);
    if (own !== chosen || threshold !== table.thresholds[place]) continue;
    if (told.fault) {
      show(at("fault"), told.fault);
      continue;
    }
    for (const cell of cells) {
      const [, low, high] = told[cell.kind][cell.row];
      cell.interval.textContent = `${percent(low)} to ${percent(high)}${cell.few}`;
    }
  }
  asking = false;
}

// ---------------------------------------------------------------- pairs

function fillPairs() {
  pairs = [];
  const sections = table.groups.map((group) => {
    const kinds = [["impostor", "Impostor pairs, the most alike"], ["genuine", "Genuine pairs, the least alike"]];
    const lists = kinds.map(([kind, title]) => {
      const items = group.hardest[kind].map((pair) => made("li", pairButton(pair, kind, group)));
      return [made("h4", title), made("ul", items, { class: "pairs" })];
    });
    return made("section", [made("h3", group.name), ...lists.flat()]);
  });
  at("groups").replaceChildren(...sections);
}

function pairButton(pair, kind, group) {
  const verdict = made("span");
  pairs.push([pair, kind === "genuine", verdict]);
  const button = made("button", [
    ...faces(pair),
    made("span", decimals(pair.similarity, 3)),
    verdict,
    made("span", people(pair, kind), { class: "names" }),
  ], { type: "button", "data-pair": pair.row });
  button.addEventListener("click", () => open(pair, kind, group));
  return button;
}

function faces(pair) {
  if (table.pictureless) return [];
  const pictures = [0, 1].map((side) =>
    made("img", [], {
      src: `tables/${table.number}/pairs/${pair.row}/${side}.png`,
      alt: pair.images[side] ?? pair.people[side],
      loading: "lazy",
    })
  );
  return [made("span", pictures, { class: "faces" })];
}

function people(pair, kind) {
  return kind === "genuine" ? pair.people[0] : pair.people.join(" and ");
}

let clicked = 0;

async function open(pair, kind, group) {
  const own = ++clicked;
  at("pair-title").textContent =
    `A pair of group ${group.name}, ${kind}: similarity ${decimals(pair.similarity, 3)}`;
  at("faces").replaceChildren(...faces(pair));
  at("names").textContent = [people(pair, kind), ...pair.images].join(", ");
  at("shares").hidden = true;
  show(at("pair-fault"), "");
  show(at("pair-state"), "Asking the teachers …");
  at("pair").showModal();
  const told = await get(`tables/${table.number}/pairs/${pair.row}`);
  if (own !== clicked) return;
  show(at("pair-state"), "");
  if (told.fault) return show(at("pair-fault"), `There are no shares: ${told.fault}`);
  at("fused").textContent =
    `Fused by the adaptor ${told.adaptor}, which is what a student is taught, the two faces have ` +
    `a similarity of ${decimals(told.similarity, 3)}:`;
  at("absent").textContent = told.absent;
  const parts = told.teachers.map((teacher) => teacher.part);
  const [least, most] = [Math.min(0, ...parts), Math.max(0, ...parts)];
  const rows = told.teachers.map((teacher) =>
    made("tr", [
      made("th", teacher.name, { scope: "row" }),
      made("td", decimals(teacher.part, 3)),
      made("td", bar(teacher.part, least, most), { "aria-hidden": "true" }),
      made("td", teacher.shapley === null ? "–" : decimals(teacher.shapley, 3)),
      ...teacher.faces.map((share) => made("td", decimals(100 * share, 1))),
    ])
  );
  at("teachers").replaceChildren(...rows);
  at("shares").hidden = false;
}

function bar(value, least, most) {
  const drawn = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, one] of Object.entries(attributes)) element.setAttribute(key, one);
    return element;
  };
  const along = (one) => (100 * (one - least)) / (most - least || 1);
  const [begin, end] = [Math.min(value, 0), Math.max(value, 0)].map(along);
  const plot = drawn("svg", { class: "bar" });
  plot.append(
    drawn("rect", { x: `${begin}%`, width: `${end - begin}%`, y: "15%", height: "70%" }),
    drawn("line", { x1: `${along(0)}%`, x2: `${along(0)}%`, y1: "0", y2: "100%" })
  );
  return plot;
}

at("tables").addEventListener("change", (event) => choose(Number(event.target.value)));
at("threshold").addEventListener("input", (event) => move(Number(event.target.value)));
at("close").addEventListener("click", () => at("pair").close());
choose(Number(at("tables").value));
