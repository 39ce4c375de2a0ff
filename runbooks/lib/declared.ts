// What a tenant's stack declares of things that the engine can't look at: files, containers and ports of the host, and
// the records that DNS should answer. The stack's last `up` has said so in its outputs.
import { z } from "zod";
import { type TenantId, tenantStack } from "../../stacks/names.ts";
import type { DriftContext } from "./drift-context.ts";
import { RunbookError } from "./errors.ts";
import { inParallel } from "./parallel.ts";
import { stackOutputs } from "./pulumi.ts";
import type { Settings } from "./settings.ts";

const ZoneRecord = z.object({ name: z.string(), type: z.string(), value: z.string() });
/** A record as it should be answered; `name` without a dot at its end, `value` without quotes. */
export type ZoneRecord = z.output<typeof ZoneRecord>;

const Outputs = z
  .object({
    address: z.ipv4(),
    hostKey: z.string().min(1),
    domain: z.string().min(1),
    /** Where the zone isn't Route 53's: its lines. */
    zoneFile: z.string().optional(),
    declared: z.object({
      /** SHA-256 (hex) by path on the host. */
      files: z.record(z.string().regex(/^\/[\w./-]+$/), z.string()),
      /** By service. */
      images: z.record(z.string(), z.string()),
      ports: z.array(z.number().int()),
      records: z.array(ZoneRecord),
    }),
  })
  .transform(({ declared, ...place }) => ({ ...place, ...declared }));
export type Declared = z.output<typeof Outputs>;

/** Seconds for an answer: a state's backend may never give one. */
const SECONDS = 60;
/** Each question is a process of the engine's. */
const AT_ONCE = 4;
const asked = new WeakMap<Settings, Map<TenantId, Promise<Declared>>>();

/**
 * Asks for all tenants, before any look that has a deadline: engines keep every processor busy, and servers would seem
 * slow. Once a stack can't be asked the others are left to the looks, which tell of it: a state's backend that hangs is
 * waited for once, and then by those alone that need it.
 */
export async function askStacks(c: DriftContext): Promise<void> {
  let done = 0;
  let answers = true;
  await inParallel(c.tenants, AT_ONCE, async (tenant) => {
    c.signal.throwIfAborted();
    if (!answers) return;
    await declaredOf(c.settings, tenant).catch(() => {
      answers = false;
    });
    c.progress(`${++done} of ${c.tenants.length} stacks asked`);
  });
}

/**
 * Asked once for all checks of a run, by `askStacks`.
 * @throws RunbookError failed (1) when the stack can't be asked, or was last brought up before it told of these things.
 */
export function declaredOf(settings: Settings, tenant: TenantId): Promise<Declared> {
  const known = asked.get(settings) ?? new Map<TenantId, Promise<Declared>>();
  asked.set(settings, known);
  const answer = known.get(tenant) ?? ask(settings, tenant);
  known.set(tenant, answer);
  return answer;
}

async function ask(settings: Settings, tenant: TenantId): Promise<Declared> {
  const stack = tenantStack(tenant);
  const outputs = Outputs.safeParse(await stackOutputs(settings, stack, SECONDS));
  if (outputs.success) return outputs.data;
  throw new RunbookError(`Stack ${stack} doesn't say what it declares: ${z.prettifyError(outputs.error)}`, {
    exit: "failed",
    next: `pulumi up --stack ${stack}   # its outputs come with it`,
  });
}
