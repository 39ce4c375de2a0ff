// The MTA-STS policy (RFC 8461), which tells other servers to insist on TLS towards the tenant's host.
import { createHash } from "node:crypto";
import { mailHost } from "../names.ts";

export type MtaStsMode = "none" | "testing" | "enforce";

/** The policy text served at https://mta-sts.DOMAIN/.well-known/mta-sts.txt. `mode` isn't none. */
export function mtaStsPolicy(domain: string, mode: MtaStsMode): string {
  return `version: STSv1\nmode: ${mode}\nmx: ${mailHost(domain)}\nmax_age: 604800\n`;
}

/** Senders fetch the policy again when this changes: at most 32 letters and digits. */
export function mtaStsId(domain: string, mode: MtaStsMode): string {
  return createHash("sha256").update(mtaStsPolicy(domain, mode)).digest("hex").slice(0, 20);
}

/** For Mailu's front, which includes files of overrides/nginx. */
export function mtaStsNginx(domain: string, mode: MtaStsMode): string {
  const text = mtaStsPolicy(domain, mode).replaceAll("\n", "\\r\\n");
  return `location = /.well-known/mta-sts.txt {\n  default_type text/plain;\n  return 200 "${text}";\n}\n`;
}
