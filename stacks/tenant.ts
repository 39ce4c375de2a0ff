// One tenant's mail server, in the order of the rebuild: host, its key, Mailu's files, credentials, DNS. Each
// step waits for the one before, so DNS moves only once a login with the recovered credential has worked.
import * as pulumi from "@pulumi/pulumi";
import { stackConfig } from "./config.ts";
import { apiUrl, type TenantId } from "./names.ts";
import { composeImages } from "./tenant/compose.ts";
import { tenantSchema } from "./tenant/config.ts";
import { Credentials } from "./tenant/credentials.ts";
import { Dns } from "./tenant/dns.ts";
import { declaredPorts } from "./tenant/firewall.ts";
import { HostKey } from "./tenant/host-key.ts";
import { MailuFiles } from "./tenant/mailu-files.ts";
import { Vps } from "./tenant/vps.ts";
import { zoneFile } from "./tenant/zone-file.ts";

export function tenantStack(tenant: TenantId): Record<string, unknown> {
  const config = stackConfig(tenantSchema);

  const vps = new Vps("vps", { tenant, ...config });
  const hostKey = new HostKey("host-key", { vps, expected: config.existing?.hostKey });
  const files = new MailuFiles("files", { ...config, vps, hostKey: hostKey.line });
  const credentials = new Credentials("credentials", {
    ...config,
    tenant,
    vps,
    hostKey: hostKey.line,
    files,
  });
  const dns = new Dns("dns", {
    ...config,
    address: vps.address,
    dkim: credentials.dkim,
    verified: credentials.verified,
  });

  return {
    address: vps.address,
    vpsId: vps.vpsId,
    hostKey: hostKey.line,
    apiUrl: pulumi.output(vps.address).apply(apiUrl),
    domain: config.domain,
    contactEmail: config.contactEmail,
    // For whoever looks where the engine can't: into the host and at what resolvers answer. Public, all of it.
    declared: {
      files: files.digests,
      images: composeImages(config),
      ports: declaredPorts(config.submission),
      records: dns.records,
    },
    ...(config.dns.provider === "zone-file"
      ? { zoneFile: dns.records.apply((all) => zoneFile(config.domain, all)) }
      : {}),
  };
}
