import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { atLeast, obtain } from "../../../scripts/toolchain/obtain.ts";
import type { Program } from "../../../scripts/toolchain/programs.ts";
import {
  program,
  type ReleaseServer,
  releaseServer,
  sumLine,
  tarGz,
  writePrograms,
} from "./release-server.ts";

const SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin";
/** Stands for the compiler: writes down how it was called and leaves a program where `-o` says. */
const FAKE_GO = `#!/bin/sh
env > "$GO_LOG"; echo "args=$*" >> "$GO_LOG"; pwd >> "$GO_LOG"
while [ "$1" != -o ]; do shift; done
printf '#!/bin/sh\\necho v3.259.0 built\\n' > "$2"; chmod +x "$2"
`;
const FAILING_GO = "#!/bin/sh\necho 'go: example.com/missing: no such module' >&2; exit 1\n";

let server: ReleaseServer;
let root: string;
let lock: number;
let wanted: Program;
beforeEach(async () => {
  server = await releaseServer();
  root = mkdtempSync(join(tmpdir(), "recovery-obtain-"));
  lock = openSync(join(root, "lock"), "w");
  mkdirSync(join(root, "module"));
  wanted = {
    name: "pulumi",
    version: "3.259.0",
    dir: join(root, "cache", "pulumi-3.259.0"),
    archive: `${server.url}/pulumi-v3.259.0-linux-x64.tar.gz`,
    checksums: `${server.url}/pulumi-3.259.0-checksums.txt`,
    build: {
      module: join(root, "module"),
      package: "example.com/pulumi",
      flags: ["-tags", "small"],
      takes: "long",
    },
    byHand: "install-pulumi --by-hand",
  };
  vi.stubEnv("PATH", `${join(root, "bin")}:${SYSTEM_PATH}`);
  vi.stubEnv("GO_LOG", join(root, "go.log"));
  vi.stubEnv("GOFLAGS", "-mod=vendor");
  // Its progress is none of the test report's business.
  vi.spyOn(process.stderr, "write").mockReturnValue(true);
});
afterEach(async () => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  await server[Symbol.asyncDispose]();
  rmSync(root, { recursive: true });
});

function publish(): void {
  const archive = tarGz({ pulumi: program("v3.259.0 released"), "pulumi-language-nodejs": program("host") });
  server.files.set("/pulumi-v3.259.0-linux-x64.tar.gz", archive);
  server.files.set("/pulumi-3.259.0-checksums.txt", sumLine(archive, "pulumi-v3.259.0-linux-x64.tar.gz"));
}

const onPath = (programs: Record<string, string>) => writePrograms(join(root, "bin"), programs);
const says = (executables: string[]) =>
  execFileSync(executables.find((file) => file.endsWith("/pulumi")) ?? "", { encoding: "utf8" }).trim();

test("a program on PATH that is new enough is taken with what lies beside it, and nothing is fetched", async () => {
  onPath({ pulumi: program("v3.260.1"), "pulumi-language-nodejs": program("host"), other: program("other") });
  const found = await obtain(wanted, lock);
  expect(found.sort()).toEqual([join(root, "bin", "pulumi"), join(root, "bin", "pulumi-language-nodejs")]);
  expect(server.requests).toEqual([]);
});

test.each(["v3.258.9", "v4.0.0", "garbage"])(
  "a program on PATH that says '%s' is passed over",
  async (version) => {
    onPath({ pulumi: program(version) });
    writePrograms(wanted.dir, { pulumi: program("v3.259.0 cached") });
    expect(says(await obtain(wanted, lock))).toBe("v3.259.0 cached");
  },
);

test("a newer one further back on PATH is found behind an older one", async () => {
  onPath({ pulumi: program("v3.1.0") });
  writePrograms(join(root, "later"), { pulumi: program("v3.300.0") });
  vi.stubEnv("PATH", `${join(root, "bin")}:${join(root, "later")}:${SYSTEM_PATH}`);
  expect(await obtain(wanted, lock)).toEqual([join(root, "later", "pulumi")]);
});

test("what the cache has is not fetched again", async () => {
  publish();
  expect(says(await obtain(wanted, lock))).toBe("v3.259.0 released");
  const asked = server.requests.length;
  expect(says(await obtain(wanted, lock))).toBe("v3.259.0 released");
  expect(server.requests.length).toBe(asked);
});

test("the release is preferred to a build, and its language host comes along", async () => {
  publish();
  onPath({ go: FAKE_GO });
  const found = await obtain(wanted, lock);
  expect(found.map((file) => file.slice(wanted.dir.length)).sort()).toEqual([
    "/pulumi",
    "/pulumi-language-nodejs",
  ]);
  expect(readdirSync(root)).not.toContain("go.log");
});

test("without a release it is built from the pinned modules, by the Go that is here", async () => {
  onPath({ go: FAKE_GO });
  expect(says(await obtain(wanted, lock))).toBe("v3.259.0 built");
  const log = readFileSync(join(root, "go.log"), "utf8").split("\n");
  expect(log).toEqual(
    expect.arrayContaining([
      "CGO_ENABLED=0",
      "GOTOOLCHAIN=local",
      "GOFLAGS=-mod=readonly -buildvcs=false",
      join(root, "module"),
    ]),
  );
  expect(log.find((line) => line.startsWith("args="))).toMatch(
    /^args=build -v -tags small -o .*\/pulumi example\.com\/pulumi$/,
  );
});

test("a forged release is not used: the program is built", async () => {
  publish();
  server.files.set("/pulumi-v3.259.0-linux-x64.tar.gz", tarGz({ pulumi: program("v3.259.0 forged") }));
  onPath({ go: FAKE_GO });
  expect(says(await obtain(wanted, lock))).toBe("v3.259.0 built");
});

test("when nothing works the error names the command that installs it, and nothing stays in the cache", async () => {
  onPath({ go: FAILING_GO });
  const failure = await obtain(wanted, lock).catch((error: Error) => error);
  expect(failure).toBeInstanceOf(Error);
  expect(String(failure)).toContain("pulumi 3.259.0 is needed and could not be had");
  expect(String(failure)).toContain("Install it: install-pulumi --by-hand");
  expect((failure as Error).cause).toEqual([
    expect.stringContaining("answered 404"),
    expect.stringContaining("no such module"),
  ]);
  expect(readdirSync(join(root, "cache"))).toEqual([]);
});

test("a cached program that no longer runs is made again", async () => {
  writePrograms(wanted.dir, { pulumi: program("v3.259.0").slice(0, 20) });
  onPath({ go: FAKE_GO });
  expect(says(await obtain(wanted, lock))).toBe("v3.259.0 built");
});

test("a release that turns out to be another version is not used", async () => {
  const archive = tarGz({ pulumi: program("v3.1.0") });
  server.files.set("/pulumi-v3.259.0-linux-x64.tar.gz", archive);
  server.files.set("/pulumi-3.259.0-checksums.txt", sumLine(archive, "pulumi-v3.259.0-linux-x64.tar.gz"));
  onPath({ go: FAKE_GO });
  expect(says(await obtain(wanted, lock))).toBe("v3.259.0 built");
});

test("a file that only looks like a partial result is never taken for the program", async () => {
  mkdirSync(`${wanted.dir}.partial`, { recursive: true });
  writeFileSync(join(`${wanted.dir}.partial`, "pulumi"), "half a program");
  onPath({ go: FAKE_GO });
  expect(says(await obtain(wanted, lock))).toBe("v3.259.0 built");
  expect(readdirSync(join(root, "cache"))).toEqual(["pulumi-3.259.0"]);
});

test.each([
  ["Vault v1.21.0, built 2026-01-01T00:00:00Z", "1.21.0", true],
  ["v3.259.0", "3.259.0", true],
  ["v3.259.1-dev", "3.259.0", true],
  ["v3.300.0", "3.259.4", true],
  ["v3.259.3", "3.259.4", false],
  ["v3.99.9", "3.259.0", false],
  ["v4.259.0", "3.259.0", false],
  ["", "3.259.0", false],
])("'%s' for a wanted %s: %s", (printed, version, expected) => {
  expect(atLeast(printed, version)).toBe(expected);
});
