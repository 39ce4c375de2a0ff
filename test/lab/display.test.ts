// The new credential is handed out once: whatever dies before somebody has it, the next run hands it out, without a
// new version; it is seen nowhere else.
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { readRecord } from "../../scripts/drill/doors.ts";
import { GLOBEX } from "../../scripts/lab/tenants.ts";
import { adminAddress, recordPath, webmailUrl } from "../../stacks/names.ts";
import { type AtTerminal, atTerminal } from "./at-terminal.ts";
import { begin } from "./killed.ts";
import { lab, runbook } from "./lab.ts";
import { contentOf, filesUnder, searchFor, watchProcesses } from "./needles.ts";
import { passwordOf } from "./rebuilt.ts";
import { until } from "./resets.ts";
import { withWindow } from "./vault-window.ts";

const RUN = randomBytes(3).toString("hex");
let count = 0;
const newIncident = (): string => `INC-${RUN}-${String(++count).padStart(3, "0")}`;
const RESET = (incident: string, ...more: string[]): string[] => [
  ...["emergency-reset", "--tenant", GLOBEX.id, "--incident", incident, "--reason", "a test", "--yes"],
  ...more,
];

/** What a terminal gets before and after a text on its second screen, which has no scrollback. */
const SECOND_SCREEN = "\x1b[?1049h\x1b[2J\x1b[H";
const WIPED = "\x1b[2J\x1b[3J\x1b[H\x1b[?1049l";
const STANDS = "Any key wipes it";
const LAST_BEFORE = "→ retire the old versions of the tenant's key";
/** Nobody reads quicker. */
const READING_MS = 500;

const version = async (): Promise<number> => (await readRecord(lab, GLOBEX, "admin")).version;
const rotation = async () => (await readRecord(lab, GLOBEX, "rotation")).fields;

describe("at a terminal", { timeout: 300_000 }, () => {
  test("the credential stands on the second screen until a key is pressed, once, and is seen nowhere else", async () => {
    const incident = newIncident();
    const was = await version();
    const { result: password, args } = await watchProcesses(() => readAndWipe(atTerminal(RESET(incident))));
    expect(await version()).toBe(was + 1);
    expect(await rotation()).toMatchObject({ displayed: true });
    await showsNothing(incident);
    await showsNothing(incident);
    expect(await version()).toBe(was + 1);

    const search = searchFor([{ what: "password", value: password }]);
    expect(args).toContain(incident);
    expect(search(args)).toEqual([]);
    const files = filesUnder(lab.place.dir);
    expect(files).toContain(`${lab.place.dir}/audit.jsonl`);
    expect(files.filter((file) => search(contentOf(file)).length > 0)).toEqual([]);
  });

  test("a run that dies before it showed it, or whose terminal is closed, leaves that to the next one", async () => {
    const incident = newIncident();
    const was = await version();
    await killedBeforeItShows(incident);
    const closed = atTerminal(RESET(incident));
    await closed.said(LAST_BEFORE);
    closed.close();
    await until(async () => (await rotation()).holder === null);
    expect(await rotation()).toMatchObject({ displayed: false });

    await readAndWipe(atTerminal(RESET(incident)));
    expect(await version()).toBe(was + 1);
    await showsNothing(incident);
  });

  test("a run that dies before it noted that it had shown it is followed by one that shows it again", async () => {
    const incident = newIncident();
    const was = await version();
    const unseen = await runbook(RESET(incident, "--json"));
    expect(JSON.parse(unseen.stdout)).toMatchObject({ displayed: "waiting", version: was + 1 });
    await killedBeforeItNotes(incident);
    await readAndWipe(atTerminal(RESET(incident)));
    expect(await version()).toBe(was + 1);
    await showsNothing(incident);
  });
});

test("a token of a run that dies with it is not believed to be handed out: the next one opens once", async () => {
  const incident = newIncident();
  const was = await version();
  const args = RESET(incident, "--wrap", "--json");
  let kill = (): void => {};
  await withWindow(
    async (window) => {
      const run = begin(args, window.env);
      kill = () => run.signal("SIGKILL");
      expect((await run.ended).code).toBeNull();
    },
    (call) => {
      if (!call.endsWith(" sys/wrapping/wrap")) return undefined;
      kill();
      return "lost";
    },
  );
  expect(await rotation()).toMatchObject({ state: "RETIRED", displayed: false });
  const done = await runbook(args);
  expect(done.code, done.stderr).toBe(0);
  const token = z.object({ wrap_token: z.string() }).parse(JSON.parse(done.stdout)).wrap_token;
  const opened = Opened.parse(await unwrap(token));
  expect(opened.data.password === (await passwordOf(GLOBEX))).toBe(true);
  expect(opened.data).toMatchObject({
    username: adminAddress(GLOBEX.domain),
    webmail_url: webmailUrl(GLOBEX.domain),
  });
  expect(await unwrap(token)).toMatchObject({ errors: [expect.stringContaining("not valid")] });
  const again = await runbook(args);
  expect(JSON.parse(again.stdout)).toMatchObject({ displayed: "before" });
  expect(again.stdout).not.toContain("wrap_token");
  expect(await version()).toBe(was + 1);
});

/** Ends the display by a key, and looks at all that the terminal was sent. Returns the password that it showed. */
async function readAndWipe(terminal: AtTerminal): Promise<string> {
  await terminal.said("→ mark the old version compromised");
  terminal.press("typed ahead\n");
  await terminal.said(STANDS);
  await sleep(READING_MS);
  expect(terminal.sent()).not.toContain(WIPED);
  terminal.press(" ");
  expect(await terminal.ended).toBe(0);
  const [before = "", rest = ""] = terminal.sent().split(SECOND_SCREEN);
  const [shown = "", after = ""] = rest.split(WIPED);
  const password = await passwordOf(GLOBEX);
  expect(/^ *password +(\S+)\r?$/m.exec(shown)?.[1] === password, "it shows Vault's password").toBe(true);
  expect(shown).toContain(adminAddress(GLOBEX.domain));
  expect(shown).toContain(webmailUrl(GLOBEX.domain));
  expect(searchFor([{ what: "password", value: password }])(before + after)).toEqual([]);
  return password;
}

/** A run that has nothing to show. */
async function showsNothing(incident: string): Promise<void> {
  const terminal = atTerminal(RESET(incident));
  expect(await terminal.ended).toBe(0);
  expect(terminal.sent()).not.toContain(STANDS);
  expect(terminal.sent()).toMatch(/displayed +before/);
}

async function killedBeforeItShows(incident: string): Promise<void> {
  const terminal = atTerminal(RESET(incident));
  await terminal.said(LAST_BEFORE);
  terminal.kill();
  await terminal.ended;
  expect(await rotation()).toMatchObject({ displayed: false });
}

/** The run takes the record with one write and notes with the next what it has shown. */
async function killedBeforeItNotes(incident: string): Promise<void> {
  const write = `POST ${recordPath(GLOBEX.id, "rotation")}`;
  let writes = 0;
  let terminal: AtTerminal | undefined;
  const gate = (call: string) => {
    if (call !== write || ++writes < 2) return undefined;
    return terminal?.said(STANDS).then(() => {
      terminal?.kill();
      return new Promise(() => {});
    });
  };
  await withWindow(
    async (window) => {
      terminal = atTerminal(RESET(incident), window.env);
      expect(await terminal.ended).not.toBe(0);
      expect(terminal.sent()).toContain(STANDS);
    },
    undefined,
    gate,
  );
  expect(await rotation()).toMatchObject({ displayed: false });
}

const Opened = z.object({ data: z.record(z.string(), z.string()) });

/** Opens a wrapping token by Vault's own API, as whoever got it. */
async function unwrap(token: string): Promise<unknown> {
  const answer = await fetch(`${lab.place.vaultAddr}/v1/sys/wrapping/unwrap`, {
    method: "POST",
    headers: { "x-vault-token": token },
  });
  return answer.json();
}
