// Requests to Vault in somebody's name: his login, what Vault calls him, and what he may do.
import { z } from "zod";
import { RunbookError } from "./errors.ts";
import { inParallel } from "./parallel.ts";
import { registerSecret } from "./redact.ts";
import { type Access, VaultRequests } from "./vault-requests.ts";

/** Paths asked about in one request: each takes Vault 3 ms of its processor, and hundreds would take it too long. */
const PATHS = 40;

export class VaultIdentity extends VaultRequests {
  #user: string | undefined;
  #entity: string | undefined;
  #isRoot = false;
  #mail: Promise<string> | undefined;

  /** @param user his name, where Vault isn't asked for it. */
  protected constructor(access: Access, user?: string) {
    super(access);
    this.#user = user;
  }

  /** Vault's name for whoever runs this: an AppRole's name, or the display name of the token; for the audit log. */
  get user(): string {
    return this.#user ?? "unknown";
  }

  /** Whether it may do everything and leaves no trace of who acts; as of `connect`. */
  get isRoot(): boolean {
    return this.#isRoot;
  }

  /** The e-mail address that Vault knows of whoever runs this; where it knows none, the name. Asked once. */
  userMail(): Promise<string> {
    this.#mail ??= this.#readMail().catch(() => this.user);
    return this.#mail;
  }

  /**
   * Asks Vault what this token really may do. Throws permission (3) that names every missing right; token
   * policies alone would mislead, since they leave out identity policies and still name deleted ones.
   * @param needs Vault paths with the capabilities that the run needs on them.
   */
  async requireCapabilities(needs: Record<string, readonly string[]>, role: string): Promise<void> {
    // Hundreds of tenants are tens of thousands of answers: none is kept that lacks nothing.
    const lacking = await inParallel(portions(Object.keys(needs), PATHS), 4, async (paths) => {
      const { data } = await this.write("sys/capabilities-self", { paths }, Capabilities);
      return paths.flatMap((path) => {
        const granted = data[path] ?? [];
        const lacks = granted.includes("root")
          ? []
          : (needs[path] ?? []).filter((capability) => !granted.includes(capability));
        return lacks.length === 0 ? [] : [`${lacks.join(", ")} on ${path}`];
      });
    });
    const missing = lacking.flat();
    if (missing.length > 0) {
      throw new RunbookError(`Insufficient permissions: ${this.user} lacks ${missing.join("; ")}`, {
        exit: "permission",
        next: `log in to Vault with the policy '${role}' and set VAULT_TOKEN, then run this again`,
      });
    }
  }

  /** Takes the token that Vault gives an AppRole for its secret id. */
  protected async logIn(roleId: string, secretId: string): Promise<void> {
    const answer = await this.write("auth/approle/login", { role_id: roleId, secret_id: secretId }, Login);
    registerSecret(answer.auth.client_token);
    this.token = answer.auth.client_token;
  }

  /** Learns from Vault whose token it is. */
  protected async lookupSelf(breakGlass: boolean): Promise<void> {
    const self = await this.read("auth/token/lookup-self", TokenSelf);
    // All AppRoles share one display name; their role's name is in the metadata.
    this.#user = self?.data.meta?.role_name ?? self?.data.display_name ?? "unknown";
    this.#entity = self?.data.entity_id;
    this.#isRoot = self?.data.policies.includes("root") ?? false;
    if (this.#isRoot && !breakGlass) {
      throw new RunbookError("VAULT_TOKEN is a root token, which leaves no trace of who acted", {
        exit: "refused",
        next: "use your own token; if there is no other way, the same command with --break-glass (it is audited)",
      });
    }
  }

  async #readMail(): Promise<string> {
    if (!this.#entity) return this.user;
    const entity = (await this.read(`identity/entity/id/${this.#entity}`, Entity))?.data;
    const names = [entity?.metadata?.email, ...(entity?.aliases ?? []).map(({ name }) => name)];
    return names.find((name) => name?.includes("@")) ?? this.user;
  }
}

const portions = <T>(items: readonly T[], size: number): T[][] =>
  Array.from({ length: Math.ceil(items.length / size) }, (_, at) => items.slice(at * size, (at + 1) * size));

const Login = z.object({ auth: z.object({ client_token: z.string().min(1) }) });
const TokenSelf = z.object({
  data: z.object({
    display_name: z.string(),
    policies: z.array(z.string()).default([]),
    entity_id: z.string().optional(),
    meta: z.object({ role_name: z.string().optional() }).nullish(),
  }),
});
const Entity = z.object({
  data: z.object({
    metadata: z.object({ email: z.string().optional() }).nullish(),
    aliases: z.array(z.object({ name: z.string() })).nullish(),
  }),
});
const Capabilities = z.object({ data: z.record(z.string(), z.unknown()) }).transform(({ data }) => ({
  data: Object.fromEntries(
    Object.entries(data).map(([path, caps]) => [path, z.array(z.string()).catch([]).parse(caps)]),
  ),
}));
