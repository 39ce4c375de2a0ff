// How automation, people and CI come by their tokens. No secret passes through here: secret ids are made by an
// operator (`vault write -f auth/approle/role/NAME/secret-id`), and identity providers are known by public keys.
import * as pulumi from "@pulumi/pulumi";
import { AuthBackendRole as AppRole } from "@pulumi/vault/approle/authBackendRole.js";
import { AuthBackend } from "@pulumi/vault/authBackend.js";
import { AuthBackend as JwtBackend } from "@pulumi/vault/jwt/authBackend.js";
import { AuthBackendRole as JwtRole } from "@pulumi/vault/jwt/authBackendRole.js";
import type { Role } from "../names.ts";
import type { CiLogin, PeopleLogin, PlatformConfig } from "./config.ts";

/** AppRoles of automation and the role each holds. */
export const APP_ROLES = {
  system: "incident-responder",
  "backup-operator": "backup-operator",
  "drift-reader": "drift-reader",
  "credential-prober": "credential-prober",
  "tenant-deployer": "tenant-deployer",
} as const satisfies Record<string, Role>;

const HOUR_S = 3600;
/** Roles that can destroy or take over everything: an hour, then log in again. */
const SHORT_LIVED = new Set<Role>(["stack-operator", "vault-restorer", "key-shredder"]);

export class Logins extends pulumi.ComponentResource {
  /** Names of the AppRoles. */
  readonly appRoles = Object.keys(APP_ROLES);

  constructor(
    name: string,
    args: Pick<PlatformConfig, "operationsNetworks" | "people" | "ci">,
    options?: pulumi.ComponentResourceOptions,
  ) {
    super("penguinmails:platform:Logins", name, {}, options);
    this.#createAppRoles(args.operationsNetworks);
    if (args.people !== undefined) this.#createPeopleLogin(args.people);
    if (args.ci !== undefined) this.#createCiLogin(args.ci);
    this.registerOutputs();
  }

  #createAppRoles(operations: readonly string[]): void {
    const backend = new AuthBackend("approle", { type: "approle", path: "approle" }, { parent: this });
    for (const [roleName, role] of Object.entries(APP_ROLES)) {
      // The prober can decrypt every tenant's password: its secret id and its tokens are worth nothing elsewhere.
      const bound = role === "credential-prober" ? [...operations] : undefined;
      new AppRole(
        `approle-${roleName}`,
        {
          backend: backend.path.apply((path) => path ?? "approle"),
          roleName,
          tokenPolicies: [role],
          tokenNoDefaultPolicy: true,
          tokenTtl: HOUR_S,
          tokenMaxTtl: 4 * HOUR_S,
          ...(bound === undefined ? {} : { secretIdBoundCidrs: bound, tokenBoundCidrs: bound }),
        },
        { parent: this },
      );
    }
  }

  #createPeopleLogin(login: PeopleLogin): void {
    const browser = login.redirectUris.length > 0;
    // A browser login needs the client's secret, which must not get into Pulumi's state: an operator writes
    // auth/people/config by hand, once. An ID token handed over needs public keys only.
    const backend = browser
      ? new AuthBackend("people", { type: "oidc", path: "people" }, { parent: this })
      : this.#createJwtBackend("people", login);
    for (const [role, groups] of Object.entries(login.roles) as [Role, string[]][]) {
      const ttl = SHORT_LIVED.has(role) ? HOUR_S : 8 * HOUR_S;
      new JwtRole(
        `people-${role}`,
        {
          backend: "people",
          roleName: role,
          roleType: browser ? "oidc" : "jwt",
          userClaim: login.userClaim,
          groupsClaim: login.groupsClaim,
          boundAudiences: [login.audience],
          // Vault reads a comma as "one of these".
          boundClaims: { [login.groupsClaim]: groups.join(",") },
          ...(browser ? { allowedRedirectUris: login.redirectUris, oidcScopes: login.scopes } : {}),
          tokenPolicies: [role],
          tokenTtl: Math.min(ttl, HOUR_S),
          tokenMaxTtl: ttl,
        },
        { parent: this, dependsOn: backend },
      );
    }
  }

  #createCiLogin(login: CiLogin): void {
    const backend = this.#createJwtBackend("ci", login);
    for (const role of ["tenant-deployer", "drift-reader", "backup-operator"] as const) {
      new JwtRole(
        `ci-${role}`,
        {
          backend: "ci",
          roleName: role,
          roleType: "jwt",
          userClaim: "sub",
          boundAudiences: [login.audience],
          boundClaims: login.claims,
          tokenPolicies: [role],
          tokenNoDefaultPolicy: true,
          tokenTtl: HOUR_S,
          tokenMaxTtl: HOUR_S,
        },
        { parent: this, dependsOn: backend },
      );
    }
  }

  #createJwtBackend(path: string, login: PeopleLogin | CiLogin): JwtBackend {
    return new JwtBackend(
      path,
      {
        path,
        type: "jwt",
        ...(login.discoveryUrl === undefined
          ? { jwtValidationPubkeys: login.publicKeys }
          : { oidcDiscoveryUrl: login.discoveryUrl }),
        ...(login.issuer === undefined ? {} : { boundIssuer: login.issuer }),
      },
      { parent: this },
    );
  }
}
