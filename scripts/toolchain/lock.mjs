// One set-up at a time. The kernel's own lock on a file (flock) is used and not a file with a process id in it:
// it ends with its holder, however that ends, so there is never a dead holder to be recognised. Plain JavaScript,
// because it's needed before the Node that strips types is there.
import { spawn } from "node:child_process";
import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from "node:fs";
import { dirname } from "node:path";

export async function withLock(file, onWait, work) {
  mkdirSync(dirname(file), { recursive: true });
  const descriptor = openSync(file, "a+");
  try {
    if (!(await flock(descriptor, "--nonblock"))) {
      onWait(holder(file));
      await flock(descriptor);
    }
    ftruncateSync(descriptor);
    writeSync(descriptor, `${process.pid}\n`);
    return await work(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Locks what the descriptor stands for; since the lock belongs to the open file, it outlives the `flock` command. */
function flock(descriptor, ...options) {
  return new Promise((resolve, reject) => {
    const child = spawn("flock", ["--exclusive", ...options, "3"], {
      stdio: ["ignore", "ignore", "inherit", descriptor],
    });
    child.on("error", (cause) =>
      reject(
        new Error("the command `flock` can't be run; install it: apt-get install util-linux", { cause }),
      ),
    );
    child.on("exit", (code) => {
      if (code === 0 || code === 1) resolve(code === 0);
      else reject(new Error(`flock ended with code ${code}`));
    });
  });
}

function holder(file) {
  const pid = Number(readFileSync(file, "utf8"));
  if (!Number.isInteger(pid) || pid < 1) return "another set-up";
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (error.code === "ESRCH") return `what another set-up (process ${pid}, ended) has left running`;
  }
  return `another set-up (process ${pid})`;
}
