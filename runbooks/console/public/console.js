// On every page: a session that ended on the server ends on the page, too.
const ASK_MS = 30_000;

if (document.body.hasAttribute("data-signed-in")) setInterval(askWhetherSignedIn, ASK_MS);

async function askWhetherSignedIn() {
  if (document.hidden) return;
  const answer = await fetch("/session").catch(() => undefined);
  if (answer?.status === 401) location.assign("/sign-in?ended");
}

// A form that starts something is sent once: its button rests until the next page is there.
for (const form of document.querySelectorAll("form[data-once]")) {
  form.addEventListener("submit", () => {
    for (const button of form.querySelectorAll("button")) button.setAttribute("aria-disabled", "true");
  });
}
