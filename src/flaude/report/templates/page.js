// The page works without this: it adds sorting, filtering, one run at a time, and taking a patch from the page.
// No text of the batch ever becomes markup here: nodes are moved, and text is only read, or set as text.
"use strict";
document.documentElement.classList.add("js");
addEventListener("DOMContentLoaded", () => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const count = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
  const body = $("#runs tbody");
  const rows = $$("tr", body);
  const sections = new Map($$("#details > details").map((one) => [one.dataset.run, one]));
  const visible = () => [...body.rows].filter((row) => !row.hidden);
  const link = (row) => $("a", row);

  // Sorting: what has no value comes last, whichever way.
  const value = (row, column, kind) => {
    const cell = row.cells[column];
    return kind === "text" ? cell.textContent : cell.dataset.v === "" ? null : Number(cell.dataset.v);
  };
  const compare = (one, other) =>
    typeof one === "string" ? one.localeCompare(other, "en", { numeric: true }) : one - other;
  for (const button of $$("#runs th button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const kind = button.dataset.sort;
      const now = head.getAttribute("aria-sort");
      const down = now ? now === "ascending" : kind === "down";
      for (const other of $$("#runs thead th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = [...body.rows].map((row) => [value(row, head.cellIndex, kind), row]);
      keyed.sort(([one], [other]) => {
        if (one === null || other === null) return (one === null) - (other === null);
        return down ? compare(other, one) : compare(one, other);
      });
      body.append(...keyed.map(([, row]) => row));
    });
  }

  // Filtering: by text that is read once, and by outcome.
  const search = $("#search");
  const chips = $$("#runs .chip");
  const texts = new Map();
  const text = (row) => {
    if (!texts.has(row)) {
      const parts = $$(".searched", $(`#run-${row.dataset.run}`)).map((one) => one.textContent);
      texts.set(row, [row.cells[1].textContent, row.cells[2].textContent, ...parts].join("\n").toLowerCase());
    }
    return texts.get(row);
  };
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = chips.filter((chip) => chip.getAttribute("aria-pressed") === "true").map((chip) => chip.dataset.chip);
    let shown = 0;
    for (const row of rows) {
      const matches = (!wanted.length || wanted.includes(row.dataset.chip)) && words.every((word) => text(row).includes(word));
      row.hidden = sections.get(row.dataset.run).hidden = !matches;
      shown += matches;
    }
    for (const lane of $$(".bars a")) {
      lane.classList.toggle("dim", $(`#runs tr[data-run="${lane.getAttribute("href").slice(5)}"]`).hidden);
    }
    $("#shown").textContent = shown === rows.length ? count(shown, "run") : `${shown} of ${count(rows.length, "run")}`;
    $("#clear").hidden = shown === rows.length && !words.length && !wanted.length;
  };
  search.addEventListener("input", filter);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && search.value) {
      search.value = "";
      filter();
      event.preventDefault();
    }
  });
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
      filter();
    });
  }
  $("#clear").addEventListener("click", () => {
    search.value = "";
    for (const chip of chips) chip.setAttribute("aria-pressed", "false");
    filter();
    search.focus();
  });

  // One of many things with the keyboard: a single stop of the Tab key, and the arrows from there.
  const roving = (root, all) => {
    const go = (to) => {
      for (const one of $$('a[tabindex="0"]', root)) one.tabIndex = -1;
      to.tabIndex = 0;
      to.focus();
    };
    root.addEventListener("keydown", (event) => {
      const here = event.target.closest("a");
      if (!here || event.ctrlKey || event.altKey || event.metaKey) return;
      if (event.key === " ") {
        event.preventDefault();
        location.hash = here.getAttribute("href");
        return;
      }
      const list = all();
      const to = { ArrowDown: list.indexOf(here) + 1, ArrowUp: list.indexOf(here) - 1, Home: 0, End: list.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      if (list[to]) go(list[to]);
    });
    root.addEventListener("focusin", (event) => {
      const here = event.target.closest("a");
      if (!here || here.tabIndex === 0) return;
      for (const one of $$('a[tabindex="0"]', root)) one.tabIndex = -1;
      here.tabIndex = 0;
    });
  };
  rows.forEach((row, number) => (link(row).tabIndex = number ? -1 : 0));
  roving(body, () => visible().map(link));
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row && !event.target.closest("a") && !String(getSelection())) location.hash = link(row).getAttribute("href");
  });

  // The timeline tells the times of the row that is pointed at.
  const bars = $(".bars");
  if (bars) {
    const readout = $(".readout");
    const lanes = $$("a", bars);
    lanes[0].setAttribute("tabindex", "0");
    for (const lane of lanes) {
      // As the name of the link it would also be the browser's own tip, on top of ours.
      lane.setAttribute("aria-label", $("title", lane).textContent);
      $("title", lane).remove();
    }
    const tell = (event) => {
      const lane = event.target.closest("a");
      if (lane) readout.textContent = lane.getAttribute("aria-label");
    };
    bars.addEventListener("pointerover", tell);
    bars.addEventListener("focusin", tell);
    roving(bars, () => lanes);
  }

  // One run at a time, over the page: the address says which.
  const viewer = $("#viewer");
  let open = null;
  const close = () => {
    if (open) sections.get(open).append($("article", viewer));
    open = null;
  };
  const show = (which) => {
    close();
    const article = $("article", sections.get(which));
    viewer.append(article);
    viewer.setAttribute("aria-labelledby", `title-${which}`);
    open = which;
    const list = visible();
    const place = list.findIndex((row) => row.dataset.run === which);
    $("#previous").disabled = place < 1;
    $("#next").disabled = place < 0 || place === list.length - 1;
    $("#place").textContent = place < 0 ? "" : `${place + 1} of ${list.length}`;
    if (!viewer.open) viewer.showModal();
    viewer.scrollTop = 0;
    article.focus({ preventScroll: true });
  };
  const follow = () => {
    const which = /^#run-(\d+)$/.exec(location.hash)?.[1];
    if (which !== undefined && sections.has(which)) show(which);
    else if (viewer.open) viewer.close();
  };
  viewer.addEventListener("close", () => {
    const was = open;
    close();
    if (/^#run-/.test(location.hash)) history.replaceState(null, "", "#");
    const row = was === null ? null : rows.find((one) => one.dataset.run === was);
    if (row && !row.hidden) link(row).focus();
  });
  viewer.addEventListener("click", (event) => {
    if (event.target === viewer && event.offsetX < 0) viewer.close();
  });
  const step = (by) => {
    const list = visible();
    const row = list[list.findIndex((one) => one.dataset.run === open) + by];
    if (row) location.replace(link(row).href);
  };
  $("#previous").addEventListener("click", () => step(-1));
  $("#next").addEventListener("click", () => step(1));
  $("#close").addEventListener("click", () => viewer.close());
  addEventListener("hashchange", follow);
  follow();

  // A patch as git made it: its text, with the odd characters taken back from the elements that show them.
  const bytes = (patch) => {
    const parts = [];
    const encoder = new TextEncoder();
    const walk = (node) => {
      if (node.nodeType === Node.TEXT_NODE) parts.push(encoder.encode(node.data));
      else if (node.dataset?.c) parts.push(encoder.encode(String.fromCodePoint(parseInt(node.dataset.c, 16))));
      else if (node.dataset?.b) parts.push(new Uint8Array([parseInt(node.dataset.b, 16)]));
      else node.childNodes.forEach(walk);
    };
    $$(".diff", patch).forEach(walk);
    return new Blob(parts, { type: "text/x-patch" });
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-take]");
    if (!button) return;
    const patch = button.closest(".patch");
    const said = $("[role=status]", button.parentNode);
    const blob = bytes(patch);
    if (button.dataset.take === "copy") {
      try {
        if ($("[data-b]", patch)) throw new Error("bytes that are no text");
        await navigator.clipboard.writeText(await blob.text());
        said.textContent = "Copied.";
      } catch (error) {
        said.textContent = `Not copied (${error.message}): download it.`;
      }
    } else {
      const address = URL.createObjectURL(blob);
      const anchor = Object.assign(document.createElement("a"), { href: address, download: button.dataset.take });
      anchor.click();
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
    }
  });

  // On paper nothing can be opened: the runs that are shown, and the files of their patches, are.
  addEventListener("beforeprint", () => {
    for (const one of $$("details.run:not([open]), details.file:not([open])")) {
      one.open = true;
      one.dataset.printed = "";
    }
  });
  addEventListener("afterprint", () => {
    for (const one of $$("details[data-printed]")) {
      one.open = false;
      delete one.dataset.printed;
    }
  });
});
