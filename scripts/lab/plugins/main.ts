// One of the lab's Pulumi plugins: `main.ts NAME ENGINE_ADDRESS`, started by the launchers of install.ts.
import { enableCompileCache } from "node:module";

// Before anything else is loaded: Pulumi starts every plugin anew for every command.
enableCompileCache();

const [name] = process.argv.splice(2, 1);
switch (name) {
  case "nodejs":
    await import("./language-nodejs.ts");
    break;
  case "aws":
    (await import("./protocol/serve.ts")).serve((await import("./aws/provider.ts")).aws);
    break;
  case "command":
    (await import("./protocol/serve.ts")).serve((await import("./command/provider.ts")).command);
    break;
  case "vault":
    (await import("./protocol/serve.ts")).serve((await import("./vault/provider.ts")).vault);
    break;
  default:
    throw new Error(`there is no plugin '${name}': it is one of nodejs, aws, command, vault`);
}
