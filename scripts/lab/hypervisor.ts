// What stands between the lab's cloud and its hosts: whatever EC2 says runs is booted, whatever it says is gone is
// killed, and a volume's directory is mounted where EC2 says it is attached. EC2's own API is asked, so that stacks
// and runbooks drive hosts through nothing but AWS.

import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  DescribeAddressesCommand,
  DescribeVolumesCommand,
  EC2Client,
  paginateDescribeInstances,
  TerminateInstancesCommand,
} from "@aws-sdk/client-ec2";
import { awsClient } from "./cloud.ts";
import type { HostReport, WayToDie } from "./control.ts";
import { bootHost, type Host } from "./host/host.ts";
import { EXISTING } from "./subnet.ts";

/** EC2 says itself when it changes (moto-server.py); this is for what it doesn't say. */
const POLL_MS = 1000;

interface Machine {
  /** EC2 instance id, or the name of a host that no cloud knows. */
  id: string;
  /** Value of EC2's `Name` tag, or the same as `id`. */
  name: string;
  host: Host;
  /** The EC2 volume mounted at /mailu. */
  volume?: string | undefined;
}

export class Hypervisor {
  readonly #dir: string;
  readonly #prefix: string;
  readonly #authorizedKey: string;
  readonly #ec2: EC2Client;
  readonly #machines = new Map<string, Machine>();
  /** Instances that must stay dead though EC2 lists them. */
  readonly #dead = new Set<string>();
  readonly #log: (line: string) => void;
  #nextExisting = EXISTING.first;
  #booted = 0;
  #stopped = false;
  #round: Promise<void> = Promise.resolve();
  #complained = "";

  constructor(options: {
    dir: string;
    prefix: string;
    authorizedKey: string;
    endpoint: string;
    log: (line: string) => void;
  }) {
    this.#dir = options.dir;
    this.#prefix = options.prefix;
    this.#authorizedKey = options.authorizedKey;
    this.#log = options.log;
    this.#ec2 = new EC2Client(awsClient(options.endpoint));
  }

  /** Starts following EC2. */
  start(): void {
    void this.#keepFollowing();
  }

  /** Kills every host and stops following. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#round;
    await Promise.all([...this.#machines.values()].map((machine) => machine.host.kill()));
    this.#ec2.destroy();
  }

  /**
   * Boots a host that no cloud knows (`provider: existing`), with an empty disk. `at` is the address of one that
   * died and is now installed again; without, it gets one that was never used before.
   */
  async bootExisting(name: string, at?: string): Promise<HostReport> {
    if (at === undefined && this.#nextExisting > EXISTING.last) {
      throw new Error("The lab has no address left for another host");
    }
    if (at !== undefined && [...this.#machines.values()].some((one) => one.host.address === at)) {
      throw new Error(`A lab host is running at ${at}: kill it first`);
    }
    const address = at ?? `${this.#prefix}.${this.#nextExisting++}`;
    const id = `${name}-${++this.#booted}`;
    const host = await bootHost({
      name,
      dir: join(this.#dir, "hosts", id),
      address,
      authorizedKey: this.#authorizedKey,
    });
    const machine = { id, name, host };
    this.#machines.set(id, machine);
    return report(machine);
  }

  hosts(): HostReport[] {
    return [...this.#machines.values()].map(report);
  }

  /**
   * Lets the host at `address` die. Its data volume is emptied too unless `keepData`, as if a whole site were lost.
   * Resolves when its processes and disk are gone. Throws if no host is there.
   */
  async kill(address: string, how: WayToDie, keepData: boolean): Promise<void> {
    const machine = [...this.#machines.values()].find((one) => one.host.address === address);
    if (machine === undefined) throw new Error(`No lab host is running at ${address}`);
    if (how === "hung") return machine.host.hang();
    const isInstance = machine.id.startsWith("i-");
    this.#dead.add(machine.id);
    this.#machines.delete(machine.id);
    await machine.host.kill();
    if (machine.volume !== undefined && !keepData) await this.#emptyVolume(machine.volume);
    if (how === "terminated" && isInstance) {
      await this.#ec2.send(new TerminateInstancesCommand({ InstanceIds: [machine.id] }));
    }
  }

  /** Lets a hung host go on. */
  wake(address: string): void {
    for (const machine of this.#machines.values()) if (machine.host.address === address) machine.host.wake();
  }

  async #keepFollowing(): Promise<void> {
    while (!this.#stopped) {
      await this.follow();
      await sleep(POLL_MS, undefined, { ref: false });
    }
  }

  /** Brings the hosts to what EC2 says now; resolves when they are there. One round at a time. Never rejects. */
  follow(): Promise<void> {
    this.#round = this.#round.then(async () => {
      if (this.#stopped) return;
      try {
        await this.#followOnce();
        this.#complained = "";
      } catch (error) {
        const text = error instanceof Error ? error.message : String(error);
        if (text !== this.#complained && !this.#stopped) this.#log(`hypervisor: ${text}`);
        this.#complained = text;
      }
    });
    return this.#round;
  }

  async #followOnce(): Promise<void> {
    const wanted = await this.#wanted();
    const known = [...this.#machines.values()].filter((machine) => machine.id.startsWith("i-"));
    for (const machine of known) {
      if (wanted.get(machine.id)?.address === machine.host.address) continue;
      // EC2 terminated it, or took its address away, which cuts it off from all the world.
      this.#machines.delete(machine.id);
      this.#log(`hypervisor: ${machine.id} at ${machine.host.address} goes`);
      await machine.host.kill();
    }
    for (const machine of this.#machines.values()) {
      if (machine.volume === undefined || wanted.get(machine.id)?.volume === machine.volume) continue;
      await machine.host.detach();
      machine.volume = undefined;
    }
    await Promise.all([...wanted].map(([id, spec]) => this.#bring(id, spec)));
  }

  async #bring(id: string, spec: Wanted): Promise<void> {
    if (this.#dead.has(id) || this.#stopped) return;
    let machine = this.#machines.get(id);
    if (machine === undefined) {
      this.#log(`hypervisor: ${id} (${spec.name}) boots at ${spec.address}`);
      const host = await bootHost({
        name: spec.name,
        dir: join(this.#dir, "hosts", id),
        address: spec.address,
        authorizedKey: this.#authorizedKey,
      });
      machine = { id, name: spec.name, host };
      this.#machines.set(id, machine);
    }
    if (spec.volume !== undefined && machine.volume === undefined) {
      const directory = this.#volumeDir(spec.volume);
      await mkdir(directory, { recursive: true });
      await machine.host.attach(directory);
      machine.volume = spec.volume;
      this.#log(`hypervisor: ${spec.volume} is attached to ${id}`);
    }
  }

  /** What should run: EC2's running instances that have an Elastic IP, with their data volume. */
  async #wanted(): Promise<Map<string, Wanted>> {
    const wanted = new Map<string, Wanted>();
    const addresses = await this.#ec2.send(new DescribeAddressesCommand({}));
    if (!addresses.Addresses?.some((one) => one.InstanceId)) return wanted;
    const volumes = await this.#ec2.send(new DescribeVolumesCommand({}));
    for await (const page of paginateDescribeInstances(
      { client: this.#ec2 },
      { Filters: [{ Name: "instance-state-name", Values: ["running"] }] },
    )) {
      for (const instance of (page.Reservations ?? []).flatMap((one) => one.Instances ?? [])) {
        const id = instance.InstanceId;
        const address = addresses.Addresses?.find((one) => one.InstanceId === id)?.PublicIp;
        if (id === undefined || address === undefined) continue;
        const roots = new Set(
          (instance.BlockDeviceMappings ?? [])
            .filter((one) => one.DeviceName === instance.RootDeviceName)
            .map((one) => one.Ebs?.VolumeId),
        );
        const data = (volumes.Volumes ?? []).find(
          (volume) => !roots.has(volume.VolumeId) && volume.Attachments?.some((one) => one.InstanceId === id),
        );
        const name = instance.Tags?.find((tag) => tag.Key === "Name")?.Value ?? id;
        wanted.set(id, { name: hostName(name), address, volume: data?.VolumeId });
      }
    }
    return wanted;
  }

  #volumeDir(volume: string): string {
    return join(this.#dir, "volumes", volume);
  }

  async #emptyVolume(volume: string): Promise<void> {
    await rm(this.#volumeDir(volume), { recursive: true, force: true });
  }
}

interface Wanted {
  name: string;
  address: string;
  volume: string | undefined;
}

const hostName = (name: string): string =>
  name
    .toLowerCase()
    .replaceAll(/[^a-z0-9.-]/g, "-")
    .slice(0, 63);

const report = ({ id, name, host }: Machine): HostReport => ({
  id,
  name,
  address: host.address,
  pid: host.pid,
  alive: host.alive(),
  hostKey: host.hostKey,
});
