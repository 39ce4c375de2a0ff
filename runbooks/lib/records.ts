// The records that Vault keeps for a tenant, as the contract has them: one schema and one type of the same
// name each. `Ciphertext` is what Transit made (`vault:vN:…`); no field of a record holds a plaintext secret.
import { z } from "zod";
import { domainProblem } from "../../stacks/names.ts";

export const Ciphertext = z
  .string()
  .regex(/^vault:v[1-9][0-9]*:[A-Za-z0-9+/=]+$/, "is no Transit ciphertext (vault:vN:…)");
const Time = z.iso.datetime();
const Port = z.number().int().min(1).max(65535);

/** `smtp/{tenant}/admin`: the credential itself. Unknown fields are other people's and are kept when written. */
export const Admin = z.looseObject({
  username: z.email(),
  password: Ciphertext,
  webmail_url: z.url(),
  last_rotated: Time,
});
export type Admin = z.infer<typeof Admin>;

/** `smtp/{tenant}/server`: where the tenant's Mailu answers and how its host is known. */
export const Server = z.looseObject({
  vps_ip: z.ipv4(),
  api_url: z.url(),
  smtp_host: z.string().min(1),
  smtp_port: Port,
  imap_host: z.string().min(1),
  imap_port: Port,
  /** Goes into commands on the host, so nothing but a domain is taken. */
  domain: z.string().refine((text) => domainProblem(text) === undefined, "is no domain"),
  contact_email: z.email(),
  /** OpenSSH public key line, `ssh-ed25519 AAAA…`, pinned at first contact. */
  host_key: z.string().regex(/^(?:ssh|ecdsa)-\S+ [A-Za-z0-9+/=]+$/, "is no OpenSSH public key"),
});
export type Server = z.infer<typeof Server>;

/** `smtp/{tenant}/mailu`: what the tenant's Mailu is administered with. */
export const Mailu = z.looseObject({
  api_token: Ciphertext,
  /** Ids of Mailu app tokens that somebody vouched for; all others are removed after a compromise. */
  sanctioned_app_tokens: z.array(z.string()).default([]),
});
export type Mailu = z.infer<typeof Mailu>;

/** `smtp/{tenant}/dkim`: the signing key; `dns_txt` is its public half as DNS publishes it. */
export const Dkim = z.looseObject({
  selector: z.string().min(1),
  private_key: Ciphertext,
  dns_txt: z.string().startsWith("v=DKIM1;"),
});
export type Dkim = z.infer<typeof Dkim>;

/** `smtp/{tenant}/tls`: the host's certificate chain (PEM) and its key, saved from the host. */
export const Tls = z.looseObject({
  certificate: z.string().startsWith("-----BEGIN CERTIFICATE-----"),
  private_key: Ciphertext,
  not_after: Time,
});
export type Tls = z.infer<typeof Tls>;

/** The rotation's states in order; each is written once what it says has happened. */
export const STATES = [
  "PREPARED",
  "SET",
  "ACCEPTED",
  "COMMITTED",
  "REFUSED",
  "MARKED",
  "NOTIFIED",
  "CLEARED",
  "RETIRED",
  "SHREDDED",
] as const;
export type State = (typeof STATES)[number];

/** Who works on a rotation. `process_start` is the kernel's start time of `pid`, so that a reused pid is not taken for it. */
export const Holder = z.object({
  run: z.string(),
  machine: z.string(),
  pid: z.number().int(),
  process_start: z.string(),
  user: z.string(),
  since: Time,
  heartbeat: Time,
});
export type Holder = z.infer<typeof Holder>;

/** What was found beside the password after a reset: kept in the record, so that whoever resumes can tell of it. */
export const Findings = z.looseObject({
  /** App tokens of the account that were deleted, as Mailu lists them. */
  tokens_deleted: z.array(
    z.object({ id: z.string(), comment: z.string().nullable(), created: z.string().nullable() }),
  ),
  /** One sentence each, with what to do about it. */
  reported: z.array(z.string()),
  /** What could not be looked at, and why. */
  unknown: z.array(z.string()),
});
export type Findings = z.infer<typeof Findings>;

/** What the server said to the old password: only `refused` (535) proves it dead. */
export const OldProof = z.enum(["refused", "accepted", "inconclusive", "unavailable"]);
export type OldProof = z.infer<typeof OldProof>;

/** `smtp/{tenant}/rotation`: the write-ahead record of everything that sets a Mailu password. Never deleted. */
export const Rotation = z.looseObject({
  state: z.enum(STATES),
  kind: z.enum(["reset", "response", "recovery", "reconcile"]),
  /** The password being installed; for a recovery without a rotation the current one. */
  password: Ciphertext,
  incident_id: z.string().nullable(),
  reason: z.string(),
  details: z.record(z.string(), z.unknown()),
  /** The run that began the rotation; event ids derive from it, whoever finishes. */
  run: z.string(),
  actor: z.string(),
  started: Time,
  /** Version of `admin` that this rotation started from, and the SHA-256 (hex) of its ciphertext. */
  base_version: z.number().int().min(0),
  base_sha256: z.string(),
  /** Versions of `admin` that this rotation replaces: the one it started from, and what others wrote meanwhile. */
  old_versions: z.array(z.number().int()).default([]),
  /** Whether the rotation brings a new password (and so ends in a new version of `admin`). */
  rotates: z.boolean(),
  /** Passwords that the server took and then refused at the login, by the SHA-256 of their ciphertext. */
  rejected: z.array(z.object({ sha256: z.string(), said: z.string(), at: Time })).default([]),
  /** How the new password was proven: by logins, or only by its hash where the server lets nobody log in. */
  new_proof: z.enum(["login", "hash"]).nullable().default(null),
  old_proof: OldProof.nullable().default(null),
  findings: Findings.nullable().default(null),
  /** Names of the audit events that are stored before the record is cleared. */
  events_due: z.array(z.string()).default([]),
  displayed: z.boolean(),
  holder: Holder.nullable(),
  history: z.array(z.object({ incident: z.string(), version: z.number().int() })).default([]),
  /** Since when the tenant is being taken away: no rotation begins any more. */
  offboarded: Time.optional(),
});
export type Rotation = z.infer<typeof Rotation>;

/** Finished means that no password is waiting to be set, proven or stored. */
export const isPending = (state: State): boolean => STATES.indexOf(state) < STATES.indexOf("CLEARED");
/** Whether `state` lies before `other` in the order of the state machine. */
export const isBefore = (state: State, other: State): boolean =>
  STATES.indexOf(state) < STATES.indexOf(other);
