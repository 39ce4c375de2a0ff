// What a tenant's stack declares of things that the engine can't look at: files, containers and ports of the host, and
// the records that DNS should answer. The stack's last `up` has said so in its outputs.
import { z } from "zod";
import { type TenantId, tenantStack } from "../../stacks/names.ts";
import type { DriftContext } from "./drift-context.ts";
import { RunbookError } from "./errors.ts";
import { inParallel, turnstile } from "./parallel.ts";
import { EngineHangs, stackOutputs } from "./pulumi.ts";
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
/** Each question is a process of the engine's, whoever asks it. */
const AT_ONCE = 4;
const engines = turnstile(AT_ONCE);

interface Asked {
  readonly answers: Map<TenantId, Promise<Declared>>;
  /** Why no other stack is asked: all of them lie in one backend, and one wait for that is enough. */
  hangs?: EngineHangs;
}
const asked = new WeakMap<Settings, Asked>();

/**
 * Asks for all tenants, before any look that has a deadline: engines keep every processor busy, and servers would seem
 * slow. Of a stack that doesn't answer, the look that needs it tells.
 */
export async function askStacks(c: DriftContext, seconds = SECONDS): Promise<void> {
  let done = 0;
  await inParallel(c.tenants, AT_ONCE, async (tenant) => {
    c.signal.throwIfAborted();
    await declaredOf(c.settings, tenant, seconds).catch(() => {});
    c.progress(`${++done} of ${c.tenants.length} stacks asked`);
  });
}

/**
 * Asked once for all checks of a run, by `askStacks`.
 * @throws RunbookError failed (1) when the stack can't be asked, or was last brought up before it told of these things.
 */
export function declaredOf(settings: Settings, tenant: TenantId, seconds = SECONDS): Promise<Declared> {
  const own: Asked = asked.get(settings) ?? { answers: new Map() };
  asked.set(settings, own);
  const answer = own.answers.get(tenant) ?? engines(() => ask(settings, tenant, own, seconds));
  own.answers.set(tenant, answer);
  return answer;
}

async function ask(settings: Settings, tenant: TenantId, own: Asked, seconds: number): Promise<Declared> {
  const stack = tenantStack(tenant);
  if (own.hangs !== undefined)
    throw new RunbookError(`Stack ${stack} was not asked what it declares: ${own.hangs.message}`, {
      exit: "failed",
      next: own.hangs.next,
    });
  const answer = await stackOutputs(settings, stack, seconds).catch((error: unknown) => {
    if (error instanceof EngineHangs) own.hangs = error;
    throw error;
  });
  const outputs = Outputs.safeParse(answer);
  if (outputs.success) return outputs.data;
  throw new RunbookError(`Stack ${stack} doesn't say what it declares: ${z.prettifyError(outputs.error)}`, {
    exit: "failed",
    next: `pulumi up --stack ${stack}   # its outputs come with it`,
  });
}
