"use strict";
(() => {
  const root = document.documentElement;
  const radios = [...document.querySelectorAll('.switch input[name="trait"]')];
  const contents = document.querySelector(".contents");
  const wide = matchMedia("(min-width: 70rem)");
  root.classList.add("js");

  // --- The address: #section&trait=extraversion ------------------------------------------------
  const decoded = (text) => {
    try {
      return decodeURIComponent(text);
    } catch {
      return text; // a link that was cut in the middle of a character
    }
  };
  const address = () => {
    const parts = decoded(location.hash.slice(1)).split("&");
    const asked = parts.find((part) => part.startsWith("trait="));
    const trait = asked ? asked.slice(6) : "";
    return {
      anchor: parts.find((part) => part && !part.includes("=")) || "",
      trait: radios.some((radio) => radio.value === trait) ? trait : "",
    };
  };
  const hash = (anchor, trait) =>
    "#" + [anchor, trait && "trait=" + trait].filter(Boolean).join("&");

  // --- One trait, or all ---------------------------------------------------------------------------
  const show = (trait) => {
    if (trait) root.dataset.show = trait;
    else delete root.dataset.show;
    for (const radio of radios) radio.checked = radio.value === trait;
  };
  const go = () => {
    const { anchor, trait } = address();
    const target = anchor && document.getElementById(anchor);
    const owner = target && target.closest("[data-trait]");
    show(owner && owner.dataset.trait !== trait ? "" : trait);
    if (!target) return;
    for (let box = target; box; box = box.parentElement) {
      if (box.tagName === "DETAILS") box.open = true;
    }
    target.scrollIntoView();
  };
  const choose = (trait) => {
    for (const part of document.querySelectorAll("details.part")) {
      if (part.dataset.trait === trait) part.open = true; // who asks for one trait, asks for its detail
    }
    // What is being read stays where it is, though parts above it come and go.
    const sections = [...document.querySelectorAll("main > section")];
    const reading = sections.find((section) => section.getBoundingClientRect().bottom > 80);
    const before = reading ? reading.getBoundingClientRect().top : 0;
    show(trait);
    if (reading) {
      const box = reading.getBoundingClientRect();
      scrollBy(0, box.top - before);
      if (reading.getBoundingClientRect().bottom < 80) reading.scrollIntoView();
    }
    history.replaceState(null, "", hash(address().anchor, trait));
    watch();
  };
  for (const radio of radios) radio.addEventListener("change", () => choose(radio.value));
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (!link) return;
    event.preventDefault();
    const next = hash(link.getAttribute("href").slice(1), root.dataset.show || "");
    if (next === location.hash) go();
    else location.hash = next;
    if (!wide.matches) contents.open = false;
  });
  addEventListener("hashchange", go);
  const fieldset = document.querySelector(".switch");
  if (fieldset) fieldset.hidden = false;

  // --- Contents: open beside the text, folded above it; where the reader is ------------------------
  const fold = () => { contents.open = wide.matches; };
  wide.addEventListener("change", fold);
  fold();
  const links = new Map(
    [...contents.querySelectorAll("a")].map((link) => [link.getAttribute("href").slice(1), link]),
  );
  const here = new Set();
  const mark = () => {
    // The last sections are too short to reach the place where one reads.
    const end = scrollY > 0 && innerHeight + scrollY >= root.scrollHeight - 2;
    const keys = [...links.keys()];
    const first = end ? keys[keys.length - 1] : keys.find((key) => here.has(key));
    for (const [key, link] of links) {
      if (key === first) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  const spy = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) here.add(entry.target.id);
      else here.delete(entry.target.id);
    }
    mark();
  }, { rootMargin: "-15% 0px -70% 0px" });
  addEventListener("scroll", mark, { passive: true });
  for (const section of document.querySelectorAll("main > section")) spy.observe(section);

  // --- Tables: a button in every column's head -----------------------------------------------------
  const value = (row, column, numeric) => {
    const cell = row.cells[column];
    if (!numeric) return cell.textContent.trim();
    return cell.dataset.value === undefined ? NaN : Number(cell.dataset.value);
  };
  const order = (numeric, sign) => (a, b) => {
    if (!numeric) return sign * a.key.localeCompare(b.key);
    if (Number.isNaN(a.key) || Number.isNaN(b.key)) return Number.isNaN(a.key) - Number.isNaN(b.key);
    return sign * (a.key - b.key);
  };
  const sort = (table, head, column) => {
    const numeric = "numeric" in head.dataset;
    const rising = head.getAttribute("aria-sort") !== "ascending";
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => ({ row, key: value(row, column, numeric) }));
    rows.sort(order(numeric, rising ? 1 : -1));
    body.append(...rows.map(({ row }) => row));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if ("plain" in head.dataset) return; // texts of models have no order of use
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(table, head, column));
    });
  }

  // --- All answers: search and filters -------------------------------------------------------------
  for (const form of document.querySelectorAll("form.filters")) {
    const rows = [...document.querySelector("table.answers").tBodies[0].rows];
    const texts = rows.map((row) => row.cells[1].textContent.toLowerCase());
    const sift = () => {
      const asked = Object.fromEntries(new FormData(form));
      const words = asked.words.toLowerCase().trim();
      let shown = 0;
      rows.forEach((row, i) => {
        const { trait = "", emoji } = row.dataset;
        row.hidden = !(texts[i].includes(words)
          && (!asked.trait || trait === asked.trait || (!trait && asked.writer !== "tuned"))
          && (!asked.writer || (trait ? "tuned" : "base") === asked.writer)
          && (!asked.emoji || emoji === asked.emoji));
        shown += !row.hidden;
      });
      const count = (n) => n.toLocaleString("en");
      form.querySelector("output").textContent = shown === rows.length
        ? `${count(shown)} answers` : `${count(shown)} of ${count(rows.length)} answers`;
    };
    form.hidden = false;
    form.addEventListener("input", sift);
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  // --- Boxes that scroll sideways can be focused; those that do not, need not ----------------------
  const boxes = [...document.querySelectorAll("[data-scrolls]")];
  const watch = () => {
    for (const box of boxes) {
      const sideways = box.scrollWidth > box.clientWidth + 1;
      if (sideways || box.scrollHeight > box.clientHeight + 1) {
        box.tabIndex = 0;
        box.setAttribute("role", "group");
        box.setAttribute("aria-label", `${box.dataset.scrolls}, scrolls${sideways ? " sideways" : ""}`);
      } else {
        for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
      }
    }
  };
  addEventListener("resize", watch);
  document.addEventListener("toggle", watch, true);

  // --- Paper shows every fold ---------------------------------------------------------------------
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("main details:not([open])")];
    for (const box of closed) box.open = true;
  });
  addEventListener("afterprint", () => {
    for (const box of closed) box.open = false;
  });

  go();
  watch();
})();
