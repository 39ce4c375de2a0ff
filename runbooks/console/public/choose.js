// A search field with data-filters="ID" hides the choices in there whose text doesn't hold what was typed. What is
// ticked stays in sight.
for (const field of document.querySelectorAll("[data-filters]")) {
  const choices = [...document.getElementById(field.dataset.filters).querySelectorAll(".choice")];
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    for (const choice of choices) {
      const ticked = choice.querySelector("input").checked;
      choice.hidden = !ticked && !choice.textContent.toLowerCase().includes(wanted);
    }
  });
  // What was typed before this script was there.
  field.dispatchEvent(new Event("input"));
  // Enter in a search field searches; it doesn't go on to the next page.
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") event.preventDefault();
  });
}
