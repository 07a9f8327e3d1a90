"use strict";
// What the level "group" says of these very results, which it knows better than this page alone.
const cohort = window.vxmprepCohort ?? {};
for (const link of document.querySelectorAll("[data-group]"))
  if (Object.keys(cohort).length) { link.href = "group.html"; link.hidden = false; }
for (const box of document.querySelectorAll("[data-result]")) {
  const found = cohort[box.dataset.result];
  if (!found) continue;
  const make = (tag, ...content) => { const made = document.createElement(tag); made.append(...content); return made; };
  box.className = `note ${found.verdict}`;
  box.querySelector("b").textContent = `Quality: ${found.verdict}.`;
  const reasons = make("ul", ...found.reasons.map((reason) => make("li", reason)));
  box.querySelector("div").replaceChildren(found.reasons.length ? reasons : "Nothing stands out.");
  const link = make("a", "cohort");
  link.href = `group.html#${encodeURIComponent(box.dataset.result.split(" ")[0])}`;
  box.querySelector(".by").replaceChildren("Judged within its ", link, ".");
}
// Two pictures in turns: every figure of the class "flicker" has its own clock.
const NAMES = { atlas: "atlas", affine: "scan, affine alone", full: "scan, registered" };
for (const figure of document.querySelectorAll(".flicker")) {
  const frames = new Map();
  for (const image of figure.querySelectorAll("[data-frame]")) frames.set(image.dataset.frame, image);
  const play = figure.querySelector("[data-play]"), says = figure.querySelector("output");
  const contours = figure.querySelector(".contours"), box = figure.querySelector("[data-contours]");
  let pair = figure.querySelector("[data-pair].on").dataset.pair.split(" "), shown = 1, timer = null;
  const show = (which) => {
    shown = which;
    for (const [name, image] of frames) image.classList.toggle("on", name === pair[shown]);
    says.textContent = NAMES[pair[shown]];
  };
  const run = (on) => {
    clearInterval(timer);
    timer = on ? setInterval(() => show(1 - shown), 900) : null;
    play.textContent = on ? "❚❚ pause" : "▶ flicker";
  };
  for (const button of figure.querySelectorAll("[data-pair]"))
    button.addEventListener("click", () => {
      for (const other of figure.querySelectorAll("[data-pair]")) other.classList.toggle("on", other === button);
      pair = button.dataset.pair.split(" ");
      show(1);
    });
  play.addEventListener("click", () => run(timer === null));
  figure.querySelector(".frames").addEventListener("click", () => { run(false); show(1 - shown); });
  if (box) box.addEventListener("change", () => contours.classList.toggle("on", box.checked));
  show(1);
  run(true);
}
