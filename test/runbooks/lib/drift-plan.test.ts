// What an engine's plan says of drift: of plans that no lab comes to, each told once.
import { describe, expect, test } from "vitest";
import { Plan, planFindings, Resource } from "../../../runbooks/lib/drift-plan.ts";

const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";
const SEALED = { "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", ciphertext: "abc" };
const root = { op: "same", urn: "urn:pulumi:s::p::pulumi:pulumi:Stack::p-s" };

const urn = (type: string, name: string) => `urn:pulumi:s::p::parent:x:X$${type}::${name}`;
const resource = (type: string, name: string, inputs: object, more: object = {}) =>
  Resource.parse({ urn: urn(type, name), type, inputs, ...more });

function findingsOf(recorded: Resource[], ...steps: object[]) {
  return planFindings("s", Plan.parse({ steps }), new Map(recorded.map((one) => [one.urn, one])));
}
const step = (op: string, newState: Resource | undefined, oldState?: Resource, detailedDiff?: object) => ({
  op,
  urn: (newState ?? oldState)?.urn,
  newState,
  oldState,
  detailedDiff,
});
const told = (findings: { check: string; kind: string; which: string }[]) =>
  findings.map(({ check, kind, which }) => `${check} ${kind} ${which}`);

const GROUP = "aws:ec2/securityGroup:SecurityGroup";
const POLICY = "vault:index/policy:Policy";

test("what only the look has changed, and the program doesn't set, is no drift", () => {
  const before = resource(GROUP, "g", { name: "a" }, { outputs: { ownerId: "1" } });
  const seen = resource(GROUP, "g", { name: "a" }, { outputs: { ownerId: "2" } });
  const look = step("update", seen, before, { ownerId: {} });
  expect(findingsOf([before], look, root)).toEqual([]);
});

test("declared as before and found otherwise is drift; declared otherwise was not applied", () => {
  const before = resource(GROUP, "g", { name: "a" });
  const found = resource(GROUP, "g", { name: "b" });
  const drift = findingsOf([before], root, step("update", before, found, { name: {} }));
  expect(told(drift)).toEqual(["infra resource-differs SecurityGroup g"]);
  expect(drift[0]).toMatchObject({ declared: "name: a", found: "name: b", mend: "pulumi up --stack s" });
  const wanted = resource(GROUP, "g", { name: "c" });
  expect(told(findingsOf([before], root, step("update", wanted, before, { name: {} })))).toEqual([
    "infra not-applied ",
  ]);
});

test("all that was not applied is one finding of each check; what the program dropped is part of it", () => {
  const old = resource(GROUP, "old", { name: "a" });
  const findings = findingsOf(
    [old],
    root,
    step("create", resource(GROUP, "new", { name: "b" })),
    step("create", resource(POLICY, "p", { policy: "x" })),
    step("delete", undefined, old),
  );
  expect(told(findings)).toEqual(["infra not-applied ", "vault not-applied "]);
  expect(findings[0]?.what).toContain("create SecurityGroup new, delete SecurityGroup old");
});

test("of a thing that is gone, what hangs on it is not told", () => {
  const bucket = resource("aws:s3/bucket:Bucket", "b", { bucket: "b" });
  const child = resource("aws:s3/bucketPolicy:BucketPolicy", "b", { policy: "{}" }, { parent: bucket.urn });
  const attached = resource("aws:ec2/eip:Eip", "e", { instance: UNKNOWN }, { dependencies: [bucket.urn] });
  const was = resource("aws:ec2/eip:Eip", "e", { instance: "i-1" });
  const findings = findingsOf(
    [bucket, child, was],
    root,
    step("create", bucket),
    step("create", child),
    step("update", attached, was, { instance: {} }),
  );
  expect(told(findings)).toEqual(["infra resource-gone Bucket b"]);
});

test("a thing of which nothing says why it changes is told all the same", () => {
  const was = resource("aws:ec2/eip:Eip", "e", { instance: "i-1" });
  const now = resource("aws:ec2/eip:Eip", "e", { instance: UNKNOWN });
  expect(told(findingsOf([was], root, step("update", now, was, { instance: {} })))).toEqual([
    "infra resource-differs Eip e",
  ]);
});

describe("values", () => {
  test("a secret shows as [secret], sealed in the state or masked in the plan, and is no change", () => {
    const before = resource(POLICY, "p", { policy: "a", key: SEALED });
    const found = resource(POLICY, "p", { policy: "b", key: "[secret]" });
    const declared = resource(POLICY, "p", { policy: "a", key: "[secret]" });
    const [finding] = findingsOf([before], root, step("update", declared, found, { policy: {}, key: {} }));
    expect(finding).toMatchObject({ check: "vault", declared: "policy: a", found: "policy: b" });
    const sealed = step("update", declared, resource(POLICY, "p", { policy: "b", key: SEALED }), {
      policy: {},
      key: {},
    });
    const findings = findingsOf([before], root, sealed);
    expect(told(findings)).toEqual(["vault resource-differs Policy p"]);
    expect(findings[0]?.found).toBe("policy: b");
  });

  test("a document whose keys stand in another order is the same; of long texts only the lines that differ show", () => {
    const before = resource(POLICY, "p", { policy: '{"a":1,"b":2}' });
    const found = resource(POLICY, "p", { policy: '{"b":2,"a":1}' });
    expect(findingsOf([before], root, step("update", before, found, { policy: {} }))).toEqual([]);
    const text = (last: string) => resource(POLICY, "t", { policy: `one\ntwo\n${last}` });
    const [finding] = findingsOf([text("a")], root, step("update", text("a"), text("b"), { policy: {} }));
    expect([finding?.declared, finding?.found]).toEqual(["policy: a", "policy: b"]);
  });
});

test("a record of Route 53 has the name and type by which DNS knows it", () => {
  const at = (value: string) =>
    resource("aws:route53/record:Record", "A-mail.acme.example", {
      name: "mail.acme.example",
      type: "A",
      records: [value],
    });
  const drift = step("update", at("192.0.2.1"), at("192.0.2.66"), { "records[0]": {} });
  expect(told(findingsOf([at("192.0.2.1")], root, drift))).toEqual([
    "infra resource-differs mail.acme.example A",
  ]);
});
