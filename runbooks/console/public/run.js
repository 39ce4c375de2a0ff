// A run's page: what changes comes as an event and takes the old one's place. The new credential is fetched by a click,
// stands in this page alone, and is wiped by its countdown, by its button, and when the page is left.
const live = document.getElementById("run-live");
const lost = document.getElementById("run-lost");
const said = document.getElementById("run-said");
const credential = document.getElementById("credential");
const fields = document.getElementById("credential-fields");
const csrf = document.querySelector('meta[name="csrf"]').content;
const LABELS = { username: "User name", password: "Password", webmail_url: "Webmail" };
let events;
let ended = live.dataset.ended === "true";

// A hidden page holds no connection: a browser has only six for a server.
document.addEventListener("visibilitychange", follow);
window.addEventListener("pagehide", () => {
  events?.close();
  if (credential.dataset.display === "open") wipe();
});
follow();

function follow() {
  events?.close();
  events = undefined;
  if (document.hidden || ended) return;
  events = new EventSource(live.dataset.events);
  events.addEventListener("update", ({ data }) => update(JSON.parse(data)));
  events.addEventListener("signed-out", signedOut);
  // The browser tries again by itself; meanwhile what stands here may be long past.
  events.addEventListener("error", () => {
    lost.hidden = ended;
  });
}

function update(told) {
  const open = live.querySelector("details.notes")?.open;
  live.innerHTML = told.html;
  if (open !== undefined) live.querySelector("details.notes").open = open;
  if (said.textContent !== told.said) said.textContent = told.said;
  if (!["open", "wiped"].includes(credential.dataset.display)) show(told.display, told.expires);
  ended = told.ended;
  lost.hidden = true;
  if (ended) events.close();
}

function signedOut() {
  events.close();
  wipe();
  location.assign("/sign-in?ended");
}

function show(display, expires) {
  const before = credential.dataset.display;
  credential.dataset.display = display;
  credential.hidden = display === "none";
  if (expires) credential.dataset.expires = expires;
  if (display !== before && display === "waiting") document.getElementById("show-credential").focus();
  count();
}

document.getElementById("show-credential").addEventListener("click", async (event) => {
  event.target.disabled = true;
  const path = live.dataset.events.replace(/events$/, "credential");
  const answer = await fetch(path, { method: "POST", headers: { "x-csrf": csrf } }).catch(() => undefined);
  event.target.disabled = false;
  if (!answer?.ok) return show(answer?.status === 410 ? "shown" : "waiting", "");
  const { expires_at, ...given } = await answer.json();
  fields.replaceChildren(...Object.entries(given).flatMap(([name, value]) => row(name, value)));
  show("open", expires_at);
  fields.querySelector('[data-field="password"] + button')?.focus();
});

document.getElementById("hide-credential").addEventListener("click", wipe);

function row(name, value) {
  const label = document.createElement("dt");
  label.textContent = LABELS[name] ?? name;
  const shown = document.createElement("dd");
  const text = document.createElement("code");
  text.textContent = value;
  text.dataset.field = name;
  const copy = document.createElement("button");
  copy.type = "button";
  copy.textContent = "Copy";
  copy.setAttribute("aria-label", `Copy ${label.textContent.toLowerCase()}`);
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text.textContent);
    copy.textContent = "Copied";
    setTimeout(() => {
      copy.textContent = "Copy";
    }, 2000);
  });
  shown.append(text, copy);
  return [label, shown];
}

function wipe() {
  fields.replaceChildren();
  if (credential.dataset.display === "open") credential.dataset.display = "wiped";
}

setInterval(count, 1000);
count();

function count() {
  const left = Math.ceil((Date.parse(credential.dataset.expires) - Date.now()) / 1000);
  if (Number.isNaN(left)) return;
  if (left <= 0 && credential.dataset.display === "open") wipe();
  const text = left <= 0 ? "0:00" : `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
  for (const place of credential.querySelectorAll("[data-countdown]")) place.textContent = text;
}
