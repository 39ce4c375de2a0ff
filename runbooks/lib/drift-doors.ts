// What else opens a tenant's account, by Mailu's own word: app tokens, forwards, administrators that nobody declared;
// and whether the keys that Vault keeps beside the password are of use.
import { createPublicKey } from "node:crypto";
import {
  adminAddress,
  KV_MOUNT,
  mailHost,
  type TenantId,
  TRANSIT_MOUNT,
  transitKey,
} from "../../stacks/names.ts";
import { about, incomplete, openOr } from "./drift-sealed.ts";
import { RunbookError } from "./errors.ts";
import type { Finding } from "./findings.ts";
import { Mailu } from "./mailu.ts";
import { findOpenDoors } from "./open-doors.ts";
import { oneLine } from "./printable.ts";
import { Dkim, Mailu as MailuRecord, type Server } from "./records.ts";
import type { TlsTrust } from "./tls-trust.ts";
import { openTogether } from "./transit.ts";
import type { Vault } from "./vault.ts";

/** Where a tenant's server is, and how it is known. */
export interface Host {
  readonly server: Server;
  readonly trust: TlsTrust;
}

/** What Vault keeps besides the password, and what Mailu tells to whoever has its token. */
export async function keyFindings(vault: Vault, tenant: TenantId, host: Host): Promise<Finding[]> {
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
  const doors = typeof token === "string" ? await doorFindings(tenant, host, token, sanctioned) : [token];
  return [...own, ...doors].filter((one) => one !== undefined);
}

async function doorFindings(
  tenant: TenantId,
  { server, trust }: Host,
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
