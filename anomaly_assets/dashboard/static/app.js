// Keyboard, colours, messages and the parts of pages that HTMX swaps; pages work without it.
"use strict";
{
  const root = document.documentElement;
  const base = document.body.dataset.base;
  const toast = document.getElementById("toast");
  const progress = document.getElementById("progress");
  const help = document.getElementById("help");
  const THEMES = ["", "light", "dark"];
  let toastTimer = 0;

  const say = (text) => {
    toast.textContent = text;
    clearTimeout(toastTimer);
    toastTimer = setTimeout(() => { toast.textContent = ""; }, 7000);
  };

  const nameTheme = () => {
    const names = { "": "as the system", light: "light", dark: "dark" };
    const label = `Colours: ${names[root.dataset.theme ?? ""]}`;
    for (const button of document.querySelectorAll("[data-act=theme]")) {
      button.setAttribute("aria-label", label);
      button.title = label;
    }
    return label;
  };
  const nextTheme = () => {
    const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "") + 1) % THEMES.length];
    if (next) root.dataset.theme = next; else delete root.dataset.theme;
    try {
      if (next) localStorage.setItem("theme", next); else localStorage.removeItem("theme");
    } catch { /* storage is closed: until the page is left */ }
    say(nameTheme());
    document.dispatchEvent(new CustomEvent("colours"));
  };
  nameTheme();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    document.dispatchEvent(new CustomEvent("colours")));

  document.addEventListener("click", (event) => {
    const act = event.target.closest("[data-act]")?.dataset.act;
    if (act === "theme") nextTheme();
    if (act === "help") help?.showModal();
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
  });

  const rows = () => [...document.querySelectorAll(".rows .row-link")];
  const step = (by) => {
    const links = rows();
    if (!links.length) return;
    const at = links.indexOf(document.activeElement);
    links[at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(Math.max(at + by, 0), links.length - 1)].focus();
  };
  let going = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.key === "Escape") {
      for (const menu of document.querySelectorAll("details.menu[open]")) {
        menu.open = false;
        menu.querySelector("summary").focus();
      }
      return;
    }
    if (event.target.closest("input, select, textarea, dialog[open]")) return;
    if (going && event.timeStamp - going < 1500) {
      going = 0;
      document.querySelector(`.nav [data-key="${CSS.escape(event.key)}"]`)?.click();
      event.preventDefault();
      return;
    }
    const acts = {
      "?": () => help?.showModal(),
      "/": () => document.getElementById("quick")?.focus(),
      t: nextTheme,
      g: () => { going = event.timeStamp; },
      j: () => step(1),
      k: () => step(-1),
    };
    const act = acts[event.key]
      ?? (/^[[\]\-1-9]$/.test(event.key)
        && document.querySelector(`main [data-key="${CSS.escape(event.key)}"]`)
        ? () => document.querySelector(`main [data-key="${CSS.escape(event.key)}"]`).click()
        : null);
    if (act) {
      event.preventDefault();
      act();
    }
  });

  // What is read or typed is not swapped away, and nobody asks for a page that is not looked at.
  const body = document.body;
  body.addEventListener("htmx:beforeRequest", (event) => {
    const polled = event.detail.elt.matches("[data-poll]");
    if (polled && (document.hidden || event.detail.elt.contains(document.activeElement))) {
      event.preventDefault();
      return;
    }
    if (!polled) progress.classList.add("busy");
  });
  body.addEventListener("htmx:afterRequest", () => progress.classList.remove("busy"));
  body.addEventListener("htmx:responseError", (event) => {
    const { xhr } = event.detail;
    say(xhr.getResponseHeader("content-type")?.startsWith("text/") && xhr.responseText.length < 400
      ? new DOMParser().parseFromString(xhr.responseText, "text/html").body.textContent.trim()
      : `The server answered ${xhr.status}.`);
  });
  body.addEventListener("htmx:sendError", () => say("The server cannot be reached; try again."));
  body.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id === "judgement") document.getElementById("judge-title")?.focus();
  });

  window.pages = {
    base,
    say,
    // Data of a drawing; who is not logged in any more goes to the login.
    async fetch(address) {
      const answer = await fetch(address, { headers: { Accept: "application/json" } });
      if (answer.status === 401) {
        location.assign(`${base}/login?next=${encodeURIComponent(location.pathname + location.search)}`);
        return new Promise(() => {});
      }
      if (!answer.ok) throw new Error((await answer.text()).slice(0, 300));
      return answer.json();
    },
    failed(element, error, again) {
      const box = document.createElement("div");
      box.className = "failed";
      box.setAttribute("role", "alert");
      const text = document.createElement("p");
      text.textContent = error instanceof TypeError ? "The server cannot be reached." : error.message;
      const button = document.createElement("button");
      button.className = "button";
      button.type = "button";
      button.textContent = "Try again";
      button.addEventListener("click", again);
      box.append(text, button);
      element.replaceChildren(box);
    },
    // A colour of the style sheet as it is now.
    colour(name, alpha) {
      const probe = document.createElement("i");
      probe.style.color = alpha === undefined
        ? `var(--${name})` : `color-mix(in srgb, var(--${name}) ${alpha * 100}%, transparent)`;
      document.body.append(probe);
      const found = getComputedStyle(probe).color;
      probe.remove();
      return found;
    },
    axis: () => parseInt(getComputedStyle(root).getPropertyValue("--axis"), 10),
    moment(seconds, zone, day = true) {
      const form = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: zone };
      if (day) Object.assign(form, { weekday: "short", day: "numeric", month: "short" });
      return new Intl.DateTimeFormat("en-GB", form).format(seconds * 1000);
    },
    // Shows another time: the address says it, so it can be shared, and Back leads out again.
    zoom(page, from, to) {
      const address = new URL(page, location.href);
      const stamp = (seconds) => `${new Date(seconds * 1000).toISOString().slice(0, 16)}Z`;
      const first = Math.floor(from / 300) * 300;
      address.searchParams.set("from", stamp(first));
      address.searchParams.set("to", stamp(Math.max(Math.ceil(to / 300) * 300, first + 1800)));
      location.assign(address);
    },
  };
}
