// Vault's mounts and audit devices. The secrets in them belong to the runbooks: a stack that owned a rotated
// secret would bring the old password back at its next `up`.
import * as pulumi from "@pulumi/pulumi";
import { Audit } from "@pulumi/vault/audit.js";
import { SecretBackendV2 } from "@pulumi/vault/kv/secretBackendV2.js";
import { Mount } from "@pulumi/vault/mount.js";
import { KV_MOUNT, TRANSIT_MOUNT } from "../names.ts";

export interface AuditDevicesArgs {
  /** Absolute path, on the Vault server, of the second audit device's file. */
  auditFile: string;
}

/** Two, since a single file device on a full disk stops even reads. */
export class AuditDevices extends pulumi.ComponentResource {
  constructor(name: string, { auditFile }: AuditDevicesArgs, options?: pulumi.ComponentResourceOptions) {
    super("penguinmails:platform:AuditDevices", name, {}, options);
    const stdout = this.#device("stdout", { file_path: "stdout" });
    this.#device("file", { file_path: auditFile, mode: "0600" }, stdout);
    this.registerOutputs();
  }

  /** One after the other: the request that enables a device is itself audited by the one before. */
  #device(path: string, options: Record<string, string>, before?: Audit): Audit {
    return new Audit(
      `audit-${path}`,
      { type: "file", path, options },
      { parent: this, protect: true, ...(before === undefined ? {} : { dependsOn: before }) },
    );
  }
}

/** Versions kept of each record: enough to look through an incident with several rotations. */
const MAX_VERSIONS = 20;

export class Mounts extends pulumi.ComponentResource {
  constructor(name: string, options?: pulumi.ComponentResourceOptions) {
    super("penguinmails:platform:Mounts", name, {}, options);
    this.#createKvMount();
    this.#createTransitMount();
    this.registerOutputs();
  }

  #createKvMount(): void {
    const mount = new Mount(
      "kv",
      {
        path: KV_MOUNT,
        type: "kv",
        options: { version: "2" },
        description: "Tenants' mail credentials, encrypted",
      },
      { parent: this, protect: true },
    );
    new SecretBackendV2(
      "kv-config",
      { mount: mount.path, maxVersions: MAX_VERSIONS, casRequired: true },
      { parent: this, dependsOn: mount },
    );
  }

  #createTransitMount(): void {
    new Mount(
      "transit",
      { path: TRANSIT_MOUNT, type: "transit", description: "One key per tenant, for what lies in smtp" },
      { parent: this, protect: true },
    );
  }
}
