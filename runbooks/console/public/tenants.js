// The list of tenants: cells change as their tenants are read, a search finds while it is typed, and who is chosen stays
// chosen on other pages of the list.
const list = document.getElementById("list");
const search = document.querySelector("[data-search]");
const bar = document.getElementById("chosen");
let events;

// A hidden page asks for nothing.
document.addEventListener("visibilitychange", follow);
window.addEventListener("pagehide", () => events?.close());
follow();

function follow() {
  events?.close();
  events = undefined;
  const rows = [...list.querySelectorAll("[data-tenant]")];
  if (document.hidden || rows.length === 0) return;
  const asked = new URLSearchParams(rows.map((row) => ["tenant", row.dataset.tenant]));
  events = new EventSource(`/tenants/live?${asked}`);
  events.addEventListener("tenant", ({ data }) => {
    const template = document.createElement("template");
    template.innerHTML = data;
    const fresh = template.content.querySelector("tr");
    const row = list.querySelector(`[data-tenant="${CSS.escape(fresh.dataset.tenant)}"]`);
    for (const cell of fresh.querySelectorAll("[data-cell]")) {
      const old = row?.querySelector(`[data-cell="${cell.dataset.cell}"]`);
      if (old && old.innerHTML !== cell.innerHTML) old.innerHTML = cell.innerHTML;
    }
  });
}

const TYPING_MS = 150;
let typing;
search.elements.q.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(find, TYPING_MS);
});
search.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  void find();
});

// Typed before this script was there, or kept by the browser when the page was loaded again.
if (search.elements.q.value !== search.elements.q.defaultValue) void find();

async function find() {
  const q = search.elements.q.value.trim();
  const query = q === "" ? "" : `?${new URLSearchParams({ q })}`;
  const answer = await fetch(`/tenants/list${query}`).catch(() => undefined);
  // Somebody typed on meanwhile: that search's answer is on its way.
  if (search.elements.q.value.trim() !== q) return;
  if (!answer?.ok) return location.assign(`/${query}`);
  list.innerHTML = await answer.text();
  history.replaceState(null, "", `/${query}`);
  tick();
  follow();
}

/** Names in the bar before the rest is only counted. */
const SHOWN = 6;
const CHOSEN = "chosen-tenants";
const chosen = new Set(JSON.parse(sessionStorage.getItem(CHOSEN) ?? "[]"));
list.addEventListener("change", ({ target }) => {
  if (target.name !== "tenant") return;
  if (target.checked) chosen.add(target.value);
  else chosen.delete(target.value);
  keep();
});
bar.querySelector("[data-clear]").addEventListener("click", () => {
  chosen.clear();
  keep();
  search.elements.q.focus();
});
// Ticked before this script was there.
for (const box of list.querySelectorAll('input[name="tenant"]:checked')) chosen.add(box.value);
keep();

function keep() {
  sessionStorage.setItem(CHOSEN, JSON.stringify([...chosen]));
  tick();
}

/** Shows who is chosen, in the list and in the bar, which carries those that aren't in sight. */
function tick() {
  const boxes = [...list.querySelectorAll('input[name="tenant"]')];
  for (const box of boxes) box.checked = chosen.has(box.value);
  bar.hidden = chosen.size === 0;
  const names = [...chosen].sort();
  const more = names.length > SHOWN ? ", …" : "";
  bar.querySelector("[data-names]").textContent =
    `${names.length} chosen: ${names.slice(0, SHOWN).join(", ")}${more}`;
  const others = names.filter((name) => !boxes.some((box) => box.value === name));
  bar.querySelector("[data-others]").replaceChildren(...others.map(hidden));
}

function hidden(value) {
  const input = document.createElement("input");
  Object.assign(input, { type: "hidden", name: "tenant", value });
  return input;
}
