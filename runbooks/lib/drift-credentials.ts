// Whether each tenant's stored credential still works, and what else opens its account: the password is decrypted and
// used once over SMTP AUTH and once over IMAP, and Mailu is asked once for tokens, forwards and administrators. No
// question is repeated: five wrong answers an hour and Mailu shuts the right one out too.
import { KV_MOUNT, mailHost, type TenantId } from "../../stacks/names.ts";
import type { DriftContext } from "./drift-context.ts";
import { type Host, keyFindings } from "./drift-doors.ts";
import { about, incomplete, openOr, reset } from "./drift-sealed.ts";
import { messageOf, RunbookError } from "./errors.ts";
import type { Finding } from "./findings.ts";
import { imapLogin, type Login, loadMailLibraries, smtpLogin } from "./mail-login.ts";
import { inParallel, type Precedence, precedence } from "./parallel.ts";
import { oneLine } from "./printable.ts";
import { Admin, Server, Tls } from "./records.ts";
import { loginAt } from "./server-record.ts";
import { tlsTrust } from "./tls-trust.ts";
import type { Vault } from "./vault.ts";

/** Tenants at the same time: each waits for its own servers, and the slowest is to hold up nobody. */
const AT_ONCE = 128;

/** Tenants of which Vault is asked at a time for what their logins need. */
const OPENED_AT_ONCE = 24;

/** Milliseconds until a refused password is read again: a rotation may have been between setting and storing it. */
const ROTATING_MS = 3_000;

/** Looks at every tenant; a tenant that can't be looked at holds up no other. */
export async function checkCredentials(c: DriftContext): Promise<void> {
  let done = 0;
  loadMailLibraries();
  await c.report.look("credentials", "vault", async () => {
    const vault = await c.vault();
    // IMAP takes the most answers, so the last of these logins to begin says when all is over: what they need is read
    // first, for every tenant, and the rest is done while the servers think.
    const order = precedence(OPENED_AT_ONCE);
    const each = await inParallel(c.tenants, AT_ONCE, async (tenant) => {
      const findings = await findingsOf(c, vault, tenant, order);
      c.progress(`${++done} of ${c.tenants.length} tenants' credentials`);
      return findings;
    });
    return each.flat();
  });
}

/** What was found, also where a part could not be looked at: the host that is down is told of once. */
async function findingsOf(
  c: DriftContext,
  vault: Vault,
  tenant: TenantId,
  order: Precedence,
): Promise<Finding[]> {
  let looks: PromiseSettledResult<Finding[]>[];
  try {
    c.signal.throwIfAborted();
    const door = await order.first(() => readDoor(vault, tenant));
    const others = order.afterwards();
    looks = await Promise.allSettled([
      loginFindings(vault, tenant, door, others),
      others.then(() => keyFindings(vault, tenant, door)),
    ]);
  } catch (reason) {
    looks = [{ status: "rejected", reason }];
  }
  const failed = looks.flatMap((look) => (look.status === "rejected" ? [look.reason as unknown] : []));
  if (failed.length > 0)
    c.report.couldNot({
      check: "credentials",
      about: tenant,
      why: failed.map(messageOf).join("; "),
      next:
        failed.map((error) => (error instanceof RunbookError ? error.next : undefined)).find(Boolean) ??
        `npx runbook check-drift --stack tenant-${tenant} --only credentials`,
    });
  return looks.flatMap((look) => (look.status === "fulfilled" ? look.value : []));
}

/** Where a tenant's server is, how it is known, and the password it should take, or the finding that it can't be had. */
interface Door extends Host {
  admin: Admin;
  password: string | Finding;
}

async function readDoor(vault: Vault, tenant: TenantId): Promise<Door> {
  const [stored, server, tls] = await Promise.all([
    vault.record(tenant, "admin", Admin),
    vault.record(tenant, "server", Server),
    vault.record(tenant, "tls", Tls),
  ]);
  if (stored === undefined || server === undefined) throw incomplete(tenant, { admin: stored, server });
  const admin = stored.data;
  const trust = tlsTrust(mailHost(server.data.domain), tls?.data.certificate);
  return { admin, server: server.data, trust, password: await passwordOf(vault, tenant, admin) };
}

const passwordOf = (vault: Vault, tenant: TenantId, admin: Admin): Promise<string | Finding> =>
  openOr(vault, tenant, admin.password, "admin", "password");

async function loginFindings(
  vault: Vault,
  tenant: TenantId,
  known: Door,
  others: Promise<void>,
): Promise<Finding[]> {
  const first = await tryLogin(tenant, known, known.password, others);
  if (first.length === 0 || first[0]?.kind !== "login-refused") return first;
  await new Promise((resolve) => setTimeout(resolve, ROTATING_MS));
  const now = await vault.record(tenant, "admin", Admin);
  if (now === undefined || now.data.password === known.admin.password) return first;
  return tryLogin(tenant, known, await passwordOf(vault, tenant, now.data), others);
}

/** @throws RunbookError where no server said clearly yes or no. */
async function tryLogin(
  tenant: TenantId,
  { server, trust }: Door,
  password: string | Finding,
  others: Promise<void>,
): Promise<Finding[]> {
  if (typeof password !== "string") return [password];
  const login: Login = { ...loginAt(server), trust, password };
  const verdicts = await Promise.all([imapLogin(login), others.then(() => smtpLogin(login))]);
  const unproven = verdicts.flatMap((verdict) => (verdict.result === "accepted" ? [] : [verdict]));
  const refused = unproven.filter(({ result }) => result === "refused");
  if (refused.length > 0) {
    return [
      {
        ...about(tenant, "login-refused", ""),
        what: `the password that Vault holds for ${login.username} doesn't log in at ${login.host}: somebody set another one, or shut the account`,
        declared: `the password in ${KV_MOUNT}/${tenant}/admin logs in`,
        found: refused.map(({ said }) => oneLine(said)).join("; "),
        mend: reset(tenant, "The stored password no longer logs in"),
      },
    ];
  }
  if (unproven.length === 0) return [];
  const limited = unproven.some(({ result }) => result === "limited");
  throw new RunbookError(
    `whether the password logs in can't be told: ${unproven.map(({ said }) => oneLine(said)).join("; ")}`,
    {
      exit: "failed",
      next: limited
        ? `pulumi up --stack tenant-${tenant}   # after this machine's network is in the stack's exemptNetworks: Mailu lets nobody in from it for now`
        : `npx runbook replace-vps --tenant ${tenant}   # probes the host first, and asks before it replaces it`,
    },
  );
}
