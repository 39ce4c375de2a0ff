// The one-time display as a run and a page see it: seen once or not at all, and gone in time.
import { describe, expect, test } from "vitest";
import { PageOperator } from "../../../runbooks/console/page-operator.ts";
import { registerSecret } from "../../../runbooks/lib/redact.ts";

const SECRET = {
  text: "as a terminal shows it",
  fields: { username: "admin@acme.example", password: "new" },
};

function operator(displaySeconds = 60) {
  const [session, run] = [new AbortController(), new AbortController()];
  let changes = 0;
  const page = new PageOperator({
    displaySeconds,
    sessionEnded: session.signal,
    changed: () => void changes++,
  });
  let shown = 0;
  const reveal = page.reveal(SECRET, 900, async () => void shown++, run.signal);
  reveal.catch(() => {});
  return { page, session, run, reveal, shown: () => shown, changes: () => changes };
}

describe("a new credential", () => {
  test("waits for its page, is handed over once, and counts as shown when it has left", async () => {
    const { page, reveal, shown } = operator();
    expect(page.display).toBe("waiting");
    const handing = page.take();
    expect(handing?.fields).toMatchObject({ password: "new", expires_at: page.expires });
    expect(page.take()).toBeUndefined();
    expect(shown()).toBe(0);
    handing?.handed(true);
    await reveal;
    expect(shown()).toBe(1);
    expect(page.display).toBe("shown");
    expect(page.take()).toBeUndefined();
    handing?.handed(false);
    expect(page.take()).toBeUndefined();
  });

  test("can be fetched again if the connection broke before it had left", async () => {
    const { page, reveal, shown } = operator();
    page.take()?.handed(false);
    expect(shown()).toBe(0);
    page.take()?.handed(true);
    await reveal;
    expect(shown()).toBe(1);
  });

  test.each(["expires", "loses its session", "is ended"])(
    "is wiped, and counts as unseen, when the run %s before anybody came",
    async (how) => {
      const { page, session, run, reveal, shown } = operator(how === "expires" ? 0.05 : 60);
      const late = page.take();
      late?.handed(false);
      if (how === "loses its session") session.abort();
      if (how === "is ended") run.abort();
      const error = await reveal.catch((one: unknown) => one);
      expect(error).toMatchObject(how === "is ended" ? { name: "Interrupted" } : { exitCode: 5 });
      expect(page.display).toBe("gone");
      expect(page.take()).toBeUndefined();
      late?.handed(false);
      expect(page.take()).toBeUndefined();
      expect(shown()).toBe(0);
      expect(JSON.stringify(page)).not.toContain("new");
    },
  );

  test("is offered to nobody whose session had ended before", async () => {
    const session = AbortSignal.abort();
    const page = new PageOperator({ displaySeconds: 60, sessionEnded: session, changed: () => {} });
    const reveal = page.reveal(SECRET, 900, async () => {}, new AbortController().signal);
    await expect(reveal).rejects.toMatchObject({ exitCode: 5 });
    expect(page.take()).toBeUndefined();
  });
});

test("whatever a run says is kept without secrets", async () => {
  const { page } = operator();
  registerSecret("hunter2-hunter2");
  const step = { title: "try hunter2-hunter2", kind: "check", outcome: "done", seconds: 0 } as const;
  await page.began(step, 0);
  await page.note("a note of hunter2-hunter2");
  page.progress("hunter2-hunter2 is tried");
  await page.result("hunter2-hunter2");
  await page.problem("hunter2-hunter2", "type hunter2-hunter2");
  expect(JSON.stringify(page)).not.toContain("hunter2");
  expect(page.steps).toEqual([{ title: "try [redacted]", depth: 0, state: "running", seconds: undefined }]);
});

test("what a run asks is no question for a page: it was asked before", async () => {
  const { page } = operator();
  for (const asked of [page.askYesNo("Sure?"), page.askText("Name"), page.hidden({ question: "Key share" })])
    await expect(asked).rejects.toMatchObject({ exitCode: 2 });
});
