// Parts of a page that come after it. data-part="ADDRESS" is fetched once; data-stream="ADDRESS" is kept up to date by
// events that bear the element's id. Times say how long ago for as long as the page is open, and commands are copied.
for (const place of document.querySelectorAll("[data-part]")) void fill(place);
for (const place of document.querySelectorAll("[data-stream]")) follow(place);

async function fill(place) {
  place.setAttribute("aria-busy", "true");
  const answer = await fetch(place.dataset.part).catch(() => undefined);
  if (answer?.status === 401) return location.assign("/sign-in?ended");
  if (answer?.ok) place.innerHTML = await answer.text();
  else say(place, "This part could not be read.", () => void fill(place));
  place.removeAttribute("aria-busy");
  if (location.hash !== "")
    place.querySelector(`[id="${CSS.escape(location.hash.slice(1))}"]`)?.scrollIntoView();
}

function say(place, text, again) {
  const line = document.createElement("p");
  const button = document.createElement("button");
  line.append(`${text} `, button);
  button.type = "button";
  button.textContent = "Try again";
  button.addEventListener("click", again);
  place.replaceChildren(line);
}

/** A hidden page asks for nothing. Somebody who is at a button in it isn't robbed of it by an update. */
function follow(place) {
  let events;
  let late;
  const put = (text) => {
    late = undefined;
    if (place.innerHTML !== text) place.innerHTML = text;
  };
  const turn = () => {
    events?.close();
    if (document.hidden) return;
    events = new EventSource(place.dataset.stream);
    events.addEventListener(place.id, ({ data }) => {
      if (place.contains(document.activeElement)) late = data;
      else put(data);
    });
  };
  place.addEventListener("focusout", () => {
    setTimeout(() => late !== undefined && !place.contains(document.activeElement) && put(late));
  });
  document.addEventListener("visibilitychange", turn);
  window.addEventListener("pagehide", () => events?.close());
  turn();
}

const TICK_MS = 30_000;
setInterval(() => {
  for (const time of document.querySelectorAll("time[data-ago]")) time.textContent = ago(time.dateTime);
}, TICK_MS);

/** As the server says it. */
function ago(time) {
  const minutes = Math.floor((Date.now() - Date.parse(time)) / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min ago`;
  return `${Math.floor(minutes / 1440)} days ago`;
}

document.addEventListener("click", async ({ target }) => {
  const button = target.closest?.("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  const [word] = button.childNodes;
  word.textContent = "Copied";
  setTimeout(() => {
    word.textContent = "Copy";
  }, 2000);
});
