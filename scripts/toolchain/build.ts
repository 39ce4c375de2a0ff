// Builds a program from Go modules whose versions and sums are pinned in go/, for where no release can be had.
import { join } from "node:path";
import type { Program } from "./programs.ts";
import { runQuietly } from "./run.ts";

/**
 * Leaves the executable `program.name` in the directory `into`. Throws an Error with the compiler's last lines.
 * @param lock the set-up's lock, which the compiler inherits
 */
export async function goBuild(
  program: Pick<Program, "name" | "build">,
  into: string,
  say: (detail: string) => void,
  lock?: number,
): Promise<void> {
  const counted = { downloaded: 0, compiled: 0 };
  const { module, package: source, flags } = program.build;
  await runQuietly("go", ["build", "-v", ...flags, "-o", join(into, program.name), source], {
    cwd: module,
    lock,
    env: {
      ...process.env,
      CGO_ENABLED: "0",
      // Reproducible from what go.sum pins, by the Go that is here, whatever the user's settings say.
      GOFLAGS: "-mod=readonly -buildvcs=false",
      GOTOOLCHAIN: "local",
      GOWORK: "off",
      GOOS: "",
      GOARCH: "",
    },
    onLine: (line) => {
      if (line.startsWith("go: downloading")) counted.downloaded += 1;
      else counted.compiled += 1;
      say(`${counted.downloaded} modules downloaded, ${counted.compiled} packages compiled`);
    },
  });
}
