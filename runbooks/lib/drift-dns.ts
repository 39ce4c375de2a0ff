// What DNS answers for every tenant, against what its stack declares: the zone's own servers first, then resolvers,
// which may still hold what was there before. And whether the host's address leads back to its name, and the published
// DKIM key is the one in Vault.
import {
  credentialsUrn,
  DKIM_SELECTOR,
  KV_MOUNT,
  mailHost,
  type TenantId,
  tenantStack,
} from "../../stacks/names.ts";
import { type Declared, declaredOf, type ZoneRecord } from "./declared.ts";
import { type DnsServer, reverseName } from "./dns-server.ts";
import { Servers } from "./dns-servers.ts";
import { compare, type Difference, lineOf } from "./dns-zone.ts";
import type { DriftContext } from "./drift-context.ts";
import type { Finding } from "./findings.ts";
import { inParallel } from "./parallel.ts";
import { oneLine } from "./printable.ts";
import { Dkim } from "./records.ts";

/** Tenants at the same time; each server has its own limit of questions. */
const AT_ONCE = 128;

/** Looks at every tenant's records; a server that is silent is said once, and the others are still asked. */
export async function checkDns(c: DriftContext): Promise<void> {
  const servers = new Servers(c.settings.dns.resolvers, c.settings.dns.authoritative);
  const keys = keyFindings(c);
  let done = 0;
  await inParallel(c.tenants, AT_ONCE, async (tenant) => {
    await c.report.look("dns", tenant, async () => {
      c.signal.throwIfAborted();
      const declared = await declaredOf(c.settings, tenant);
      await c.report.look("dns", tenant, () => zoneFindings(c, servers, tenant, declared));
      await c.report.look("dns", tenant, () => pointerFindings(servers, tenant, declared));
      return [];
    });
    c.progress(`${++done} of ${c.tenants.length} tenants' DNS records`);
  });
  for (const { address, why } of servers.troubles())
    c.report.couldNot({
      check: "dns",
      about: address,
      why,
      next: `dig @${address.replace(/:(\d+)$/, " -p $1")} . NS   # if it is gone for good: dns.resolvers, or dns.authoritative, in ${c.settings.file}`,
    });
  await keys;
}

async function zoneFindings(
  c: DriftContext,
  servers: Servers,
  tenant: TenantId,
  declared: Declared,
): Promise<Finding[]> {
  const { domain } = declared;
  const authoritative = await servers.authoritative(domain);
  // Where every resolver is silent, that is why, and is said for each.
  if (authoritative.length === 0 && servers.resolvers.some(({ address }) => !servers.isSilent(address)))
    c.report.couldNot({
      check: "dns",
      about: tenant,
      why: `the servers of ${domain}'s own zone can't be found, so that only resolvers were asked`,
      next: `dig ${domain} NS   # has the zone no NS records that resolvers see? Else name its servers in dns.authoritative of ${c.settings.file}`,
    });
  const found = await Promise.all(
    declared.records.map((record) => recordFindings(servers, authoritative, tenant, declared, record)),
  );
  return found.flat();
}

/** At most one: where the zone itself is wrong, resolvers that repeat it are no news. */
async function recordFindings(
  servers: Servers,
  authoritative: readonly DnsServer[],
  tenant: TenantId,
  declared: Declared,
  record: ZoneRecord,
): Promise<Finding[]> {
  const differences = async (from: readonly DnsServer[]) => {
    const answers = await servers.ask(from, record.name, record.type);
    const wrong = answers.flatMap(({ at, values }) => {
      const difference = compare(record, values, declared.domain);
      return difference === undefined ? [] : [{ at, ...difference }];
    });
    return { asked: answers.length, wrong };
  };
  const zone = await differences(authoritative);
  const [first] = zone.wrong;
  if (first !== undefined)
    return [
      recordFinding(
        tenant,
        declared,
        record,
        first,
        zone.wrong.map(({ at }) => at),
      ),
    ];
  const world = await differences(servers.resolvers);
  const [other] = world.wrong;
  if (other === undefined) return [];
  const at = world.wrong.map((one) => one.at);
  if (zone.asked === 0 && at.length === world.asked)
    return [recordFinding(tenant, declared, record, other, at)];
  return [
    {
      ...about(tenant, "record-not-everywhere", record),
      what: `${record.name} ${record.type} isn't yet the same everywhere: ${at.join(", ")} ${at.length === 1 ? "answers" : "answer"} something else than the zone`,
      declared: record.value,
      found: other.found,
      mend: `npx runbook check-drift --stack ${tenantStack(tenant)} --only dns   # in an hour: caches forget. If it stays, ask whoever runs ${at.join(", ")}`,
    },
  ];
}

function recordFinding(
  tenant: TenantId,
  declared: Declared,
  record: ZoneRecord,
  { kind, found }: Difference,
  at: string[],
): Finding {
  const { name, type } = record;
  const WHAT: Record<Difference["kind"], string> = {
    "record-missing": `${name} has no ${type} record`,
    "record-differs": `${name} ${type} isn't what the stack declares`,
    "extra-mx": `${name} has an MX record that nobody declared: mail may be delivered elsewhere`,
  };
  const stack = tenantStack(tenant);
  return {
    ...about(tenant, kind, record),
    what: `${WHAT[kind]}, says ${at.join(", ")}`,
    declared: record.value,
    found,
    mend:
      declared.zoneFile === undefined
        ? `pulumi up --stack ${stack}   # where Route 53 is right already: the domain's NS records at its registrar lead elsewhere`
        : `pulumi stack output zoneFile --stack ${stack}   # in the zone ${name} ${type} should be just: ${lineOf(record)}`,
  };
}

/** Mail from an address that doesn't lead back to the host's name is refused by many. */
async function pointerFindings(servers: Servers, tenant: TenantId, declared: Declared): Promise<Finding[]> {
  const { address, domain } = declared;
  const host = `${mailHost(domain)}.`;
  const record = { name: reverseName(address), type: "PTR" };
  const answers = await servers.ask(servers.resolvers, record.name, record.type);
  const wrong = answers.filter(({ values }) => !values.includes(host));
  if (wrong.length === 0) return [];
  const found = [...new Set(wrong.flatMap(({ values }) => values))];
  return [
    {
      ...about(tenant, "ptr-differs", record),
      what: `${address} doesn't lead back to ${mailHost(domain)}, says ${wrong.map(({ at }) => at).join(", ")}: other servers refuse its mail`,
      declared: host,
      found: found.length === 0 ? "no PTR record" : oneLine(found.join(", ")),
      mend: `aws ec2 modify-address-attribute --allocation-id "$(aws ec2 describe-addresses --public-ips ${address} --query 'Addresses[0].AllocationId' --output text)" --domain-name ${mailHost(domain)}   # an address elsewhere: its provider sets the name`,
    },
  ];
}

/** A rebuilt host signs with the key that Vault keeps. */
async function keyFindings(c: DriftContext): Promise<void> {
  await c.report.look("dns", "vault", async () => {
    const vault = await c.vault();
    await inParallel(c.tenants, AT_ONCE, (tenant) =>
      c.report.look("dns", tenant, async () => {
        // Where the stack can't be asked that was said above.
        const declared = await declaredOf(c.settings, tenant).catch(() => undefined);
        const name = `${DKIM_SELECTOR}._domainkey.${declared?.domain}`;
        const published = declared?.records.find((one) => one.type === "TXT" && one.name === name)?.value;
        const stored = await vault.record(tenant, "dkim", Dkim);
        if (declared === undefined || stored?.data.dns_txt === published) return [];
        return [
          {
            ...about(tenant, "dkim-differs", { name, type: "TXT" }),
            what: `the DKIM key that DNS should show isn't the one that Vault keeps in ${KV_MOUNT}/${tenant}/dkim: a rebuilt host would sign with another`,
            declared: shown(published ?? "none"),
            found: shown(stored?.data.dns_txt ?? "none in Vault"),
            mend: `pulumi up --stack ${tenantStack(tenant)} --replace '${credentialsUrn(tenant)}'   # if Vault has the right one; else first: vault kv rollback -mount=${KV_MOUNT} -version=N ${tenant}/dkim`,
          },
        ];
      }),
    );
    return [];
  });
}

const about = (tenant: TenantId, kind: string, { name, type }: { name: string; type: string }) =>
  ({ check: "dns", kind, about: tenant, which: `${name} ${type}` }) as const;

/** Enough of a key's record to tell it from another. */
const shown = (text: string): string => (text.length > 60 ? `${text.slice(0, 20)}…${text.slice(-32)}` : text);
