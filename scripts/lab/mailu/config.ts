// What the mail stand-in is told when it starts: by the lab host's docker, out of the compose file and the
// environment as they were when the containers were created.
import { readFileSync } from "node:fs";

export interface MailuConfig {
  /** The host's address; every port is opened on it alone. */
  address: string;
  /** The admin container's environment. */
  env: Record<string, string>;
  /** Ports that the front service publishes. */
  ports: number[];
  /** Where the containers' directories lie on the host. */
  paths: {
    data: string;
    dkim: string;
    mail: string;
    queue: string;
    redis: string;
    certs: string;
    nginx: string;
  };
  /** Files named by `<KEY>_FILE` variables: the key, and the file's path on the host. */
  secretFiles: Record<string, string>;
  /** Written once every port is open: `{pid, ports}`. */
  readyFile: string;
  /** Unix socket at which the containers' own programs (doveadm, flask) are answered. */
  execSocket: string;
  /** Lines of `time address method path status`; never a body, never a header. */
  accessLog: string;
}

/** A setting of Mailu's, from its environment or the file that `<KEY>_FILE` names (read now, never again). */
export type Settings = (key: string, fallback?: string) => string;

/**
 * Reads every `<KEY>_FILE` at once, as Mailu's admin does when its process starts; throws when one can't be
 * read, which keeps Mailu's admin container from starting too.
 */
export function readSettings(config: MailuConfig): Settings {
  const values: Record<string, string> = { ...config.env };
  for (const [key, path] of Object.entries(config.secretFiles))
    values[key] = readFileSync(path, "utf8").trim();
  return (key, fallback = "") => values[key] ?? fallback;
}
