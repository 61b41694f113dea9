"use strict";

// A click on a heading sorts its table by that column: numbers from the largest, then from the smallest; words by the alphabet.
for (const heading of document.querySelectorAll("thead th")) {
  const table = heading.closest("table");
  const value = (row) => row.cells[heading.cellIndex].textContent.trim();
  const number = (row) => {
    const found = parseFloat(value(row).replace(/,/g, ""));
    return Number.isNaN(found) ? -Infinity : found;
  };
  const sort = () => {
    const before = heading.getAttribute("aria-sort");
    const rows = [...table.tBodies[0].rows];
    const words = rows.every((row) => number(row) === -Infinity);
    const falling = words ? before === "ascending" : before !== "descending";
    rows.sort((a, b) => (words ? value(a).localeCompare(value(b)) : number(a) - number(b)) * (falling ? -1 : 1));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
    table.tBodies[0].append(...rows);
  };
  heading.classList.add("sortable");
  asButton(heading, sort);
}

// A click on a legend's entry hides its series in that figure, and shows it again.
for (const figure of document.querySelectorAll("svg.figure")) {
  for (const entry of figure.querySelectorAll("[data-legend]")) {
    const index = entry.dataset.legend;
    entry.setAttribute("role", "button");
    asButton(entry, () => {
      const hidden = entry.classList.contains("faint");
      for (const part of figure.querySelectorAll(`[data-series="${index}"]`)) part.classList.toggle("hidden", !hidden);
      for (const part of figure.querySelectorAll(`[data-legend="${index}"]`)) part.classList.toggle("faint", !hidden);
    });
  }
}

function asButton(element, act) {
  element.tabIndex = 0;
  element.addEventListener("click", act);
  element.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      act();
    }
  });
}

// At once and beside the pointer, what browsers show of a title after a while.
const told = document.createElement("div");
told.id = "told";
told.hidden = true;
document.body.append(told);
for (const spot of document.querySelectorAll(".spot")) {
  const text = spot.querySelector("title").textContent;
  spot.querySelector("title").remove();
  spot.setAttribute("aria-label", text);
  spot.addEventListener("pointerenter", () => {
    told.textContent = text;
    told.hidden = false;
  });
  spot.addEventListener("pointermove", (event) => {
    const left = event.clientX + 14 + told.offsetWidth > innerWidth ? event.clientX - 14 - told.offsetWidth : event.clientX + 14;
    told.style.left = `${Math.max(left, 0)}px`;
    told.style.top = `${event.clientY + 14}px`;
  });
  spot.addEventListener("pointerleave", () => {
    told.hidden = true;
  });
}
