// A real identity provider: Vault can be one. Its page for people is Vault's web interface, which isn't there in a small
// build; behind it is one request, which a test makes in its place.
import { z } from "zod";
import type { DevVault } from "../../stacks/dev-vault.ts";
import { PASSWORD } from "./open-console.ts";

export interface Provider {
  /** The provider asks alice, at whose page `url` the browser is, and she says yes: the path on which it comes back. */
  consent(url: string): Promise<string>;
}

/** Makes `vault` a provider that knows the group `admins`, and gives it a login `people` for the console at `url`. */
export async function beProvider(vault: DevVault, url: string): Promise<Provider> {
  const root = async (method: string, path: string, body?: unknown) => {
    const { status, body: said } = await vault.call(vault.rootToken, method, path, body);
    if (status >= 400) throw new Error(`${path}: ${JSON.stringify(said)}`);
    return said;
  };
  const callback = new URL("/oidc/callback", url).href;
  const login = await root("POST", "auth/userpass/login/alice", { password: PASSWORD });
  const token = login.auth?.client_token ?? "";
  const entity = (await vault.call(token, "GET", "auth/token/lookup-self")).body.data?.entity_id;
  await root("POST", `identity/entity/id/${entity}`, { metadata: { email: "alice@people.example" } });
  await root("POST", "identity/group", { name: "admins", member_entity_ids: [entity] });
  const template =
    '{"email": {{identity.entity.metadata.email}}, "groups": {{identity.entity.groups.names}}}';
  await root("POST", "identity/oidc/scope/people", { template });
  await root("POST", "identity/oidc/client/console", {
    redirect_uris: [callback],
    assignments: ["allow_all"],
  });
  await root("POST", "identity/oidc/provider/people", {
    issuer: vault.address,
    allowed_client_ids: ["*"],
    scopes_supported: ["people"],
  });
  const { data: client } = await root("GET", "identity/oidc/client/console");
  await root("POST", "sys/auth/people", { type: "oidc" });
  await root("POST", "auth/people/config", {
    oidc_discovery_url: `${vault.address}/v1/identity/oidc/provider/people`,
    oidc_client_id: client?.client_id,
    oidc_client_secret: client?.client_secret,
  });
  const role = (name: string, groups: string, allowed_redirect_uris: string[]) =>
    root("POST", `auth/people/role/${name}`, {
      role_type: "oidc",
      user_claim: "email",
      groups_claim: "groups",
      bound_claims: { groups },
      oidc_scopes: ["people"],
      token_policies: [name],
      allowed_redirect_uris,
    });
  await role("platform-admin", "admins", [callback]);
  await role("drift-reader", "somebody-else", [callback]);
  await role("tenant-deployer", "admins", ["https://elsewhere.example/callback"]);
  return {
    async consent(at) {
      const { search } = new URL(at);
      const path = `identity/oidc/provider/people/authorize${search}`;
      const { code, state } = Consent.parse((await vault.call(token, "GET", path)).body);
      return `/oidc/callback?${new URLSearchParams({ code, state })}`;
    },
  };
}

const Consent = z.object({ code: z.string(), state: z.string() });
