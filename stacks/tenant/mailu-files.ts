// Mailu's files on the host, written over ssh. They hold no secret, so they may stand in Pulumi's state.
import { Command } from "@pulumi/command/remote/command.js";
import * as pulumi from "@pulumi/pulumi";
import type { MailuSettings } from "./compose.ts";
import { fileDigests, filesDigest, hostFiles, installScript } from "./install-script.ts";
import type { Vps } from "./vps.ts";

export interface MailuFilesArgs extends MailuSettings {
  vps: Vps;
  /** The pinned host key, one OpenSSH line. */
  hostKey: pulumi.Input<string>;
  sshUser: string;
}

export class MailuFiles extends pulumi.ComponentResource {
  /** SHA-256 of the files: another one means that the containers have to be brought up again. */
  readonly digest: string;
  /** SHA-256 (hex) of each file by its path on the host. */
  readonly digests: Record<string, string>;
  /** What must be done before anything on the host can use the files. */
  readonly written: pulumi.Resource;

  constructor(name: string, args: MailuFilesArgs, options?: pulumi.ComponentResourceOptions) {
    super("penguinmails:tenant:MailuFiles", name, {}, options);
    const files = hostFiles(args);
    this.digest = filesDigest(files);
    this.digests = fileDigests(files);
    this.written = new Command(
      "files",
      {
        // The agent of SSH_AUTH_SOCK authenticates: no key, no path of anybody's machine becomes an input.
        connection: { host: args.vps.address, user: args.sshUser, hostKey: args.hostKey },
        create: 'if [ "$(id -u)" = 0 ]; then exec sh -s; else exec sudo -n sh -s; fi',
        stdin: pulumi.output(args.vps.dataVolumeId).apply((volume) => installScript(files, volume)),
        triggers: [args.vps.vpsId, this.digest],
        logging: "stderr",
        addPreviousOutputInEnv: false,
      },
      { parent: this, dependsOn: args.vps.ready },
    );
    this.registerOutputs();
  }
}
