// Has the recovery runbook bring credentials, DKIM key and certificate from Vault to the host. It is run as a
// process: what it reads never passes through Pulumi, which learns only what is public in DNS anyway.
import { Command } from "@pulumi/command/local/command.js";
import * as pulumi from "@pulumi/pulumi";
import { z } from "zod";
import type { TenantId } from "../names.ts";
import type { MailuFiles } from "./mailu-files.ts";
import { shellQuote } from "./shell.ts";
import type { Vps } from "./vps.ts";

export interface CredentialsArgs {
  tenant: TenantId;
  domain: string;
  contactEmail: string;
  vps: Vps;
  /** The pinned host key, one OpenSSH line. */
  hostKey: pulumi.Input<string>;
  /** Mailu's files: they come first, and the recovery runs again when they change. */
  files: MailuFiles;
}

export class Credentials extends pulumi.ComponentResource {
  /** The DKIM record's text, `v=DKIM1; k=rsa; p=…`. */
  readonly dkim: pulumi.Output<string>;
  /** The recovery, which ends well only after a login with the credential. */
  readonly verified: pulumi.Resource;

  constructor(name: string, args: CredentialsArgs, options?: pulumi.ComponentResourceOptions) {
    super("penguinmails:tenant:Credentials", name, {}, options);
    const recovery = new Command(
      "credentials",
      {
        create: pulumi
          .all([args.vps.address, args.hostKey])
          .apply(([address, hostKey]) => recoveryCommand({ ...args, address, hostKey })),
        triggers: [args.vps.vpsId, args.files.digest],
        // Progress is on stderr; stdout is for the next resource.
        logging: "stderr",
        addPreviousOutputInEnv: false,
      },
      { parent: this, dependsOn: args.files.written },
    );
    this.verified = recovery;
    this.dkim = recovery.stdout.apply(dkimText);
    this.registerOutputs();
  }
}

export interface RecoveryArgs {
  tenant: TenantId;
  domain: string;
  contactEmail: string;
  address: string;
  hostKey: string;
}

/**
 * Commands run in the folder of Pulumi's program (stacks/). The project's own Node comes first on the path, since
 * the machine's may be one that doesn't run TypeScript. No path of this machine is named: a colleague's checkout
 * would else look like a change.
 */
export function recoveryCommand(args: RecoveryArgs): string {
  const flags = {
    tenant: args.tenant,
    domain: args.domain,
    "contact-email": args.contactEmail,
    address: args.address,
    "host-key": args.hostKey,
  };
  const words = Object.entries(flags).map(([flag, value]) => `--${flag} ${shellQuote(value)}`);
  return `PATH="$(pwd)/../node_modules/.bin:$PATH" exec node ../runbooks/main.ts recover-credentials ${words.join(" ")} --yes --json`;
}

const Recovered = z.object({ dkim_txt: z.string().startsWith("v=DKIM1;") });

/** The DKIM text in the runbook's JSON answer. Throws when it isn't there. */
export function dkimText(stdout: string): string {
  try {
    return Recovered.parse(JSON.parse(stdout)).dkim_txt;
  } catch (cause) {
    throw new pulumi.RunError(
      `recover-credentials ended well but printed no dkim_txt, so DNS is left as it was (${String(cause)}). ` +
        "Next: npx runbook recover-credentials --help",
    );
  }
}
