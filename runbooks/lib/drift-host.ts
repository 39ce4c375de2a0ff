// The inside of every mail host, which the engine never sees: one visit over ssh, by the pinned key, reads what the
// stack wrote, what runs, the certificate, the DKIM key and what listens; and the ports are tried from here.
import { CERTIFICATE_FILE, COMPOSE_FILE, dkimKeyFile, type TenantId } from "../../stacks/names.ts";
import { type Declared, declaredOf } from "./declared.ts";
import type { DriftContext } from "./drift-context.ts";
import {
  type At,
  certificateFindings,
  containerFindings,
  dkimFindings,
  fileFindings,
  hostKeyFinding,
} from "./drift-host-looks.ts";
import { portFindings } from "./drift-ports.ts";
import { EXIT, RunbookError } from "./errors.ts";
import type { Finding } from "./findings.ts";
import { onHostTogether } from "./host-commands.ts";
import { inParallel } from "./parallel.ts";
import { Tls } from "./records.ts";
import type { Vault } from "./vault.ts";

/** Hosts at the same time: each is waited for by an ssh of its own, and the slowest is to hold up nobody. */
const AT_ONCE = 128;
/** Seconds for everything that is asked on a host; a program there that hangs is not waited for any longer. */
const HOST_SECONDS = 60;

/** Visits every host; one that can't be reached holds up no other. */
export async function checkHost(c: DriftContext): Promise<void> {
  // Without Vault all but the certificate can be compared still.
  let vault: Vault | undefined;
  await c.report.look("host", "vault", async () => {
    vault = await c.vault();
    return [];
  });
  let done = 0;
  await inParallel(c.tenants, AT_ONCE, async (tenant) => {
    await c.report.look("host", tenant, () => visit(c, vault, tenant));
    c.progress(`${++done} of ${c.tenants.length} hosts`);
  });
}

async function visit(c: DriftContext, vault: Vault | undefined, tenant: TenantId): Promise<Finding[]> {
  c.signal.throwIfAborted();
  const { settings, report } = c;
  const declared = await declaredOf(settings, tenant);
  const at: At = { tenant, declared, ssh: `ssh ${settings.ssh.user}@${declared.address}` };
  const said = await onHostTogether(settings, declared, questions(declared), {
    subject: "",
    timeoutSeconds: HOST_SECONDS,
    nothingSecret: true,
  }).catch((error: unknown) => {
    if (error instanceof RunbookError && error.exitCode === EXIT.refused) return undefined;
    throw error;
  });
  if (said === undefined) return [hostKeyFinding(at)];
  const files = fileFindings(at, said.files);
  report.add(...files);
  let down = false;
  await report.look("host", tenant, async () => {
    const found = containerFindings(at, said.containers, files);
    down = found.some(({ kind }) => kind === "container-stopped");
    return found;
  });
  await report.look("host", tenant, async () => {
    const stored = vault === undefined ? undefined : await vault.record(tenant, "tls", Tls);
    return certificateFindings(at, said.certificate, vault && { certificate: stored?.data.certificate });
  });
  await report.look("host", tenant, async () => dkimFindings(at, said.dkim));
  await report.look("host", tenant, () => portFindings(at, said.ports, { down }));
  return [];
}

const questions = ({ files, domain }: Declared) => ({
  files: `sha256sum -- ${Object.keys(files).join(" ")}`,
  containers: `docker compose -f ${COMPOSE_FILE} ps -a --format json`,
  certificate: `cat ${CERTIFICATE_FILE}`,
  dkim: `openssl pkey -in ${dkimKeyFile(domain)} -pubout -outform DER | base64`,
  ports: "ss -Hltn",
});
