// The lab's stand-in for pulumi-command: scripts on this machine and, over ssh, on others.
import type { Provider } from "../protocol/resource.ts";
import { commandVersion } from "../versions.ts";
import { localCommand } from "./local.ts";
import { remoteCommand } from "./remote.ts";

export const command: Provider = {
  name: "command",
  version: commandVersion,
  resources: {
    "command:local:Command": localCommand,
    "command:remote:Command": remoteCommand,
  },
};
