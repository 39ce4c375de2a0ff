// The API's calls for domains (core/admin/mailu/api/v1/domains.py).
import { newDomain } from "./accounts.ts";
import { type Calls, invalid, isDomain, noDomain, say, withoutNulls } from "./api-call.ts";
import { dnsRecords } from "./dns.ts";
import { DOMAIN_FIELDS, fieldErrors, known } from "./fields.ts";

export const domainCalls: Calls = {
  "GET domain": ({ store, dkim, settings }) => ({
    status: 200,
    body: Object.values(store.db.domains).map((one) =>
      withoutNulls({ ...one, ...dnsRecords(one.name, dkim, settings) }),
    ),
  }),
  "POST domain": ({ store }, _, data) => {
    const errors = fieldErrors(data, DOMAIN_FIELDS, ["name"]);
    if (errors !== undefined) return invalid(errors);
    const { name } = data;
    if (!isDomain(name)) return say(400, `Domain ${name} is not a valid domain`);
    if (store.db.domains[name] !== undefined) return say(409, `Duplicate domain name ${name}`);
    store.update((db) => {
      db.domains[name] = { ...newDomain(name), ...known(data, DOMAIN_FIELDS) };
    });
    return say(200, `Domain ${name} has been created`);
  },
  "GET domain/": ({ store, dkim, settings }, name) => {
    if (!isDomain(name)) return say(400, `Domain ${name} is not a valid domain`);
    const domain = store.db.domains[name];
    if (domain === undefined) return noDomain(name);
    return { status: 200, body: { ...domain, ...dnsRecords(name, dkim, settings) } };
  },
  "POST domain//dkim": async ({ store, dkim }, name) => {
    if (store.db.domains[name] === undefined) return noDomain(name);
    await dkim.renew(name);
    return say(200, `DKIM/DMARC keys have been generated for domain ${name}`);
  },
  "GET domain//users": ({ store }, name) => {
    if (store.db.domains[name] === undefined) return noDomain(name);
    const users = Object.values(store.db.users).filter(({ email }) => email.endsWith(`@${name}`));
    return { status: 200, body: users.map(withoutNulls) };
  },
};
