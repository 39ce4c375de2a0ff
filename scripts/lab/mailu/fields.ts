// Which fields the API takes, and of which JSON type. A field of the wrong type is answered 400; a field that
// isn't listed is passed over in silence, which is why a 200 of Mailu's proves nothing.

type FieldType = "string" | "integer" | "boolean" | "array";
export type Fields = Record<string, FieldType>;

export const DOMAIN_FIELDS: Fields = {
  name: "string",
  comment: "string",
  max_users: "integer",
  max_aliases: "integer",
  max_quota_bytes: "integer",
  signup_enabled: "boolean",
  alternatives: "array",
};

export const USER_FIELDS: Fields = {
  email: "string",
  raw_password: "string",
  comment: "string",
  quota_bytes: "integer",
  global_admin: "boolean",
  enabled: "boolean",
  change_pw_next_login: "boolean",
  enable_imap: "boolean",
  enable_pop: "boolean",
  allow_spoofing: "boolean",
  forward_enabled: "boolean",
  forward_destination: "array",
  forward_keep: "boolean",
  reply_enabled: "boolean",
  reply_subject: "string",
  reply_body: "string",
  reply_startdate: "string",
  reply_enddate: "string",
  displayed_name: "string",
  spam_enabled: "boolean",
  spam_mark_as_read: "boolean",
  spam_threshold: "integer",
};

export const TOKEN_FIELDS: Fields = { email: "string", comment: "string", AuthorizedIP: "array" };

/** What is wrong with a payload, per field as Mailu words it; undefined if nothing is. */
export function fieldErrors(
  data: Record<string, unknown>,
  fields: Fields,
  required: string[],
): Record<string, string> | undefined {
  const errors: Record<string, string> = {};
  for (const name of required)
    if (data[name] === undefined) errors[name] = `'${name}' is a required property`;
  for (const [name, type] of Object.entries(fields)) {
    const value = data[name];
    if (value !== undefined && !isOf(type, value))
      errors[name] = `${JSON.stringify(value)} is not of type '${type}'`;
  }
  return Object.keys(errors).length === 0 ? undefined : errors;
}

/** The payload without the fields that nobody reads. */
export const known = (data: Record<string, unknown>, fields: Fields): Record<string, unknown> =>
  Object.fromEntries(Object.entries(data).filter(([name]) => name in fields));

function isOf(type: FieldType, value: unknown): boolean {
  if (type === "integer") return Number.isInteger(value);
  if (type === "array") return Array.isArray(value) && value.every((item) => typeof item === "string");
  return typeof value === type;
}
