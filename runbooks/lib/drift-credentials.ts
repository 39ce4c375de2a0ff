// Whether each tenant's stored credential still works, and what else opens its account: the password is decrypted and
// used once over SMTP AUTH and once over IMAP, and Mailu is asked once for tokens, forwards and administrators. No
// question is repeated: five wrong answers an hour and Mailu shuts the right one out too.
import { createPublicKey } from "node:crypto";
import {
  adminAddress,
  KV_MOUNT,
  mailHost,
  type TenantId,
  TRANSIT_MOUNT,
  transitKey,
} from "../../stacks/names.ts";
import type { DriftContext } from "./drift-context.ts";
import { messageOf, RunbookError } from "./errors.ts";
import type { Finding } from "./findings.ts";
import { imapLogin, type Login, smtpLogin } from "./mail-login.ts";
import { Mailu } from "./mailu.ts";
import { findOpenDoors } from "./open-doors.ts";
import { inParallel } from "./parallel.ts";
import { oneLine } from "./printable.ts";
import { Admin, Dkim, Mailu as MailuRecord, Server, Tls } from "./records.ts";
import { loginAt } from "./server-record.ts";
import { type TlsTrust, tlsTrust } from "./tls-trust.ts";
import { open, openTogether, Undecryptable } from "./transit.ts";
import type { Vault } from "./vault.ts";

/** Tenants at the same time: each waits for its own servers, and the slowest is to hold up nobody. */
const AT_ONCE = 128;

/** Milliseconds until a refused password is read again: a rotation may have been between setting and storing it. */
const ROTATING_MS = 3_000;

/** Looks at every tenant; a tenant that can't be looked at holds up no other. */
export async function checkCredentials(c: DriftContext): Promise<void> {
  let done = 0;
  await c.report.look("credentials", "vault", async () => {
    const vault = await c.vault();
    const each = await inParallel(c.tenants, AT_ONCE, async (tenant) => {
      const findings = await findingsOf(c, vault, tenant);
      c.progress(`${++done} of ${c.tenants.length} tenants' credentials`);
      return findings;
    });
    return each.flat();
  });
}

/** What was found, also where a part could not be looked at: the host that is down is told of once. */
async function findingsOf(c: DriftContext, vault: Vault, tenant: TenantId): Promise<Finding[]> {
  let looks: PromiseSettledResult<Finding[]>[];
  try {
    c.signal.throwIfAborted();
    // The logins wait for their servers longest: what they need is read first, and the rest while they wait.
    const door = await readDoor(vault, tenant);
    looks = await Promise.allSettled([loginFindings(vault, tenant, door), keyFindings(vault, tenant, door)]);
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

/** Where a tenant's server is, how it is known, and the password it should take. */
interface Door {
  admin: Admin;
  server: Server;
  trust: TlsTrust;
}

async function readDoor(vault: Vault, tenant: TenantId): Promise<Door> {
  const [admin, server, tls] = await Promise.all([
    vault.record(tenant, "admin", Admin),
    vault.record(tenant, "server", Server),
    vault.record(tenant, "tls", Tls),
  ]);
  if (admin === undefined || server === undefined) throw incomplete(tenant, { admin, server });
  const trust = tlsTrust(mailHost(server.data.domain), tls?.data.certificate);
  return { admin: admin.data, server: server.data, trust };
}

/** What Vault keeps besides the password, and what Mailu tells to whoever has its token. */
async function keyFindings(vault: Vault, tenant: TenantId, door: Door): Promise<Finding[]> {
  const [mailu, dkim] = await Promise.all([
    vault.record(tenant, "mailu", MailuRecord),
    vault.record(tenant, "dkim", Dkim),
  ]);
  if (mailu === undefined || dkim === undefined) throw incomplete(tenant, { mailu, dkim });
  const { api_token, sanctioned_app_tokens: sanctioned } = mailu.data;
  const sealed = [api_token, dkim.data.private_key];
  // One of them may be damaged: only one by one it shows which.
  const [token, key] = await openTogether(vault, tenant, sealed).catch(() =>
    Promise.all([
      openOr(vault, tenant, api_token, "mailu", "api_token"),
      openOr(vault, tenant, dkim.data.private_key, "dkim", "private_key"),
    ]),
  );
  const own = typeof key === "string" ? dkimFindings(tenant, dkim.data, key) : [key];
  const doors = typeof token === "string" ? await doorFindings(tenant, door, token, sanctioned) : [token];
  return [...own, ...doors].filter((one) => one !== undefined);
}

function incomplete(tenant: TenantId, records: Record<string, unknown>): RunbookError {
  const missing = Object.entries(records).flatMap(([name, record]) =>
    record === undefined ? [`${KV_MOUNT}/${tenant}/${name}`] : [],
  );
  return new RunbookError(`Vault has no ${missing.join(", no ")}`, {
    exit: "failed",
    next: `npx runbook check-drift --stack tenant-${tenant} --only vault   # says what is missing and how it comes back`,
  });
}

async function loginFindings(vault: Vault, tenant: TenantId, known: Door): Promise<Finding[]> {
  const first = await tryLogin(vault, tenant, known, known.admin);
  if (first.length === 0 || first[0]?.kind !== "login-refused") return first;
  await new Promise((resolve) => setTimeout(resolve, ROTATING_MS));
  const now = await vault.record(tenant, "admin", Admin);
  if (now === undefined || now.data.password === known.admin.password) return first;
  return tryLogin(vault, tenant, known, now.data);
}

/** @throws RunbookError where no server said clearly yes or no. */
async function tryLogin(vault: Vault, tenant: TenantId, known: Door, admin: Admin): Promise<Finding[]> {
  const opened = await openOr(vault, tenant, admin.password, "admin", "password");
  if (typeof opened !== "string") return [opened];
  const login: Login = { ...loginAt(known.server), trust: known.trust, password: opened };
  const verdicts = await Promise.all([smtpLogin(login), imapLogin(login)]);
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

async function doorFindings(
  tenant: TenantId,
  { server, trust }: Door,
  token: string,
  sanctioned: readonly string[],
): Promise<Finding[]> {
  // The logins take longer than three questions one after the other.
  const mailu = new Mailu(server.api_url, token, trust, 1);
  try {
    // Asked alone: a wrong token counts each time it is shown.
    const { status } = await mailu.ask("GET", `/domain/${server.domain}`, undefined, [200, 403, 404]);
    if (status === 403) {
      return [
        {
          ...about(tenant, "api-token-refused", ""),
          what: `Mailu at ${server.vps_ip} doesn't take the API token that Vault holds: a reset would fail`,
          mend: `npx runbook recover-credentials --tenant ${tenant}`,
        },
      ];
    }
    const doors = await findOpenDoors(mailu, server.domain, sanctioned);
    if (doors.unknown.length > 0)
      throw new RunbookError(`Mailu at ${server.vps_ip} could not be asked for ${doors.unknown.join("; ")}`, {
        exit: "failed",
      });
    const call = (method: string, path: string, body?: object) =>
      mailuCommand(tenant, server, method, path, body);
    return [
      ...doors.tokens.map(({ id, comment, created }) => ({
        ...about(tenant, "app-token", oneLine(id)),
        what: `an app token of ${adminAddress(server.domain)} that nobody vouched for lets somebody in without the password`,
        found: oneLine(`token ${id}, made ${created ?? "at an unknown time"}, comment: ${comment ?? "none"}`),
        mend: call("DELETE", `/token/${encodeURIComponent(id)}`),
      })),
      ...doors.forwards.map(({ email, to }) => ({
        ...about(tenant, "forward", oneLine(email)),
        what: `mail of ${oneLine(email)} is forwarded`,
        found: oneLine(`to ${to.join(", ")}`),
        mend: call("PATCH", userPath(email), { forward_enabled: false, forward_destination: [] }),
      })),
      ...doors.administrators.map((email) => ({
        ...about(tenant, "extra-administrator", oneLine(email)),
        what: `${oneLine(email)} administers this Mailu besides ${adminAddress(server.domain)}`,
        mend: call("PATCH", userPath(email), { global_admin: false }),
      })),
    ];
  } finally {
    mailu.close();
  }
}

/** A rebuilt host signs with the private key in Vault, and the world knows the public one. */
function dkimFindings(tenant: TenantId, dkim: Dkim, key: string): Finding[] {
  const published = /\bp=([A-Za-z0-9+/=]+)/.exec(dkim.dns_txt)?.[1];
  if (publicHalf(key) === published) return [];
  return [
    {
      ...about(tenant, "dkim-halves-differ", ""),
      what: `the private DKIM key in ${KV_MOUNT}/${tenant}/dkim doesn't belong to the public one beside it: after a rebuild every signature would be invalid`,
      declared: "both are halves of one key",
      mend: `vault kv metadata get -mount=${KV_MOUNT} ${tenant}/dkim   # then: vault kv rollback -mount=${KV_MOUNT} -version=N ${tenant}/dkim, N being the version before the change`,
    },
  ];
}

/** Base64 of the public key as DNS shows it; undefined for what is no private key. */
function publicHalf(key: string): string | undefined {
  try {
    return createPublicKey(key).export({ type: "spki", format: "der" }).toString("base64");
  } catch {
    return undefined;
  }
}

/** The plaintext, or the finding that there is none to be had. */
async function openOr(
  vault: Vault,
  tenant: TenantId,
  ciphertext: string,
  record: "admin" | "mailu" | "dkim",
  field: string,
): Promise<string | Finding> {
  try {
    return await open(vault, tenant, ciphertext, `${KV_MOUNT}/${tenant}/${record} ${field}`);
  } catch (error) {
    if (!(error instanceof Undecryptable)) throw error;
    return {
      ...about(tenant, "undecryptable", `${record}/${field}`),
      what: oneLine(error.message),
      declared: `${TRANSIT_MOUNT}/keys/${transitKey(tenant)} decrypts it`,
      mend:
        record === "admin"
          ? reset(tenant, "The stored password can't be decrypted")
          : `vault kv metadata get -mount=${KV_MOUNT} ${tenant}/${record}   # then: vault kv rollback -mount=${KV_MOUNT} -version=N ${tenant}/${record}, N being the last version that was whole`,
    };
  }
}

const about = (tenant: TenantId, kind: string, which: string) =>
  ({ check: "credentials", kind, about: tenant, which }) as const;

/** An incident of its own: one that is over by now would not be reset again. */
const reset = (tenant: TenantId, reason: string): string =>
  `npx runbook emergency-reset --tenant ${tenant} --incident DRIFT-${tenant}-${new Date().toISOString().replaceAll(/[-:]|\.\d+/g, "")} --reason "${reason}"`;

const userPath = (email: string): string => `/user/${encodeURIComponent(email)}`;

/**
 * One call of Mailu's API for a shell: the token goes from Vault to curl's standard input, the host is known by the
 * certificate that Vault has.
 */
function mailuCommand(tenant: TenantId, server: Server, method: string, path: string, body?: object): string {
  const field = (name: string, record: string) =>
    `vault kv get -mount=${KV_MOUNT} -field=${name} ${tenant}/${record}`;
  const host = mailHost(server.domain);
  // What Mailu's users chose stands in the path: nothing of it is the shell's.
  const url = `https://${host}/api/v1${path}`.replaceAll("'", "%27");
  const sent = body === undefined ? "" : ` -H 'Content-Type: application/json' -d '${JSON.stringify(body)}'`;
  return (
    `vault write -field=plaintext ${TRANSIT_MOUNT}/decrypt/${transitKey(tenant)} ciphertext="$(${field("api_token", "mailu")})" | base64 -d | ` +
    `sed 's/.*/header = "Authorization: Bearer &"/' | curl -fsS -K - --cacert <(${field("certificate", "tls")}) ` +
    `--resolve ${host}:443:${server.vps_ip} -X ${method}${sent} '${url}'`
  );
}
