// What somebody must be told of: a notice as it waits in the outbox, `outbox/{event_id}.json`, until every receiver
// has it. Its text comes from people and from tenants' records, so it is made harmless here, once.
import { z } from "zod";
import { oneLine, printable } from "./printable.ts";
import type { Server } from "./records.ts";

const line = z.string().transform(oneLine);

export const Notice = z
  .object({
    /** Derived from the original run, tenant and name (`eventId`): the same again when a run is resumed. A file's name. */
    event_id: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/, "is no event id"),
    /** Such as `smtp_credentials_reset`. */
    name: z.string().regex(/^[a-z0-9_]{1,80}$/, "is no notice's name"),
    /** `security`: the settings' addresses and every webhook. `tenant`: mail to the addresses in `to` alone. */
    audience: z.enum(["security", "tenant"]),
    /** The tenant's addresses; empty for `security`. */
    to: z.array(z.email()),
    /** Whether the security team gets a tenant's notice by mail as well. */
    copy_to_security: z.boolean().default(false),
    /** Hosts (names and addresses) that it must not go through: those of the tenant that it is about. */
    not_via: z.array(z.string()).default([]),
    subject: line,
    /** Plain text. */
    text: z.string().transform(printable),
    severity: z.enum(["critical", "high", "info"]),
    tenant_id: line.optional(),
    incident_id: line.optional(),
    /** For programs behind a webhook: plain JSON. */
    fields: z.record(z.string(), z.unknown()),
    created: z.iso.datetime(),
    /** Channels that have it already, such as `mail:oncall@people.example`: a flush repeats only what is missing. */
    delivered: z.array(z.string()).default([]),
    /** Why the other channels don't have it, as of the last attempt. */
    failed: z.record(z.string(), z.string()).default({}),
  })
  .refine(
    ({ audience, to, copy_to_security }) => audience === "security" || copy_to_security || to.length > 0,
    {
      path: ["to"],
      error: "a tenant's notice needs an address",
    },
  );
export type Notice = z.infer<typeof Notice>;

/** What a runbook gives; `created` is now unless it says otherwise. */
export type NewNotice = Omit<z.input<typeof Notice>, "created" | "delivered" | "failed"> & {
  created?: string | undefined;
};

/** The notice in a stored text; undefined if there is none in it. */
export function parseNotice(body: string): Notice | undefined {
  try {
    return Notice.safeParse(JSON.parse(body)).data;
  } catch {
    return undefined;
  }
}

export interface Contacts {
  to: string[];
  /** True where only the tenant's own mail host could deliver it: then the security team must hear of it too. */
  copy_to_security: boolean;
  /** Says what is missing in the tenant's record. */
  warning?: string;
}

/**
 * Whom to tell at a tenant; goes into a notice as it is. Mail for an address in the tenant's own domain passes the
 * very host whose credential was lost, so it needs a second address elsewhere: `second_contact_email` in the record.
 */
export function contactAddresses(server: Server): Contacts {
  const second = z.email().safeParse(server.second_contact_email).data;
  const to = [...new Set([server.contact_email, ...(second === undefined ? [] : [second])])];
  if (to.some((address) => !isWithin(server.domain, address))) return { to, copy_to_security: false };
  return {
    to,
    copy_to_security: true,
    warning: `${to.join(" and ")} can be reached through ${server.domain}'s own mail host only: set second_contact_email to an address elsewhere; the security team gets a copy`,
  };
}

function isWithin(domain: string, address: string): boolean {
  const host = address.slice(address.lastIndexOf("@") + 1).toLowerCase();
  return host === domain || host.endsWith(`.${domain}`);
}
