// The pages must not promise what isn't there: each command in them is one that exists, with flags that it takes, each
// link leads somewhere, and each example of settings is read by the code that will read it.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { afterAll, expect, test } from "vitest";
import { COMMON_FLAGS, flagsOf } from "../../runbooks/lib/flags.ts";
import type { Runbook } from "../../runbooks/lib/runbook.ts";
import { loadSettings } from "../../runbooks/lib/settings.ts";
import { RUNBOOKS } from "../../runbooks/main.ts";
import { REPOSITORY } from "../../scripts/toolchain/paths.ts";

const scratch = mkdtempSync(join(tmpdir(), "docs-"));
afterAll(() => rmSync(scratch, { recursive: true }));

const files = (folder: string, end: string): string[] =>
  readdirSync(join(REPOSITORY, folder))
    .filter((name) => name.endsWith(end))
    .map((name) => join(folder, name));
const PAGES = ["README.md", "CONTRIBUTING.md", ...files("docs", ".md")];
const UNITS = files("docs/examples/systemd", ".service");
const read = (file: string): string => readFileSync(join(REPOSITORY, file), "utf8");

/** What follows `runbook ` or `main.ts ` up to the end of the code or the line. */
const commandsIn = (text: string): string[] =>
  [...text.matchAll(/(?:npx runbook|runbooks\/main\.ts) ([a-z][^`#\n]*)/g)].map(([, words = ""]) =>
    words.trim(),
  );

test.each([...PAGES, ...UNITS])("%s names only runbooks and flags that there are", async (file) => {
  for (const command of commandsIn(read(file))) {
    const [name = "", ...words] = command.split(/\s+/);
    expect(Object.keys(RUNBOOKS), command).toContain(name);
    const { default: runbook } = (await import(`../../runbooks/${name}.ts`)) as { default: Runbook };
    const known = [...flagsOf(runbook.flags, runbook.positional), ...flagsOf(COMMON_FLAGS)];
    const names = known.map((flag) => flag.shown);
    for (const word of words.filter((one) => one.startsWith("--"))) expect(names, command).toContain(word);
  }
});

test("the README has a line for each runbook", () => {
  const rows = read("README.md")
    .split("\n")
    .filter((line) => line.startsWith("| `"));
  for (const name of Object.keys(RUNBOOKS)) {
    expect(
      rows.filter((row) => row.startsWith(`| \`${name}`)),
      name,
    ).toHaveLength(1);
  }
});

test.each(PAGES)("%s links to files and headings that there are", (file) => {
  for (const [, target = ""] of read(file).matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^https?:/.test(target)) continue;
    const [path = "", heading] = target.split("#");
    const linked = path === "" ? file : join(dirname(file), path);
    expect(existsSync(resolve(REPOSITORY, linked)), `${file} → ${target}`).toBe(true);
    if (heading !== undefined) expect(anchorsOf(read(linked)), `${file} → ${target}`).toContain(heading);
  }
});

const anchorsOf = (text: string): string[] =>
  [...text.matchAll(/^#+ (.*)$/gm)].map(([, title = ""]) =>
    title
      .toLowerCase()
      .replace(/[^\p{L}\p{N} -]/gu, "")
      .replaceAll(" ", "-"),
  );

const blocks = ["README.md", "docs/notifications.md"].flatMap((file) =>
  [...read(file).matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, yaml = ""]) => [file, yaml] as const),
);
test.each([["docs/examples/recovery.yaml", read("docs/examples/recovery.yaml")] as const, ...blocks])(
  "the settings in %s are ones that are taken",
  (_, yaml) => {
    const file = join(scratch, "recovery.yaml");
    // A page about one section leaves out the others.
    const whole = /^ *vault:/m.test(yaml) ? yaml : `vault: {addr: "https://vault.example"}\n${yaml}`;
    writeFileSync(file, whole);
    const settings = loadSettings({ RECOVERY_CONFIG: file });
    expect(settings.notify?.security).toEqual(["oncall@people.example"]);
    expect(settings.backup.after_response).toContain("vault-backup.service");
  },
);
