"use strict";
const at = (id) => document.getElementById(id);
let asked = 0;
let addresses = [];

function headers() {
  const token = at("token");
  return token && token.value ? { Authorization: "Bearer " + token.value.trim() } : {};
}

function say(text, bad) {
  at("said").textContent = text;
  at("said").className = bad ? "bad" : "";
}

function element(kind, text, inside) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  for (const one of inside || []) made.append(one);
  return made;
}

async function look(file) {
  const mine = ++asked;
  at("result").hidden = true;
  say("Looking at " + file.name + " …");
  let answer;
  try {
    const reply = await fetch("v1/report", { method: "POST", body: file, headers: headers() });
    if (reply.status === 401) throw new Error("The token is missing or wrong.");
    answer = await reply.json();
    if (!reply.ok) throw new Error(answer.message);
  } catch (error) {
    if (mine === asked) say(error.message || "The server does not answer.", true);
    return;
  }
  if (mine !== asked) return;
  say(file.name);
  show(answer);
}

function show(answer) {
  at("photo").src = answer.photo;
  at("overlay").hidden = at("layers").hidden = !answer.overlay;
  if (answer.overlay) at("overlay").src = answer.overlay;
  at("show").checked = true;
  at("numbers").replaceChildren(...(answer.measurements ? tables(answer.measurements) : []));
  at("reasons").textContent = (answer.measurements && answer.measurements.reasons) || "";
  at("near").hidden = !answer.hits;
  for (const one of addresses) URL.revokeObjectURL(one);
  addresses = [];
  at("hits").replaceChildren(...(answer.hits || []).map(figure));
  at("result").hidden = false;
}

const GROUPS = [
  ["Quality", /^quality/],
  ["Eye", /^eye/],
  ["Disc and fovea", /^(disc|fovea)/],
  ["Vessels", /^(vessel|tortuosity|fractal|crae|crve|avr)/],
  ["Lesions, share of the field", /^lesion_/],
];

function tables(measured) {
  const found = [];
  for (const [heading, pattern] of GROUPS) {
    const rows = Object.entries(measured.values).filter(([name, value]) => pattern.test(name) && value !== null);
    if (!rows.length) continue;
    const body = element("tbody", undefined, rows.map(([name, value]) => row(name, value, measured.units[name])));
    found.push(element("div", undefined, [element("h3", heading), element("table", undefined, [body])]));
  }
  return found;
}

function row(name, value, unit) {
  const said = typeof value === "number" ? String(Number(value.toPrecision(3))) : String(value);
  const shown = unit === "px" || unit === "um" || unit === "degrees" ? said + " " + unit : said;
  const plain = name.replace(/^lesion_/, "").replaceAll("_", " ");
  return element("tr", undefined, [element("td", plain), element("td", shown)]);
}

function figure(hit) {
  const place = element("div", "no picture");
  place.className = "gone";
  const about = Object.entries(hit.metadata).filter(([, value]) => value !== null && value !== "");
  const lines = [
    hit.path.split("/").pop(),
    ...about.map(([key, value]) => key + ": " + value),
    ...(hit.why === "similar" ? [] : [hit.why]),
  ];
  const caption = element("figcaption", undefined, [element("b", hit.rank + ". " + hit.score.toFixed(3))]);
  caption.append(...lines.map((line) => element("small", line)));
  const made = element("figure", undefined, [place, caption]);
  if (hit.row !== null) thumbnail(hit.row, place);
  return made;
}

async function thumbnail(number, place) {
  const reply = await fetch("v1/pictures/" + number, { headers: headers() }).catch(() => null);
  if (!reply || !reply.ok) return;
  const image = element("img");
  image.alt = "";
  image.src = URL.createObjectURL(await reply.blob());
  addresses.push(image.src);
  place.replaceWith(image);
}

const drop = at("drop");
at("file").addEventListener("change", (event) => {
  if (event.target.files.length) look(event.target.files[0]);
  event.target.value = "";
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) look(event.dataTransfer.files[0]);
  });
}
at("show").addEventListener("change", (event) => {
  at("overlay").hidden = !event.target.checked;
});
