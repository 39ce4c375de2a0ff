// Shows that something that takes long is still going on: one line that ticks on a terminal, a line every 15 s
// elsewhere. Always on stderr, since stdout may be read by a program.
const TERMINAL = process.stderr.isTTY === true;
const TICK = TERMINAL ? 1_000 : 15_000;

export async function progress(title, work) {
  const start = Date.now();
  let detail = "";
  const elapsed = () => duration(Date.now() - start);
  const line = (mark, text) => `${mark} ${title}${text ? `: ${text}` : ""}`;
  const show = () => draw(`${line("…", detail)} (${elapsed()})`);
  draw(line("…", ""));
  const timer = setInterval(show, TICK);
  try {
    const result = await work((text) => {
      detail = text;
    });
    settle(`${line("✓", "")} (${elapsed()})`);
    return result;
  } catch (error) {
    settle(`${line("✗", "")} (${elapsed()})`);
    throw error;
  } finally {
    clearInterval(timer);
  }
}

export function note(text) {
  settle(text);
}

function draw(text) {
  if (TERMINAL) process.stderr.write(`\r\x1b[K${text.slice(0, (process.stderr.columns || 80) - 1)}`);
  else process.stderr.write(`${text}\n`);
}

function settle(text) {
  process.stderr.write(TERMINAL ? `\r\x1b[K${text}\n` : `${text}\n`);
}

function duration(milliseconds) {
  const seconds = Math.round(milliseconds / 1000);
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}
