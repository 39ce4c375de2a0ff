// The API's calls for domains (core/admin/mailu/api/v1/domains.py).
import { newDomain } from "./accounts.ts";
import {
  type Answer,
  type Calls,
  invalid,
  isDomain,
  isEmail,
  noDomain,
  say,
  withoutNulls,
} from "./api-call.ts";
import { dnsRecords } from "./dns.ts";
import { DOMAIN_FIELDS, fieldErrors, known } from "./fields.ts";
import type { Database } from "./store.ts";

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
  // The real one asks a query for its managers and fails for every domain.
  "GET domain//manager": (_mailu, name) =>
    isDomain(name)
      ? { status: 500, body: { message: "Internal Server Error" } }
      : say(400, `Domain ${name} is not a valid domain`),
  "POST domain//manager": ({ store }, name, { user_email: email }) => {
    if (!isEmail(email)) return say(400, `Invalid email address ${email}`);
    const problem = notManageable(store.db, name, email);
    if (problem !== undefined) return problem;
    if (managerOf(store.db, name, email) !== undefined)
      return say(409, `User ${email} is already a manager of the domain ${name} `);
    store.update((db) => void db.managers.push({ domain: name, email: email.toLowerCase() }));
    return say(200, `User ${email} has been added as manager of the domain ${name} `);
  },
  // The fields are looked for in the user, who has no `user_email`.
  "GET domain//manager/": ({ store }, name, _data, email) =>
    notManageable(store.db, name, email) ??
    (managerOf(store.db, name, email) === undefined
      ? say(404, `User ${email} is not a manager of the domain ${name}`)
      : { status: 200, body: { domain_name: email.split("@")[1], user_email: null } }),
  "DELETE domain//manager/": ({ store }, name, _data, email) => {
    const problem = notManageable(store.db, name, email);
    if (problem !== undefined) return problem;
    if (managerOf(store.db, name, email) === undefined)
      return say(404, `User ${email} is not a manager of the domain ${name}`);
    store.update((db) => {
      db.managers = db.managers.filter((one) => one.domain !== name || one.email !== email.toLowerCase());
    });
    return say(200, `User ${email} has been removed as a manager of the domain ${name} `);
  },
  "GET domain//users": ({ store }, name) => {
    if (store.db.domains[name] === undefined) return noDomain(name);
    const users = Object.values(store.db.users).filter(({ email }) => email.endsWith(`@${name}`));
    return { status: 200, body: users.map(withoutNulls) };
  },
};

/** Why a user can't be a domain's manager, or be asked for as one. */
function notManageable(db: Readonly<Database>, name: string, email: string): Answer | undefined {
  if (!isEmail(email)) return say(400, `Invalid email address ${email}`);
  if (!isDomain(name)) return say(400, `Domain ${name} is not a valid domain`);
  if (db.domains[name] === undefined) return noDomain(name);
  return db.users[email.toLowerCase()] === undefined ? say(404, `User ${email} does not exist`) : undefined;
}

const managerOf = (db: Readonly<Database>, name: string, email: string) =>
  db.managers.find((one) => one.domain === name && one.email === email.toLowerCase());
