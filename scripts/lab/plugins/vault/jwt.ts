// vault:jwt/authBackend:AuthBackend and its roles: people (OIDC) and CI (JWT).
import { needed, text } from "../protocol/props.ts";
import type { Resource } from "../protocol/resource.ts";
import { isObject, type Props } from "../protocol/values.ts";
import { get, post, remove } from "./client.ts";
import { type Fields, fromVault, listFields, TOKEN_FIELDS, toVault, updateForVault } from "./fields.ts";
import { inTable } from "./mounts.ts";

const BACKEND_FIELDS: Fields = {
  boundIssuer: "text",
  defaultRole: "text",
  jwksCaPem: "text",
  jwksUrl: "text",
  jwtSupportedAlgs: "list",
  jwtValidationPubkeys: "list",
  oidcClientId: "text",
  // Vault never gives it back, so the state keeps what was written.
  oidcClientSecret: "text",
  oidcDiscoveryCaPem: "text",
  oidcDiscoveryUrl: "text",
  oidcResponseMode: "text",
  oidcResponseTypes: "list",
  providerConfig: "map",
};

export const jwtBackend: Resource = {
  replaceOn: ["local", "namespace", "path", "type"],
  computed: ["accessor"],
  defaults: () => ({ path: "jwt", type: "jwt" }),
  create: async (inputs, context) => {
    const path = needed(inputs, "path");
    await post(context, `sys/auth/${path}`, {
      type: needed(inputs, "type"),
      description: text(inputs, "description") ?? "",
      local: inputs.local ?? false,
    });
    try {
      await post(context, `auth/${path}/config`, toVault(inputs, BACKEND_FIELDS));
    } catch (error) {
      // Else the next try would find the path taken.
      await remove(context, `sys/auth/${path}`);
      throw error;
    }
    return { id: path };
  },
  read: async (id, state, context) => {
    const found = await inTable(context, "sys/auth", id);
    if (found === undefined) return undefined;
    const config = (await get(context, `auth/${id}/config`)) ?? {};
    return {
      path: id,
      type: found.type,
      description: found.description || undefined,
      accessor: found.accessor,
      ...fromVault(config, state, BACKEND_FIELDS),
    };
  },
  update: async (change, context) => {
    if (change.changed.has("description")) {
      await post(context, `sys/auth/${change.id}/tune`, {
        description: text(change.inputs, "description") ?? "",
      });
    }
    await post(context, `auth/${change.id}/config`, updateForVault(change, BACKEND_FIELDS));
    return undefined;
  },
  delete: (id, _state, context) => remove(context, `sys/auth/${id}`),
};

const ROLE_FIELDS: Fields = {
  ...TOKEN_FIELDS,
  allowedRedirectUris: "list",
  boundAudiences: "list",
  boundClaims: "map",
  boundClaimsType: "text",
  boundSubject: "text",
  claimMappings: "map",
  clockSkewLeeway: "number",
  expirationLeeway: "number",
  groupsClaim: "text",
  maxAge: "number",
  notBeforeLeeway: "number",
  oidcScopes: "list",
  roleType: "text",
  userClaim: "text",
  userClaimJsonPointer: "flag",
  verboseOidcLogging: "flag",
};

export const jwtRole: Resource = {
  replaceOn: ["backend", "namespace", "roleName"],
  computed: ["boundClaimsType"],
  sets: listFields(ROLE_FIELDS),
  defaults: () => ({ backend: "jwt", roleType: "oidc" }),
  create: async (inputs, context) => {
    const id = `auth/${needed(inputs, "backend")}/role/${needed(inputs, "roleName")}`;
    await post(context, id, withLists(toVault(inputs, ROLE_FIELDS)));
    return { id };
  },
  read: async (id, state, context) => {
    const found = await get(context, id);
    if (found === undefined) return undefined;
    const [, backend, roleName] = /^auth\/(.+)\/role\/([^/]+)$/.exec(id) ?? [];
    return { backend, roleName, ...fromVault(withTexts(found), state, ROLE_FIELDS) };
  },
  update: async (change, context) => {
    await post(context, change.id, withLists(updateForVault(change, ROLE_FIELDS)));
    return undefined;
  },
  delete: (id, _state, context) => remove(context, id),
};

/** A claim's accepted values are one text with commas to Pulumi and a list to Vault. */
const withLists = (document: Props): Props =>
  mapClaims(document, (value) =>
    typeof value === "string" && value.includes(",") ? value.split(",") : value,
  );

const withTexts = (document: Props): Props =>
  mapClaims(document, (value) => (Array.isArray(value) ? value.join(",") : value));

function mapClaims(document: Props, map: (value: unknown) => unknown): Props {
  const claims = document.bound_claims;
  if (!isObject(claims)) return document;
  return {
    ...document,
    bound_claims: Object.fromEntries(Object.entries(claims).map(([key, value]) => [key, map(value)])),
  };
}
