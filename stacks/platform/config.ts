// What the platform stack can be told. `.describe` texts are shown in errors and are the documentation.
import { z } from "zod";
import { network, tenant } from "../config.ts";
import { AUDIT_BUCKET, BACKUP_BUCKET } from "../names.ts";

const arn = z
  .string()
  .regex(/^arn:aws[a-z-]*:iam::\d{12}:(root|role\/.+|user\/.+)$/, "takes the ARN of an IAM principal");
const bucket = z.string().regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, "takes the name of an S3 bucket");
const days = z.number().int().min(1).max(36500);

/** Where tokens of an identity provider are checked: by its discovery document, or by its public keys. */
const issuer = {
  /** URL whose /.well-known/openid-configuration Vault fetches. */
  discoveryUrl: z.url().optional(),
  /** PEM public keys, for a provider that Vault can't reach. */
  publicKeys: z.array(z.string().startsWith("-----BEGIN PUBLIC KEY-----")).default([]),
  /** The `iss` that a token must have. */
  issuer: z.string().min(1).optional(),
  /** The `aud` that a token must have. */
  audience: z.string().min(1),
};

const people = z
  .strictObject({
    ...issuer,
    /** The claim that names the person; it ends up in the audit log. */
    userClaim: z.string().default("email"),
    /** The claim that lists the person's groups. */
    groupsClaim: z.string().default("groups"),
    /** Which groups hold which role; a role that isn't named can't be had by logging in. */
    roles: z.partialRecord(
      z.enum([
        "platform-admin",
        "incident-responder",
        "tenant-deployer",
        "stack-operator",
        "vault-restorer",
        "key-shredder",
        "drift-reader",
      ]),
      z.array(z.string().min(1)).min(1),
    ),
    /**
     * With these, a browser login: http://localhost:8250/oidc/callback for `vault login -method=oidc`, and
     * http://127.0.0.1:8423/oidc/callback for the console. Without, an ID token is handed over.
     */
    redirectUris: z.array(z.url()).default([]),
    /** What a browser login asks for besides `openid`; many providers tell groups only to who asks for `groups`. */
    scopes: z.array(z.string().min(1)).default(["email"]),
  })
  .refine(hasIssuer, "takes discoveryUrl or publicKeys");

const ci = z
  .strictObject({
    ...issuer,
    /** Claims that a job's token must have, e.g. {"repository": "acme/mail", "environment": "production"}. */
    claims: z
      .record(z.string(), z.string().min(1))
      .refine(
        (claims) => Object.keys(claims).length > 0,
        "takes at least one claim: any job of that provider could log in",
      ),
  })
  .refine(hasIssuer, "takes discoveryUrl or publicKeys");

export const platformSchema = z.object({
  tenants: z.array(tenant).default([]).describe("list of tenant ids; each gets the policy tenant-<id>"),
  awsAccountId: z
    .string()
    .regex(/^\d{12}$/, "takes 12 digits")
    .describe("the 12 digits of the AWS account that holds buckets and keys"),
  awsRole: arn
    .optional()
    .describe(
      "ARN of a role to assume for buckets, keys and IAM roles, where they live in another AWS account",
    ),
  awsRegion: z.string().optional().describe("region of buckets and keys, where it isn't the default one"),
  backupBucket: bucket.default(BACKUP_BUCKET).describe("name of the backup bucket"),
  auditBucket: bucket.default(AUDIT_BUCKET).describe("name of the audit bucket"),
  backupLockDays: days.default(30).describe("days for which a new backup can't be deleted"),
  auditLockDays: days.default(366).describe("days for which an audit event can't be deleted"),
  lockMode: z
    .enum(["COMPLIANCE", "GOVERNANCE"])
    .default("COMPLIANCE")
    .describe("COMPLIANCE: nobody can shorten a lock; GOVERNANCE: s3:BypassGovernanceRetention can"),
  noncurrentDays: days
    .default(90)
    .describe("days until an overwritten or deleted version in the audit bucket goes, once unlocked"),
  principals: z
    .strictObject({
      backup: z.array(arn).min(1).optional(),
      verifier: z.array(arn).min(1).optional(),
      pruner: z.array(arn).min(1).optional(),
      restorer: z.array(arn).min(1).optional(),
      drift: z.array(arn).min(1).optional(),
    })
    .default({})
    .describe(
      "who may assume the IAM roles backup, verifier, pruner, restorer, drift: lists of ARNs; default: the account itself",
    ),
  auditFile: z
    .string()
    .startsWith("/", "takes an absolute path on the Vault server")
    .default("/var/log/vault/audit.log")
    .describe("file of the second audit device, on the Vault server; the first one is stdout"),
  operationsNetworks: z
    .array(network)
    .min(1)
    .describe("networks of the operations host, the only place from which credential-prober may log in"),
  people: people.optional().describe("login for people by an OIDC identity provider; absent: none"),
  ci: ci.optional().describe("login for CI by the tokens of its jobs; absent: none"),
});
export type PlatformConfig = z.output<typeof platformSchema>;
export type PeopleLogin = z.output<typeof people>;
export type CiLogin = z.output<typeof ci>;

function hasIssuer(login: { discoveryUrl?: string | undefined; publicKeys: string[] }): boolean {
  return (login.discoveryUrl === undefined) !== (login.publicKeys.length === 0);
}
