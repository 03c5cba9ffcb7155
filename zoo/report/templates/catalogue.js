"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  // One entry a row, in the order of the table: texts to search, values to sort and filter by.
  const data = JSON.parse(byId("data").textContent);
  const body = byId("rows"), rows = Array.from(body.rows);
  const dots = new Map(Array.from(document.querySelectorAll("#dots circle"), (dot) => [Number(dot.dataset.row), dot]));
  const form = document.querySelector("form.filters");
  const selects = Array.from(form.querySelectorAll("select"));

  const filter = () => {
    const words = byId("q").value.toLowerCase().split(/\s+/).filter(Boolean);
    const most = byId("most").value === "" ? Infinity : Number(byId("most").value) * 1e6;
    const wanted = selects.filter((select) => select.selectedIndex > 0).map((select) => [select.id, select.value]);
    let shown = 0;
    data.forEach((one, i) => {
      const show = words.every((word) => one.text.includes(word)) && one.params <= most &&
        (!byId("pretrained").checked || one.weights > 0) && wanted.every(([key, value]) => one[key] === value);
      rows[i].hidden = !show;
      const dot = dots.get(i);
      if (dot) dot.toggleAttribute("hidden", !show);
      shown += show;
    });
    byId("count").textContent = shown === data.length ? `${shown.toLocaleString("en")} shown`
      : `${shown.toLocaleString("en")} of ${data.length.toLocaleString("en")} shown`;
    byId("nothing").hidden = shown > 0;
  };

  const order = new Intl.Collator("en", { numeric: true }).compare;
  const sort = (button) => {
    const head = button.closest("th"), column = Number(button.dataset.column);
    const up = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "descending" : !head.classList.contains("n");
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const sign = up ? 1 : -1;
    const compare = (a, b) => {
      const x = data[a].sort[column], y = data[b].sort[column];
      if (x === null || y === null) return (x === null) - (y === null);  // what is not known comes last, either way
      return sign * (typeof x === "number" ? x - y : order(x, y)) || a - b;
    };
    const sorted = document.createDocumentFragment();
    for (const i of Array.from(data.keys()).sort(compare)) sorted.append(rows[i]);
    body.append(sorted);
  };

  const pick = (i) => {
    for (const old of document.querySelectorAll(".picked")) old.classList.remove("picked");
    rows[i].classList.add("picked");
    dots.get(i)?.classList.add("picked");
    rows[i].scrollIntoView({ block: "center" });
  };

  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  document.querySelector("table.catalogue thead").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) sort(button);
  });
  byId("dots")?.addEventListener("click", (event) => {
    if (event.target.dataset.row !== undefined) pick(Number(event.target.dataset.row));
  });
  if (byId("q").value || byId("most").value) filter();  // what the browser kept of the form on going back
})();
