// Whether everything is as declared, and whether tonight's recovery would work: looked at from all sides, changed
// nowhere. What could not be looked at is told apart from what is well.
import { z } from "zod";
import { PLATFORM_STACK, type TenantId, tenantOfStack } from "../stacks/names.ts";
import { askStacks } from "./lib/declared.ts";
import { judge, readAccepted } from "./lib/drift-accept.ts";
import { checkBackups } from "./lib/drift-backups.ts";
import type { DriftContext } from "./lib/drift-context.ts";
import { checkCredentials } from "./lib/drift-credentials.ts";
import { checkDns } from "./lib/drift-dns.ts";
import { withoutDoubles } from "./lib/drift-doubles.ts";
import { checkHost } from "./lib/drift-host.ts";
import { checkInfra } from "./lib/drift-infra.ts";
import { type DriftResult, driftMarkdown, driftResult, driftText, verdict } from "./lib/drift-report.ts";
import { tenantsOf } from "./lib/drift-tenant.ts";
import { checkVault } from "./lib/drift-vault.ts";
import { messageOf, RunbookError } from "./lib/errors.ts";
import { CHECKS, type CheckName, DriftReport } from "./lib/findings.ts";
import { usage } from "./lib/flags.ts";
import { stackNames } from "./lib/pulumi.ts";
import type { Result } from "./lib/report.ts";
import { defineRunbook, type Run } from "./lib/runbook.ts";
import { seconds } from "./lib/terminal.ts";
import { Vault } from "./lib/vault.ts";

/** Each looks at its own part and tells of what it can't see. */
const CHECK: Record<CheckName, (context: DriftContext) => Promise<void>> = {
  infra: checkInfra,
  vault: checkVault,
  credentials: checkCredentials,
  host: checkHost,
  dns: checkDns,
  backups: checkBackups,
};

const flags = z.object({
  stack: z
    .string()
    .refine((name) => name === PLATFORM_STACK || tenantOfStack(name) !== undefined, {
      error: "takes platform or tenant-<id>",
    })
    .optional()
    .describe("only this stack: platform, or tenant-<id>; the default is all that there are"),
  only: z
    .string()
    .transform((text, context): CheckName[] => {
      const names = text.split(",").map((name) => name.trim());
      const unknown = names.find((name) => !(CHECKS as readonly string[]).includes(name));
      if (unknown === undefined) return CHECKS.filter((name) => names.includes(name));
      context.addIssue({
        code: "custom",
        message: `'${unknown}' is no check: there are ${CHECKS.join(", ")}`,
      });
      return z.NEVER;
    })
    .optional()
    .describe(`only these checks, separated by commas: ${CHECKS.join(",")}`),
  accept: z
    .string()
    .optional()
    .describe("a YAML file of findings that don't count for a while: a list of {id, until, reason}"),
  markdown: z.boolean().default(false).describe("print the report as Markdown, as for a CI's step summary"),
});
type DriftRun = Run<z.output<typeof flags>>;

export default defineRunbook({
  name: "check-drift",
  summary:
    "compare clouds, Vault, credentials, hosts, DNS and backups with what is declared; changes nothing",
  example: "npx runbook check-drift --only infra,vault,backups",
  flags,
  run: async (run) => {
    const { accept, only, markdown, json } = { ...run.flags, json: run.json };
    if (markdown && json) throw usage("--markdown and --json are two forms of one report: give one of them");
    const accepted = accept === undefined ? [] : readAccepted(accept);
    const checks = only ?? [...CHECKS];
    const report = new DriftReport();
    const context = await openContext(run, report, checks);
    if (checks.includes("host") || checks.includes("dns"))
      await run.check("ask the stacks what they declare", () => askStacks(context));
    await run.check(`look at ${checks.join(", ")}`, () => look(run, context, checks));
    const result = driftResult(
      checks,
      judge(withoutDoubles(report.findings), accepted, new Date()),
      report.unchecked,
    );
    if (markdown) asMarkdown.add(result);
    return settle(result);
  },
  render: (result) =>
    asMarkdown.has(result) ? driftMarkdown(result as DriftResult) : driftText(result as DriftResult),
});

/** Results that are to be printed so: how isn't part of what was found. */
const asMarkdown = new WeakSet<Result>();

/**
 * Drift goes before what could not be looked at: it is known to be there, and the report tells of the other in any case.
 * Code 1 says that nothing was found where anybody could look.
 */
function settle(result: DriftResult): Result {
  const [finding] = result.findings;
  if (finding !== undefined)
    throw new RunbookError(verdict(result), { exit: "drift", next: finding.mend, result });
  const [part] = result.unchecked;
  if (part !== undefined)
    throw new RunbookError(verdict(result), { exit: "failed", next: part.next, result });
  return result;
}

async function look(run: DriftRun, context: DriftContext, checks: readonly CheckName[]): Promise<void> {
  const { report } = context;
  await Promise.all(
    checks.map(async (check) => {
      const begin = performance.now();
      try {
        await CHECK[check](context);
      } catch (error) {
        if (context.signal.aborted) throw error;
        report.couldNot({
          check,
          about: "all of it",
          why: `unexpected: ${messageOf(error)}`,
          next: `DEBUG=1 npx runbook check-drift --only ${check}`,
        });
      }
      const found = report.findings.filter((one) => one.check === check).length;
      const not = report.unchecked.filter((one) => one.check === check).length;
      await run.note(`  ${check}: ${found} found, ${not} not checked ${seconds(performance.now() - begin)}`);
    }),
  );
}

async function openContext(
  run: DriftRun,
  report: DriftReport,
  checks: readonly CheckName[],
): Promise<DriftContext> {
  const settings = await run.settings();
  let connected: Promise<Vault> | undefined;
  const vault = () => {
    connected ??= Vault.connect(settings, run);
    return connected;
  };
  const [stacks, inVault] = await run.check("ask which stacks and tenants there are", () =>
    Promise.all([
      stackNames(settings).catch((error: unknown) => {
        // Without the stacks nothing of the infrastructure can be looked at; the rest may go by Vault's tenants.
        if (checks.includes("infra")) report.couldNot(notKnown("infra", "stacks", error));
        return undefined;
      }),
      vault()
        .then(tenantsOf)
        .catch(() => undefined),
    ]),
  );
  const { stack } = run.flags;
  const only = stack === undefined ? undefined : tenantOfStack(stack);
  const known = (stacks ?? []).filter((name) => name === PLATFORM_STACK || tenantOfStack(name) !== undefined);
  const all = new Set<TenantId>([...(inVault ?? []), ...known.flatMap((name) => tenantOfStack(name) ?? [])]);
  if (stack !== undefined && stacks !== undefined && !known.includes(stack) && !(only && all.has(only)))
    throw usage(`there is no stack ${stack}`, "pulumi stack ls");
  const chosen = (tenant: TenantId) => stack === undefined || tenant === only;
  return {
    env: run.env,
    signal: run.signal,
    settings,
    tenants: [...all].filter(chosen).sort(),
    inVault: inVault && new Set([...inVault].filter(chosen)),
    stacks: stacks && known.filter((name) => stack === undefined || name === stack),
    platform: stack === undefined || stack === PLATFORM_STACK,
    report,
    progress: run.progress,
    vault,
  };
}

const notKnown = (check: CheckName, about: string, error: unknown) => ({
  check,
  about,
  why: messageOf(error),
  next: (error instanceof RunbookError ? error.next : undefined) ?? "pulumi stack ls",
});
