// Findings that somebody has looked at and lives with for a while: each with a reason and a last day. After it the
// finding counts again; nothing is accepted for ever.
import { readFileSync } from "node:fs";
import { parseDocument } from "yaml";
import { z } from "zod";
import { backupDay, dayOf } from "../../stacks/names.ts";
import { messageOf } from "./errors.ts";
import { type Finding, findingId } from "./findings.ts";
import { usage } from "./flags.ts";

const Accepted = z.strictObject({
  /** As a report shows it. */
  id: z.string().min(1),
  /** The last day (UTC) on which it doesn't count. */
  until: z.string().refine((text) => backupDay(text) !== undefined, "takes a day such as 2026-02-28"),
  reason: z.string().trim().min(1, "takes a text that isn't empty"),
});
export type Accepted = z.infer<typeof Accepted>;

/** @throws RunbookError (exit 2) that names what is wrong with the file. */
export function readAccepted(file: string): Accepted[] {
  const next = `correct ${file}: a list of {id: …, until: 2026-02-28, reason: …}`;
  let content: unknown;
  try {
    const document = parseDocument(readFileSync(file, "utf8"));
    if (document.errors[0] !== undefined) throw document.errors[0];
    content = document.toJS() ?? [];
  } catch (error) {
    throw usage(`--accept ${file} can't be read: ${messageOf(error)}`, next);
  }
  const checked = z.array(Accepted).safeParse(content);
  if (!checked.success) {
    const problems = checked.error.issues.map(({ path, message }) => `${path.join(".") || "it"} ${message}`);
    throw usage(`--accept ${file}: ${problems.join("; ")}`, next);
  }
  const ids = checked.data.map(({ id }) => id);
  const twice = ids.find((id, at) => ids.indexOf(id) !== at);
  if (twice !== undefined) throw usage(`--accept ${file} has ${twice} twice`, next);
  return checked.data;
}

export interface Judged {
  /** What counts. */
  counted: { finding: Finding; expired: Accepted | undefined }[];
  accepted: { finding: Finding; by: Accepted }[];
  /** Entries that nothing was found for: they can go, unless a part was not looked at. */
  unused: Accepted[];
}

/** Pure. */
export function judge(findings: readonly Finding[], accepted: readonly Accepted[], now: Date): Judged {
  const byId = new Map(accepted.map((one) => [one.id, one]));
  const judged: Judged = { counted: [], accepted: [], unused: [] };
  for (const finding of findings) {
    const by = byId.get(findingId(finding));
    if (by !== undefined && by.until >= dayOf(now)) judged.accepted.push({ finding, by });
    else judged.counted.push({ finding, expired: by });
  }
  const found = new Set(findings.map(findingId));
  judged.unused = accepted.filter(({ id }) => !found.has(id));
  return judged;
}
