// Flags that several runbooks take, each parsed once into a type that can't be wrong.
import { z } from "zod";
import {
  type BackupDay,
  backupDay,
  domainProblem,
  type TenantId,
  tenantIdProblem,
} from "../../stacks/names.ts";

export const tenantFlag = z
  .string()
  .superRefine((text, context) => {
    const problem = tenantIdProblem(text);
    if (problem !== undefined) context.addIssue({ code: "custom", message: problem });
  })
  .transform((text) => text as TenantId)
  .describe("the tenant's id");

export const domainFlag = z.string().superRefine((text, context) => {
  const problem = domainProblem(text);
  if (problem !== undefined) context.addIssue({ code: "custom", message: problem });
});

/** An incident's id, already checked: safe in metadata (512 bytes), a file's name, a shell word and a mail header. */
export type IncidentId = string & { readonly __incidentId: never };

export const incidentFlag = z
  .string()
  .regex(
    /^[A-Za-z0-9](?:[A-Za-z0-9._:#-]{0,62}[A-Za-z0-9])?$/,
    "takes up to 64 letters, digits and . _ : # - such as INC-2024-001",
  )
  .transform((text) => text as IncidentId)
  .describe("the incident's id");

/** What could forge a second line in a log or turn a text around on a screen. */
const UNPRINTABLE = /[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/u;

/** A sentence by a person; it ends up in the audit log, in alerts and on other people's terminals. */
export const sentenceFlag = z
  .string()
  .transform((text) => text.trim())
  .pipe(
    z
      .string()
      .min(1, "takes a text that isn't empty")
      .max(500, "takes at most 500 characters")
      .refine((text) => !UNPRINTABLE.test(text), "takes one line of text without control characters"),
  );

export const emailFlag = z.email("is not an e-mail address");

export const takeOverFlag = z
  .boolean()
  .default(false)
  .describe("take the rotation from a holder that you know is dead, without watching it for a minute");

export const breakGlassFlag = z.boolean().default(false).describe("accept a root token (audited)");

/** Which backup: a day, `latest`, or `all`. */
export const backupDateFlag = z
  .string()
  .default("latest")
  .transform((text, context): BackupDay | "latest" | "all" => {
    if (text === "latest" || text === "all") return text;
    const day = backupDay(text);
    if (day !== undefined) return day;
    context.addIssue({ code: "custom", message: "takes a day such as 2026-02-28, latest or all" });
    return z.NEVER;
  })
  .describe("a day (UTC) such as 2026-02-28, latest, or all");
