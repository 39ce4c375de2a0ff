// From findings to a verdict: what is accepted and until when, what is told twice, and the forms of a report.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { judge } from "../../../runbooks/lib/drift-accept.ts";
import { withoutDoubles } from "../../../runbooks/lib/drift-doubles.ts";
import { driftMarkdown, driftResult, driftText, verdict } from "../../../runbooks/lib/drift-report.ts";
import { RunbookError } from "../../../runbooks/lib/errors.ts";
import { CHECKS, DriftReport, type Finding, findingId } from "../../../runbooks/lib/findings.ts";
import { REPOSITORY } from "../../../scripts/toolchain/paths.ts";

const finding = (over: Partial<Finding> = {}): Finding => ({
  check: "vault",
  kind: "record-missing",
  about: "acme",
  which: "tls",
  what: "smtp/acme/tls is not there",
  mend: "npx runbook save-host-state --tenant acme",
  ...over,
});
const noon = new Date("2026-03-31T12:00:00Z");
const accept = (until: string, id = findingId(finding())) => ({ id, until, reason: "a move" });

test("an accepted finding doesn't count up to its last day, and counts again the day after", () => {
  const ids = (until: string) => {
    const { counted, accepted } = judge([finding()], [accept(until)], noon);
    return {
      counted: counted.map(({ expired }) => expired?.until),
      accepted: accepted.map(({ by }) => by.until),
    };
  };
  expect(ids("2026-03-31")).toEqual({ counted: [], accepted: ["2026-03-31"] });
  expect(ids("2026-03-30")).toEqual({ counted: ["2026-03-30"], accepted: [] });
});

test("an accepted id that nothing is found for is named, and what is about another thing counts", () => {
  const judged = judge([finding({ about: "globex" })], [accept("2026-12-31")], noon);
  expect(judged.unused.map(({ id }) => id)).toEqual(["vault/record-missing/acme/tls"]);
  expect(judged.counted).toHaveLength(1);
});

test("an id stays the same when what was found changes", () => {
  expect(findingId(finding({ what: "x", found: "y", declared: "z" }))).toBe(findingId(finding()));
});

test("a record that the engine sees changed in Route 53 is not told of again by its answers; any other is", () => {
  const infra = finding({
    check: "infra",
    kind: "resource-differs",
    about: "tenant-acme",
    which: "mail.acme.example A",
  });
  const dns = (which: string) => finding({ check: "dns", kind: "record-differs", which });
  const all = [infra, dns("mail.acme.example A"), dns("mail.acme.example AAAA"), dns("acme.example MX")];
  expect(withoutDoubles(all).map(({ which }) => which)).toEqual([
    "mail.acme.example A",
    "mail.acme.example AAAA",
    "acme.example MX",
  ]);
  expect(withoutDoubles(all.slice(1))).toHaveLength(3);
});

test("the KMS key that the engine sees changed is told once", () => {
  const backups = finding({ check: "backups", kind: "kms-key-unusable" });
  expect(withoutDoubles([finding({ check: "infra", which: "Key backup-wrapping" }), backups])).toHaveLength(
    1,
  );
  expect(withoutDoubles([finding({ check: "infra", which: "Key bucket" }), backups])).toHaveLength(2);
});

test("a look that fails is told as not checked, with the next command, and what the others found stays", async () => {
  const report = new DriftReport();
  await report.look("vault", "acme", async () => [finding()]);
  await report.look("vault", "globex", () =>
    Promise.reject(new RunbookError("sealed", { exit: "refused", next: "unseal" })),
  );
  await report.look("vault", "initech", () => Promise.reject(new Error("a bug")));
  expect(report.findings).toHaveLength(1);
  expect(report.unchecked.map(({ about, why, next }) => [about, why, next])).toEqual([
    ["globex", "sealed", "unseal"],
    ["initech", "a bug", "npx runbook check-drift"],
  ]);
});

const result = driftResult(
  ["infra", "vault"],
  judge(
    [finding({ declared: "a|b\nc", found: "`x`" }), finding({ check: "infra", about: "s" })],
    [accept("2020-01-01")],
    noon,
  ),
  [{ check: "infra", about: "stacks", why: "<b>no</b>\nanswer", next: "pulumi stack ls" }],
);

test("the report names checks without a finding, what was not looked at, and an acceptance that is over", () => {
  const text = driftText(result);
  expect(text).toContain("NOT CHECKED: stacks: <b>no</b> answer");
  expect(text).toContain("accepted until 2020-01-01: that is over, so it counts again");
  expect(text).toContain("id:       vault/record-missing/acme/tls");
  expect(verdict(result)).toBe("infra, vault: 2 findings, 1 part could not be looked at");
  const clean = driftResult(["infra"], judge([], [], noon), []);
  expect(driftText(clean)).toBe("infra: as declared\ninfra: no drift found, everything was looked at");
});

test("Markdown keeps its table whole, whatever the values hold", () => {
  const lines = driftMarkdown(result).split("\n");
  const rows = lines.filter((line) => line.startsWith("| vault"));
  expect(rows).toHaveLength(1);
  // A cell's bar is escaped, so that five cells stay five.
  expect(rows[0]?.split(/(?<!\\)\|/)).toHaveLength(7);
  expect(lines.find((line) => line.includes("stacks"))).toContain("\\<b\\>no\\</b\\> answer");
});

test("docs/drift.md has a row for each kind of finding", () => {
  const page = readFileSync(join(REPOSITORY, "docs", "drift.md"), "utf8");
  const folder = join(REPOSITORY, "runbooks", "lib");
  const files = readdirSync(folder).filter((name) => name.startsWith("drift-"));
  const kinds = files.flatMap((name) => {
    const text = readFileSync(join(folder, name), "utf8");
    // Written out, or handed to what begins a finding.
    const all = text.matchAll(/kind: ([^,;\n]+)|\b(?:about|finding)\(\s*[\w.]+,\s*("[a-z-]+")/g);
    return [...all].flatMap(([, written, handed]) =>
      [...(written ?? handed ?? "").matchAll(/"([a-z-]+)"/g)].map(([, kind = ""]) => kind),
    );
  });
  for (const known of ["resource-gone", "key-minimum", "backup-old", "kms-key-unusable"])
    expect(kinds).toContain(known);
  for (const kind of new Set(kinds)) expect(page, kind).toMatch(new RegExp(`^\\|[^|]*\`${kind}\``, "m"));
  for (const check of CHECKS) expect(page).toContain(`| \`${check}\` |`);
});
