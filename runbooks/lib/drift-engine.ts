// The Pulumi engine's own look at a stack: refresh and preview in one run, of which nothing is written. Each stack is
// looked at once, whichever checks ask.
import { availableParallelism } from "node:os";
import { z } from "zod";
import { PROJECT } from "../../stacks/names.ts";
import type { DriftContext } from "./drift-context.ts";
import { backendUrl, requireUnlocked } from "./drift-locks.ts";
import { Plan, planFindings, Resource } from "./drift-plan.ts";
import { RunbookError } from "./errors.ts";
import type { Finding } from "./findings.ts";
import { turnstile } from "./parallel.ts";
import { pulumi, resourcesInStack } from "./pulumi.ts";

/** Seconds after which an engine is ended: a provider may wait without end for a server that doesn't answer. */
const SECONDS = 600;

/** Engines at a time: each is a handful of processes and keeps a processor busy. */
const AT_ONCE = Math.max(2, Math.min(4, availableParallelism()));

export interface StackLook {
  findings: Finding[];
  /** The state as the last `up` left it. */
  recorded: readonly Resource[];
}

interface Engine {
  turn: ReturnType<typeof turnstile>;
  backend: Promise<URL>;
  looks: Map<string, Promise<StackLook>>;
}

const engines = new WeakMap<DriftContext, Engine>();

/** @throws RunbookError when the engine can't look: each time again, to every check that needs it. */
export function lookAtStack(context: DriftContext, stack: string): Promise<StackLook> {
  const engine = engineOf(context);
  const known = engine.looks.get(stack);
  if (known !== undefined) return known;
  const look = engine.turn(() => lookOnce(context, engine, stack));
  // Whoever asks awaits it; another may ask much later.
  look.catch(() => {});
  engine.looks.set(stack, look);
  return look;
}

function engineOf(context: DriftContext): Engine {
  const known = engines.get(context);
  if (known !== undefined) return known;
  const backend = backendUrl(context.settings, engineEnv(context));
  backend.catch(() => {});
  const engine = { turn: turnstile(AT_ONCE), backend, looks: new Map() };
  engines.set(context, engine);
  return engine;
}

/** Its provider for Vault makes itself a child of the token else, which is a write, and takes a right to it. */
const engineEnv = ({ env }: DriftContext): NodeJS.ProcessEnv => ({
  ...env,
  TERRAFORM_VAULT_SKIP_CHILD_TOKEN: "true",
});

async function lookOnce(context: DriftContext, engine: Engine, stack: string): Promise<StackLook> {
  context.signal.throwIfAborted();
  const { settings, env, progress } = context;
  await requireUnlocked(await engine.backend, PROJECT, stack, env);
  const recorded = await resourcesInStack(settings, stack, Resource);
  progress(`infra: the engine looks at ${stack}`);
  const args = ["preview", "--refresh", "--json", "--stack", stack];
  const text = await pulumi(settings, args, undefined, engineEnv(context), SECONDS);
  // Somebody may have begun meanwhile.
  await requireUnlocked(await engine.backend, PROJECT, stack, env);
  const plan = planOf(text, stack);
  return { findings: planFindings(stack, plan, new Map(recorded.map((one) => [one.urn, one]))), recorded };
}

function planOf(text: string, stack: string): Plan {
  try {
    return Plan.parse(JSON.parse(text));
  } catch (cause) {
    const why = cause instanceof z.ZodError ? (cause.issues[0]?.message ?? "unknown form") : "no JSON";
    throw new RunbookError(`The engine's plan of ${stack} can't be read: ${why}`, {
      exit: "failed",
      next: `pulumi preview --refresh --json --stack ${stack}   # and the versions of pulumi and this project`,
      cause,
    });
  }
}
