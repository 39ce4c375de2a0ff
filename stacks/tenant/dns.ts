// Publishes the tenant's records. They are made of what the recovery printed, so DNS never points at a host that
// nobody could log in to yet.
import { Record as DnsRecord } from "@pulumi/aws/route53/record.js";
import * as pulumi from "@pulumi/pulumi";
import type { TenantConfig } from "./config.ts";
import { TTL_S, txtStrings, type ZoneRecord, zoneRecords } from "./zone-records.ts";

export interface DnsArgs extends Pick<TenantConfig, "domain" | "dns" | "mtaSts"> {
  address: pulumi.Output<string>;
  /** The DKIM record's text. */
  dkim: pulumi.Output<string>;
}

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

  /** Which records there are is known before their values, so a preview shows each of them. */
  #createRecords(zoneId: string, args: DnsArgs): void {
    const outline = zoneRecords({ ...args, address: "", dkim: "" });
    outline.forEach(({ name, type }, index) => {
      const value = this.records.apply((all) => route53Value(all[index] ?? { name, type, value: "" }));
      new DnsRecord(
        `${type}-${name}`,
        { zoneId, name, type, ttl: TTL_S, records: [value] },
        { parent: this },
      );
    });
  }
}

/** The provider itself puts a TXT value between quotes, so only the quotes between its strings are written here. */
export function route53Value({ type, value }: ZoneRecord): string {
  return type === "TXT" ? txtStrings(value).join('" "') : value;
}
