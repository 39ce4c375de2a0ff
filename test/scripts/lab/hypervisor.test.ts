import { mkdtempSync, rmSync } from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  AllocateAddressCommand,
  AssociateAddressCommand,
  AttachVolumeCommand,
  CreateVolumeCommand,
  DescribeAddressesCommand,
  DescribeInstancesCommand,
  EC2Client,
  RunInstancesCommand,
  TerminateInstancesCommand,
} from "@aws-sdk/client-ec2";
import { afterAll, beforeAll, expect, test } from "vitest";
import { run } from "../../../scripts/lab/children.ts";
import { AMI, awsClient } from "../../../scripts/lab/cloud.ts";
import { type Lab, startLab } from "../../../scripts/lab/lab.ts";

const scratch = mkdtempSync(join(tmpdir(), "hypervisor-test-"));
let lab: Lab;
let ec2: EC2Client;

beforeAll(async () => {
  lab = await startLab({ dir: join(scratch, "lab"), bare: true });
  ec2 = new EC2Client(awsClient(lab.place.awsEndpoint));
});
afterAll(async () => {
  ec2?.destroy();
  await lab?.stop();
  rmSync(scratch, { recursive: true, force: true });
});

test("an instance answers at its Elastic IP as soon as EC2 says that it has it, with its volume mounted", async () => {
  const machine = await instance();
  expect(machine.address.split(".").slice(0, 3)).toEqual(
    new URL(lab.place.vaultAddr).hostname.split(".").slice(0, 3),
  );
  expect(await answers(machine.address)).toBe(true);
  const volume = await attachedVolume(machine.id);
  expect(await onHost(machine.address, "echo kept > /mailu/mail && mountpoint /mailu")).toContain(
    "is a mountpoint",
  );

  const other = await instance();
  expect(other.address).not.toBe(machine.address);
  expect(await onHost(other.address, "mountpoint /mailu || true")).not.toContain("is a mountpoint");

  await ec2.send(new TerminateInstancesCommand({ InstanceIds: [machine.id] }));
  expect(await answers(machine.address)).toBe(false);
  const freed = await ec2.send(new DescribeAddressesCommand({ PublicIps: [machine.address] }));
  expect(freed.Addresses?.[0]?.InstanceId ?? "").toBe("");

  const heir = await instance(machine.allocation);
  expect(heir.address).toBe(machine.address);
  expect(await onHost(heir.address, "ls /mailu")).toBe("");
  await ec2.send(new AttachVolumeCommand({ InstanceId: heir.id, VolumeId: volume, Device: "/dev/sdf" }));
  expect(await onHost(heir.address, "cat /mailu/mail")).toBe("kept\n");
});

test("a dead one is still listed and stays dead; its data goes unless it is kept", async () => {
  const machine = await instance();
  const volume = await attachedVolume(machine.id);
  await onHost(machine.address, "echo lost > /mailu/mail");
  await lab.hosts.kill(machine.address, "dead", false);
  await lab.hosts.follow();
  expect(await answers(machine.address)).toBe(false);
  const listed = await ec2.send(new DescribeInstancesCommand({ InstanceIds: [machine.id] }));
  expect(listed.Reservations?.[0]?.Instances?.[0]?.State?.Name).toBe("running");

  await ec2.send(new TerminateInstancesCommand({ InstanceIds: [machine.id] }));
  const heir = await instance(machine.allocation);
  await ec2.send(new AttachVolumeCommand({ InstanceId: heir.id, VolumeId: volume, Device: "/dev/sdf" }));
  expect(await onHost(heir.address, "ls /mailu")).toBe("");
});

test("a hung one accepts connections and never answers, until it is woken", async () => {
  const { address } = await lab.hosts.bootExisting("sleeper");
  await lab.hosts.kill(address, "hung", true);
  expect(await connects(address)).toBe(true);
  expect(await answers(address, 500)).toBe(false);
  lab.hosts.wake(address);
  expect(await answers(address)).toBe(true);
});

test("a host that no cloud knows is installed again at its address, with an empty disk", async () => {
  const first = await lab.hosts.bootExisting("metal");
  await onHost(first.address, "touch /root/mine");
  await expect(lab.hosts.bootExisting("metal", first.address)).rejects.toThrow("kill it first");
  await lab.hosts.kill(first.address, "dead", false);
  const second = await lab.hosts.bootExisting("metal", first.address);
  expect(second.hostKey).not.toBe(first.hostKey);
  expect(await onHost(second.address, "ls /root")).toBe("");
});

/** Starts an instance and gives it an Elastic IP, a new one or the one allocated as `allocation`. */
async function instance(allocation?: string): Promise<{ id: string; address: string; allocation: string }> {
  const made = await ec2.send(new RunInstancesCommand({ ImageId: AMI, MinCount: 1, MaxCount: 1 }));
  const id = made.Instances?.[0]?.InstanceId ?? "";
  const eip =
    allocation ?? (await ec2.send(new AllocateAddressCommand({ Domain: "vpc" }))).AllocationId ?? "";
  await ec2.send(new AssociateAddressCommand({ InstanceId: id, AllocationId: eip }));
  const found = await ec2.send(new DescribeAddressesCommand({ AllocationIds: [eip] }));
  return { id, address: found.Addresses?.[0]?.PublicIp ?? "", allocation: eip };
}

async function attachedVolume(id: string): Promise<string> {
  const made = await ec2.send(new CreateVolumeCommand({ AvailabilityZone: "us-east-1a", Size: 1 }));
  const volume = made.VolumeId ?? "";
  await ec2.send(new AttachVolumeCommand({ InstanceId: id, VolumeId: volume, Device: "/dev/sdf" }));
  return volume;
}

async function onHost(address: string, command: string): Promise<string> {
  const options = [
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
  ];
  const done = await run("ssh", [...options, `root@${address}`, command], { env: lab.env, lab: lab.dir });
  expect(done).toMatchObject({ code: 0 });
  return done.stdout;
}

const connects = (address: string): Promise<boolean> => first(address, "connect", 2000);
/** Whether an ssh server greets there within `ms`. */
const answers = (address: string, ms = 2000): Promise<boolean> => first(address, "data", ms);

function first(address: string, event: "connect" | "data", ms: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: address, port: 22 });
    const done = (seen: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(seen);
    };
    const timer = setTimeout(() => done(false), ms);
    socket.once(event, () => done(true));
    socket.once("error", () => done(false));
    socket.once("end", () => done(false));
  });
}
