// Most of Vault's resources are a document of settings under other names: camelCase here, snake_case there.
import type { Change } from "../protocol/resource.ts";
import type { Props } from "../protocol/values.ts";

/** A property's kind says how Vault is told that it's no longer set. */
const NOTHING = { text: "", number: 0, flag: false, list: [], map: {} } as const;
export type Fields = Readonly<Record<string, keyof typeof NOTHING>>;

/** The token_* settings that roles of all auth methods share. */
export const TOKEN_FIELDS: Fields = {
  tokenBoundCidrs: "list",
  tokenExplicitMaxTtl: "number",
  tokenMaxTtl: "number",
  tokenNoDefaultPolicy: "flag",
  tokenNumUses: "number",
  tokenPeriod: "number",
  tokenPolicies: "list",
  tokenTtl: "number",
  tokenType: "text",
};

/** The fields of `inputs` as Vault names them. */
export function toVault(inputs: Props, fields: Fields): Props {
  return Object.fromEntries(
    Object.keys(fields)
      .filter((key) => inputs[key] !== undefined)
      .map((key) => [snake(key), inputs[key]]),
  );
}

/** As `toVault`, with an empty value for each field that was taken out of the program. */
export function updateForVault({ inputs, changed }: Change, fields: Fields): Props {
  const dropped = Object.entries(fields).filter(([key]) => changed.has(key) && inputs[key] === undefined);
  return {
    ...Object.fromEntries(dropped.map(([key, kind]) => [snake(key), NOTHING[kind]])),
    ...toVault(inputs, fields),
  };
}

/** Vault's document as properties. What is empty counts only where the state has it. */
export function fromVault(document: Props, state: Props, fields: Fields): Props {
  return Object.fromEntries(
    Object.keys(fields)
      .filter((key) => snake(key) in document)
      .map((key) => {
        const value = document[snake(key)];
        return [key, isEmpty(value) && state[key] === undefined ? undefined : value];
      }),
  );
}

export const listFields = (fields: Fields): string[] =>
  Object.entries(fields)
    .filter(([, kind]) => kind === "list")
    .map(([key]) => key);

const snake = (key: string): string => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

const isEmpty = (value: unknown): boolean =>
  !value || (typeof value === "object" && Object.keys(value).length === 0);
