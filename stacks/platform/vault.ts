// Vault's mounts and audit devices. The secrets in them belong to the runbooks: a stack that owned a rotated
// secret would bring the old password back at its next `up`.
import * as pulumi from "@pulumi/pulumi";
import { Audit } from "@pulumi/vault/audit.js";
import { SecretBackendV2 } from "@pulumi/vault/kv/secretBackendV2.js";
import { Mount } from "@pulumi/vault/mount.js";
import { KV_MOUNT, TRANSIT_MOUNT } from "../names.ts";

export interface VaultServerArgs {
  /** Absolute path, on the Vault server, of the second audit device's file. */
  auditFile: string;
}

/** Versions kept of each record: enough to look through an incident with several rotations. */
const MAX_VERSIONS = 20;

export class VaultServer extends pulumi.ComponentResource {
  constructor(name: string, args: VaultServerArgs, options?: pulumi.ComponentResourceOptions) {
    super("penguinmails:platform:Vault", name, {}, options);
    const devices = this.#createAuditDevices(args.auditFile);
    this.#createKvMount(devices);
    this.#createTransitMount(devices);
    this.registerOutputs();
  }

  /** Two, since a single file device on a full disk stops even reads. */
  #createAuditDevices(file: string): Audit[] {
    const device = (path: string, filePath: string) =>
      new Audit(
        `audit-${path}`,
        // 0600 is Vault's default, but stdout can't be given a mode.
        {
          type: "file",
          path,
          options: { file_path: filePath, ...(filePath === "stdout" ? {} : { mode: "0600" }) },
        },
        { parent: this, protect: true },
      );
    return [device("stdout", "stdout"), device("file", file)];
  }

  #createKvMount(dependsOn: pulumi.Resource[]): void {
    const mount = new Mount(
      "kv",
      {
        path: KV_MOUNT,
        type: "kv",
        options: { version: "2" },
        description: "Tenants' mail credentials, encrypted",
      },
      { parent: this, protect: true, dependsOn },
    );
    new SecretBackendV2(
      "kv-config",
      { mount: mount.path, maxVersions: MAX_VERSIONS, casRequired: true },
      { parent: this, dependsOn: mount },
    );
  }

  #createTransitMount(dependsOn: pulumi.Resource[]): void {
    new Mount(
      "transit",
      { path: TRANSIT_MOUNT, type: "transit", description: "One key per tenant, for what lies in smtp" },
      { parent: this, protect: true, dependsOn },
    );
  }
}
