// New passwords and tokens.
import { randomBytes } from "node:crypto";

/** 48 random bytes as 64 characters of base64: never 32 hex characters, which Mailu would take for an app token. */
export const newPassword = (): string => randomBytes(48).toString("base64");

/** A Mailu API token: 32 random bytes, URL-safe, since it stands in a header. */
export const newApiToken = (): string => randomBytes(32).toString("base64url");
