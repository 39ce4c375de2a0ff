// Publishes the tenant's records, and only once the recovery is done: DNS never points at a host that nobody could
// log in to yet.
import { Record as DnsRecord } from "@pulumi/aws/route53/record.js";
import * as pulumi from "@pulumi/pulumi";
import type { TenantConfig } from "./config.ts";
import { TTL_S, txtStrings, type ZoneRecord, zoneRecords } from "./zone-records.ts";

export interface DnsArgs extends Pick<TenantConfig, "domain" | "dns" | "mtaSts"> {
  address: pulumi.Output<string>;
  /** The DKIM record's text. */
  dkim: pulumi.Output<string>;
  /** What must be done before a record changes. */
  verified: pulumi.Resource;
}

/** Stand in the outline for what isn't known yet. */
const ADDRESS = "<address>";
const DKIM = "<dkim>";

export class Dns extends pulumi.ComponentResource {
  /** All records, with the address and the DKIM text filled in. */
  readonly records: pulumi.Output<ZoneRecord[]>;

  constructor(name: string, args: DnsArgs, options?: pulumi.ComponentResourceOptions) {
    super("penguinmails:tenant:Dns", name, {}, options);
    this.records = pulumi
      .all([args.address, args.dkim])
      .apply(([address, dkim]) => zoneRecords({ ...args, address, dkim }));
    if (args.dns.provider === "route53") this.#createRecords(args.dns.zoneId, args);
    this.registerOutputs();
  }

  /** Which records there are, and most of their values, is known at once: a preview shows just what will change. */
  #createRecords(zoneId: string, args: DnsArgs): void {
    for (const record of zoneRecords({ ...args, address: ADDRESS, dkim: DKIM })) {
      const { name, type } = record;
      const value =
        record.value === ADDRESS ? args.address : record.value === DKIM ? args.dkim : record.value;
      const records = [pulumi.output(value).apply((known) => route53Value({ name, type, value: known }))];
      new DnsRecord(
        `${type}-${name}`,
        { zoneId, name, type, ttl: TTL_S, records },
        { parent: this, dependsOn: args.verified },
      );
    }
  }
}

/** The provider itself puts a TXT value between quotes, so only the quotes between its strings are written here. */
export function route53Value({ type, value }: ZoneRecord): string {
  return type === "TXT" ? txtStrings(value).join('" "') : value;
}
