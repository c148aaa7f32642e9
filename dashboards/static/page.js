"use strict";
// What htmx cannot do alone: photos by drop, paste and camera; explanations; cards on a phone; a heartbeat for
// fresh figures; what was open stays open.
(() => {
  const REFRESH_MS = 4000;
  const byId = (id) => document.getElementById(id);
  const form = byId("search-form"), photo = byId("photo"), drop = byId("drop"), preview = byId("preview");
  const framed = byId("framed");
  const item = byId("item"), sample = byId("sample"), words = byId("text"), remove = byId("without-photo");

  const show = (url) => {
    if (preview.src.startsWith("blob:")) URL.revokeObjectURL(preview.src);
    if (url) preview.src = url;
    else preview.removeAttribute("src");
    framed.hidden = remove.hidden = !url;
  };
  const say = (sentence) => { byId("search-status").textContent = sentence; };
  const search = () => {
    say("Searching…");
    htmx.trigger(form, "submit");
  };
  form.addEventListener("part", search);
  // A search has one of a photo, a sample and an item.
  const ask = (what, picture) => {
    if (!what.file) photo.value = "";
    item.value = what.item || "";
    sample.value = what.sample || "";
    show(picture);
    form.dispatchEvent(new CustomEvent("picture", { detail: { isPhoto: Boolean(what.file || what.sample) } }));
  };
  const take = (files) => {
    const picture = [...files].find((file) => file.type.startsWith("image/"));
    if (!picture) return say("This file is not a picture. Choose a JPEG, PNG or WebP file.");
    const chosen = new DataTransfer();
    chosen.items.add(picture);
    photo.files = chosen.files;
    photo.dispatchEvent(new Event("change"));
  };

  photo.addEventListener("change", () => {
    if (!photo.files.length) return;
    ask({ file: true }, URL.createObjectURL(photo.files[0]));
    search();
  });
  byId("camera").addEventListener("click", () => {
    photo.setAttribute("capture", "environment");
    photo.click();
    photo.removeAttribute("capture");
  });
  remove.addEventListener("click", () => {
    ask({}, "");
    photo.focus();
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData && event.clipboardData.files.length) take(event.clipboardData.files);
  });
  // A photo that misses the field must not replace the page.
  for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
  for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, () => drop.classList.add("over"));
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => take(event.dataTransfer.files));

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-picture]");
    if (!button) return;
    if (button.dataset.item) words.value = ""; // words found these items; their like need not have them
    ask(button.dataset, button.dataset.picture);
    search();
    if (button.dataset.item) byId("search").scrollIntoView();
  });
  form.addEventListener("htmx:confirm", (event) => {
    if (photo.files.length || item.value || sample.value || words.value.trim()) return;
    event.preventDefault();
    say("Choose a photo or type words first.");
  });
  // Catalogue pictures may be gone; a quiet drawing is better than a broken icon.
  document.addEventListener("error", (event) => {
    const image = event.target;
    if (image.tagName === "IMG" && !image.src.endsWith("no-picture.svg")) image.src = "/static/no-picture.svg";
  }, true);

  document.addEventListener("htmx:sendError", (event) => {
    if (event.target.closest("#search")) say("The server of this page does not answer. Restart it, then try again.");
    document.body.classList.add("away");
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful) document.body.classList.remove("away");
  });

  // On a phone, rows become cards: each value carries its column's name. The roles survive `display: block`.
  const roles = { TABLE: "table", THEAD: "rowgroup", TBODY: "rowgroup", TR: "row", TD: "cell" };
  const label = () => {
    for (const table of document.querySelectorAll("table:not([role])")) {
      const names = [...table.querySelectorAll("thead th, thead td")].map((cell) => cell.textContent.replace(/\s+/g, " ").trim()); // innerText is empty while details are closed
      for (const element of [table, ...table.querySelectorAll("thead, tbody, tr, td")]) element.setAttribute("role", roles[element.tagName]);
      for (const heading of table.querySelectorAll("th")) heading.setAttribute("role", heading.scope === "row" ? "rowheader" : "columnheader");
      for (const row of table.querySelectorAll("tbody tr")) [...row.children].forEach((cell, place) => { cell.dataset.label = names[place] || ""; });
    }
  };

  // The server writes times in UTC. Those with a time of day are shown in the browser's zone; days of UTC stay.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const local = (utc, at) => {
    const parts = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
    if (/:..:/.test(utc)) parts.second = "2-digit";
    if (/[a-z]/.test(utc)) Object.assign(parts, { day: "2-digit", month: "short" });
    if (/ \d{4} /.test(utc)) parts.year = "numeric";
    return new Intl.DateTimeFormat("en-GB", parts).format(at).replace(",", "");
  };
  const showLocalTimes = () => {
    if (zone === "UTC") return;
    for (const each of document.querySelectorAll("time:not([data-local]), [data-time]:not([data-local])")) {
      const utc = each.dataset.utc || each.textContent, at = new Date(each.dateTime || 1000 * each.dataset.time);
      each.dataset.local = "";
      if (utc.includes(":")) each.textContent = each.textContent.replace(utc, local(utc, at));
    }
    for (const each of document.querySelectorAll("[data-zone]")) each.textContent = zone;
  };

  // Terms explain themselves when pointed at, focused or tapped. Escape closes the explanation.
  const tip = byId("tip");
  const explain = (term) => {
    tip.textContent = byId(term.getAttribute("aria-describedby")).textContent;
    tip.hidden = false;
    const at = term.getBoundingClientRect(), size = tip.getBoundingClientRect(), room = document.documentElement;
    tip.style.left = `${Math.max(8, Math.min(at.left, room.clientWidth - size.width - 8))}px`;
    tip.style.top = `${at.bottom + size.height + 8 > room.clientHeight ? at.top - size.height - 4 : at.bottom + 4}px`;
  };
  const hide = () => { tip.hidden = true; };
  const term = (event) => event.target.closest && event.target.closest(".term");
  for (const name of ["mouseover", "focusin", "click"]) document.addEventListener(name, (event) => { if (term(event)) explain(term(event)); });
  document.addEventListener("mouseout", (event) => { if ((term(event) || event.target === tip) && event.relatedTarget !== tip) hide(); });
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  document.addEventListener("scroll", hide, { passive: true });

  // Tells a screen reader once which sections are still being computed, and when they are done. Later refreshes are silent.
  const loading = byId("sections-status");
  let opening = true;
  const announce = () => {
    if (!opening) return;
    const busy = [...document.querySelectorAll("section[aria-busy=true] > h2")].map((heading) => heading.textContent);
    opening = busy.length > 0;
    if (opening) loading.textContent = `Updating: ${busy.join(", ")}.`;
    else if (loading.textContent) loading.textContent = "All figures are up to date.";
  };

  let open = [];
  document.addEventListener("htmx:beforeSwap", () => {
    open = [...document.querySelectorAll("details[open][id]")].map((details) => details.id);
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of open) if (byId(id)) byId(id).open = true;
    label();
    showLocalTimes();
    announce();
  });
  label();
  showLocalTimes();
  setTimeout(announce, 500); // a status that is there from the start is not announced
  setInterval(() => {
    if (document.visibilityState === "visible") htmx.trigger(document.body, "refresh");
  }, REFRESH_MS);
})();
