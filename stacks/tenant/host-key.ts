// Waits until the host answers over ssh and pins the key it shows. Runs once for each machine: a key that changes
// later, on the same machine, is then refused by everything that connects.
import { Command } from "@pulumi/command/local/command.js";
import * as pulumi from "@pulumi/pulumi";
import { shellQuote } from "./shell.ts";
import type { Vps } from "./vps.ts";

export interface HostKeyArgs {
  vps: Vps;
  /** The key that the host must show, where it's known beforehand. */
  expected: string | undefined;
}

/** A cloud machine takes a minute or two until sshd answers. */
const WAIT_S = 300;

export class HostKey extends pulumi.ComponentResource {
  /** One OpenSSH public key line, `ssh-ed25519 AAAA…`. */
  readonly line: pulumi.Output<string>;

  constructor(name: string, { vps, expected }: HostKeyArgs, options?: pulumi.ComponentResourceOptions) {
    super("penguinmails:tenant:HostKey", name, {}, options);
    const scan = new Command(
      "host-key",
      {
        create: vps.address.apply((address) => scanScript(address, expected)),
        triggers: [vps.vpsId],
        logging: "stderr",
        addPreviousOutputInEnv: false,
      },
      // Said here: children don't inherit what their component depends on.
      { parent: this, dependsOn: vps.ready },
    );
    this.line = scan.stdout;
    this.registerOutputs();
  }
}

/** Prints the key and nothing else; stderr and a status other than 0 say why there is none. */
export function scanScript(address: string, expected: string | undefined): string {
  return `address=${shellQuote(address)} expected=${shellQuote(expected ?? "")}
deadline=$(($(date +%s) + ${WAIT_S}))
while :; do
  key=$(ssh-keyscan -T 5 -t ed25519 -- "$address" 2>/dev/null | cut -d ' ' -f 2-3 | head -n 1)
  [ -z "$key" ] || break
  if [ "$(date +%s)" -ge "$deadline" ]; then
    echo "The host at $address showed no ed25519 key over ssh within ${WAIT_S} s. Is it running, and is port 22 open from here (sshFrom)? Next: look at its console, then pulumi up again." >&2
    exit 1
  fi
  sleep 1
done
if [ -n "$expected" ] && [ "$key" != "$expected" ]; then
  echo "The host at $address shows another key than existing.hostKey says: refused. If the machine was replaced, put its new key there; else somebody may be answering in its place." >&2
  exit 1
fi
printf %s "$key"`;
}
