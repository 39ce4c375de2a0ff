// `npm run bench -- reset`: one emergency reset as a whole process, and in turn with it a bare script that sends the
// same reset's necessary exchanges back to back. What the machine does besides slows both down alike.
import { homedir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { webhookUrl } from "../../runbooks/lib/notify-settings.ts";
import { resetRights } from "../../runbooks/lib/reset-rights.ts";
import { loadSettings } from "../../runbooks/lib/settings.ts";
import { adminAddress, recordPath } from "../../stacks/names.ts";
import { type Finished, run } from "../lab/children.ts";
import { order } from "../lab/control.ts";
import type { OpenLab } from "../lab/place.ts";
import { ACME } from "../lab/tenants.ts";
import { vaultCall } from "../lab/vault.ts";
import { type Logs, record } from "./exchanges.ts";
import { type Comparison, compare } from "./left-out.ts";
import { median, medianRatio } from "./statistics.ts";

/** What the bare script is told. */
export interface BareTask {
  tenant: string;
  domain: string;
  address: string;
  username: string;
  vault: string;
  token: string;
  /** Vault paths whose capabilities are asked for. */
  paths: string[];
  /** URL of the audit bucket. */
  bucket: string;
  bucketAuthorization: string;
  webhooks: string[];
  relay: { host: string; port: number };
  mail: { from: string; to: string; subject: string };
  /** Program and arguments, as the real run started them. */
  ssh: string[];
  /** The rotation record, but for what the bare script makes itself. */
  rotation: Record<string, unknown>;
  /** Something of an audit event's size. */
  event: Record<string, unknown>;
  /** Also what need not wait for each other goes one by one. */
  inTurn: boolean;
  compileCache: string;
}

export interface ResetReport {
  comparison: Comparison[];
  /** Seconds, one of each in a turn. */
  real: number[];
  bare: number[];
  inTurn: number[];
  /** Median seconds of each step of the real one, and of what lies outside all steps. */
  steps: { title: string; seconds: number }[];
  /** The real one's time by the bare one's: what need not wait goes at once, or one by one. */
  ratio: number;
  ratioInTurn: number;
}

/** What a reset may take, in multiples of its necessary exchanges. */
export const RESET_RATIO = 1.3;

const TENANT = ACME;

/** Measures `turns` turns on a lab that serves nobody else meanwhile. */
export async function benchReset(
  lab: OpenLab,
  turns: number,
  tell: (line: string) => void,
): Promise<ResetReport> {
  const { logs, address } = await placesOf(lab);
  // Whatever stood half done on this lab is finished, and the compile cache filled, before anything counts.
  await reset(lab);
  tell("recording what a real reset exchanges");
  const real = await record(logs, (env) => reset(lab, env));
  const [ssh] = real.commands;
  if (ssh === undefined) throw new Error("The reset started no ssh");
  const task = await bareTask(lab, address, ssh);
  tell("recording what the bare script exchanges");
  const bare = await record(logs, (env) => bareReset(lab, task, env));
  const comparison = compare(real.exchanges, bare.exchanges);

  const times = { real: [] as number[], bare: [] as number[], inTurn: [] as number[] };
  const steps: Step[][] = [];
  for (let turn = 1; turn <= turns; turn++) {
    const whole = await reset(lab);
    steps.push(stepsOf(whole));
    times.real.push(whole.ms / 1000);
    times.bare.push((await bareReset(lab, task)).ms / 1000);
    times.inTurn.push((await bareReset(lab, { ...task, inTurn: true })).ms / 1000);
    const shown = [times.real, times.bare, times.inTurn].map((all) => `${all.at(-1)?.toFixed(2)} s`);
    tell(`turn ${turn} of ${turns}: reset ${shown[0]}, bare ${shown[1]}, bare one by one ${shown[2]}`);
  }
  return {
    comparison,
    ...times,
    steps: medians(steps),
    ratio: medianRatio(times.real, times.bare),
    ratioInTurn: medianRatio(times.real, times.inTurn),
  };
}

let incidents = 0;

async function reset(lab: OpenLab, env: NodeJS.ProcessEnv = {}): Promise<Finished> {
  const incident = `BENCH-${process.pid}-${++incidents}`;
  const about = ["--tenant", TENANT.id, "--incident", incident, "--reason", "benchmark"];
  const main = join(import.meta.dirname, "..", "..", "runbooks", "main.ts");
  return done(lab, main, ["emergency-reset", ...about, "--yes", "--json"], env, "");
}

function bareReset(lab: OpenLab, task: BareTask, env: NodeJS.ProcessEnv = {}): Promise<Finished> {
  const script = join(import.meta.dirname, "bare-reset.ts");
  return done(lab, process.execPath, [script], env, JSON.stringify(task));
}

async function done(
  lab: OpenLab,
  program: string,
  args: string[],
  env: NodeJS.ProcessEnv,
  input: string,
): Promise<Finished> {
  const options = { env: { ...lab.env, ...env }, lab: lab.place.dir, input };
  const finished = await run(program, args, options);
  if (finished.code === 0) return finished;
  throw new Error(`${program} ${args[0]} ended with ${finished.code}:\n${finished.stderr.trim()}`);
}

async function placesOf(lab: OpenLab): Promise<{ logs: Logs; address: string }> {
  const { dir } = lab.place;
  const address = Server.parse(await read(lab, "server")).data.data.vps_ip;
  const host = (await order(dir, { order: "status" })).hosts.find((one) => one.address === address);
  if (host === undefined) throw new Error(`No host of the lab is at ${address}`);
  const logs = {
    vault: join(dir, "vault", "audit.log"),
    cloud: join(dir, "logs", "moto.log"),
    mailu: join(dir, "hosts", host.id, "root", "var", "log", "mailu", "access.log"),
  };
  return { logs, address };
}

async function bareTask(lab: OpenLab, address: string, ssh: string[]): Promise<BareTask> {
  const settings = loadSettings(lab.env);
  const { notify, audit } = settings;
  if (notify === undefined) throw new Error(`${settings.file} names nobody to be told`);
  const { data } = Rotation.parse(await read(lab, "rotation"));
  return {
    tenant: TENANT.id,
    domain: TENANT.domain,
    address,
    username: adminAddress(TENANT.domain),
    vault: lab.place.vaultAddr,
    token: lab.operatorToken,
    paths: Object.keys(resetRights(TENANT.id)),
    bucket: `${lab.place.awsEndpoint}/${audit.bucket}`,
    // The lab's endpoint takes whoever says who he is; a signature would cost microseconds.
    bucketAuthorization:
      "AWS4-HMAC-SHA256 Credential=lab/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
    webhooks: notify.webhooks.map((webhook) => webhookUrl(webhook, lab.env)),
    relay: { host: notify.relay.host, port: notify.relay.port },
    mail: { from: notify.from, to: notify.security[0] ?? notify.from, subject: "benchmark" },
    ssh,
    rotation: { ...data.data, incident_id: "BENCH-BARE", holder: null },
    event: { event: "benchmark", text: "x".repeat(1_000) },
    inTurn: false,
    compileCache: join(
      process.env.XDG_CACHE_HOME || join(homedir(), ".cache"),
      "penguinmails-recovery",
      "node",
    ),
  };
}

const read = (lab: OpenLab, name: "server" | "rotation"): Promise<unknown> =>
  vaultCall(lab.place.vaultAddr, lab.rootToken, "GET", recordPath(TENANT.id, name));

const Server = z.object({ data: z.object({ data: z.object({ vps_ip: z.string() }) }) });
const Rotation = z.object({ data: z.object({ data: z.record(z.string(), z.unknown()) }) });

interface Step {
  title: string;
  seconds: number;
}
const Result = z.object({ steps: z.array(z.object({ title: z.string(), seconds: z.number() })) });

function stepsOf({ stdout, ms }: Finished): Step[] {
  const { steps } = Result.parse(JSON.parse(stdout));
  const inSteps = steps.reduce((sum, { seconds }) => sum + seconds, 0);
  return [...steps, { title: "(start, imports, end)", seconds: ms / 1000 - inSteps }];
}

function medians(runs: Step[][]): Step[] {
  const [first = []] = runs;
  return first.map(({ title }, index) => ({
    title,
    seconds: median(runs.map((steps) => steps[index]?.seconds ?? Number.NaN)),
  }));
}
