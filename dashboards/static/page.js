"use strict";
// What htmx cannot do alone: photos by drop, paste and camera; a heartbeat for fresh figures; what was open stays open.
(() => {
  const REFRESH_MS = 4000;
  const byId = (id) => document.getElementById(id);
  const form = byId("photo-form"), input = byId("photo"), drop = byId("drop"), preview = byId("preview");

  const show = (url) => {
    if (preview.src.startsWith("blob:")) URL.revokeObjectURL(preview.src);
    preview.src = url;
    preview.hidden = false;
  };
  const say = (sentence) => { byId("search-status").textContent = sentence; };
  let sample = null; // the sample that was searched last, for "Search again"

  const search = () => {
    if (!input.files.length) return;
    sample = null;
    show(URL.createObjectURL(input.files[0]));
    say("Searching…");
    htmx.trigger(form, "submit");
  };
  const take = (files) => {
    const photo = [...files].find((file) => file.type.startsWith("image/"));
    if (!photo) return say("That is not a picture. Choose a JPEG, PNG or WebP file.");
    const chosen = new DataTransfer();
    chosen.items.add(photo);
    input.files = chosen.files;
    search();
  };

  input.addEventListener("change", search);
  byId("camera").addEventListener("click", () => {
    input.setAttribute("capture", "environment");
    input.click();
    input.removeAttribute("capture");
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
    const button = event.target.closest("[data-photo]");
    if (!button) return;
    sample = button;
    input.value = "";
    show(button.dataset.photo);
    say("Searching…");
  });
  form.addEventListener("htmx:confirm", (event) => {
    if (input.files.length) return;
    event.preventDefault();
    if (sample) sample.click();
    else say("Choose a photo first.");
  });
  // Catalogue pictures may be gone; a quiet drawing is better than a broken icon.
  document.addEventListener("error", (event) => {
    const image = event.target;
    if (image.tagName === "IMG" && !image.src.endsWith("no-picture.svg")) image.src = "/static/no-picture.svg";
  }, true);

  document.addEventListener("htmx:sendError", (event) => {
    if (event.target.closest("#search")) say("This page's own server does not answer. Start it again, then retry.");
    document.body.classList.add("away");
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful) document.body.classList.remove("away");
  });

  let open = [];
  document.addEventListener("htmx:beforeSwap", () => {
    open = [...document.querySelectorAll("details[open][id]")].map((details) => details.id);
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of open) if (byId(id)) byId(id).open = true;
  });
  setInterval(() => {
    if (document.visibilityState === "visible") htmx.trigger(document.body, "refresh");
  }, REFRESH_MS);
})();
