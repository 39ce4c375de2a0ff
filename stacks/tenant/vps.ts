// The tenant's host: an EC2 instance whose address and data outlive it, or a host that the operator has already.
import { Volume } from "@pulumi/aws/ebs/volume.js";
import { Eip } from "@pulumi/aws/ec2/eip.js";
import { EipAssociation } from "@pulumi/aws/ec2/eipAssociation.js";
import { Instance } from "@pulumi/aws/ec2/instance.js";
import { VolumeAttachment } from "@pulumi/aws/ec2/volumeAttachment.js";
import { Command } from "@pulumi/command/local/command.js";
import * as pulumi from "@pulumi/pulumi";
import type { TenantId, VpsProvider } from "../names.ts";
import type { Ec2Config, ExistingConfig } from "./config.ts";
import { createFirewall } from "./firewall.ts";
import { userData } from "./user-data.ts";

export interface VpsArgs {
  tenant: TenantId;
  provider: VpsProvider;
  ec2?: Ec2Config | undefined;
  existing?: ExistingConfig | undefined;
  /** Networks in CIDR notation from which ssh is let in. */
  sshFrom: readonly string[];
  /** Also open port 587. */
  submission: boolean;
}

export class Vps extends pulumi.ComponentResource {
  /** IPv4 address. */
  readonly address: pulumi.Output<string>;
  /** Identity of the machine: another one means that everything on it has to be built again. */
  readonly vpsId: pulumi.Output<string>;
  /** Id of the volume that holds Mailu's data, where it has one of its own. */
  readonly dataVolumeId: pulumi.Output<string> | undefined;
  /** What must exist before the host is reached at its address, with its data. */
  readonly ready: pulumi.Resource[];

  constructor(name: string, args: VpsArgs, options?: pulumi.ComponentResourceOptions) {
    super("penguinmails:tenant:Vps", name, {}, options);
    const host =
      args.ec2 !== undefined && args.provider === "ec2" ? this.#ec2(args, args.ec2) : this.#existing(args);
    this.address = host.address;
    this.vpsId = host.vpsId;
    this.dataVolumeId = host.dataVolumeId;
    this.ready = host.ready;
    this.registerOutputs();
  }

  #ec2(args: VpsArgs, ec2: Ec2Config) {
    const tags = { Name: `penguinmails-${args.tenant}`, tenant: args.tenant };
    const address = new Eip("address", { domain: "vpc", tags }, { parent: this, protect: true });
    const data = new Volume(
      "data",
      {
        availabilityZone: ec2.availabilityZone,
        size: ec2.dataVolumeGib,
        type: "gp3",
        encrypted: true,
        tags,
      },
      { parent: this, protect: true },
    );
    const firewall = createFirewall(this, { ...args, vpcId: ec2.vpcId, tags });
    const instance = new Instance(
      "vps",
      {
        ami: ec2.ami,
        instanceType: ec2.instanceType,
        availabilityZone: ec2.availabilityZone,
        ...(ec2.subnetId === undefined ? {} : { subnetId: ec2.subnetId }),
        vpcSecurityGroupIds: [firewall.id],
        userData: userData(ec2.sshPublicKeys),
        // Tokens only: a hole in webmail must not hand out the instance's own credentials.
        metadataOptions: { httpEndpoint: "enabled", httpTokens: "required" },
        rootBlockDevice: { encrypted: true, volumeType: "gp3" },
        tags,
      },
      {
        parent: this,
        // Address and volume can be on one machine only.
        deleteBeforeReplace: true,
        // Read at first boot only; a new key there must not stop a running mail server.
        ignoreChanges: ["userData"],
      },
    );
    const association = new EipAssociation(
      "address",
      { allocationId: address.id, instanceId: instance.id },
      { parent: this, deleteBeforeReplace: true },
    );
    const attachment = new VolumeAttachment(
      "data",
      // A hung instance never lets go by itself.
      { deviceName: "/dev/sdf", volumeId: data.id, instanceId: instance.id, forceDetach: true },
      { parent: this, deleteBeforeReplace: true },
    );
    return {
      address: address.publicIp,
      vpsId: instance.id as pulumi.Output<string>,
      dataVolumeId: data.id as pulumi.Output<string>,
      ready: [association, attachment],
    };
  }

  /** No machine is made here, so a random word stands for the machine that is there now. */
  #existing({ existing }: VpsArgs) {
    if (existing === undefined)
      throw new pulumi.RunError("existing: is missing. Next: pulumi config set --path existing.address …");
    const identity = new Command(
      "vps",
      {
        create: "printf existing-; od -An -N8 -tx1 /dev/urandom | tr -d ' \\n'",
        triggers: [existing.address, existing.generation],
        logging: "none",
        addPreviousOutputInEnv: false,
      },
      { parent: this },
    );
    return {
      address: pulumi.output(existing.address),
      vpsId: identity.stdout,
      dataVolumeId: undefined,
      ready: [identity],
    };
  }
}
