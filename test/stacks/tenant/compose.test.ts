// Mailu's two files: complete, the same at every run, and without a secret.
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { composeFile, mailuEnv } from "../../../stacks/tenant/compose.ts";

const SETTINGS = {
  domain: "acme.example",
  exemptNetworks: ["198.51.100.0/24", "203.0.113.7/32"],
  submission: false,
  mtaSts: "testing" as const,
};
const env = (settings = SETTINGS): Record<string, string> =>
  Object.fromEntries(
    mailuEnv(settings)
      .trim()
      .split("\n")
      .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
  );
interface Service {
  image: string;
  env_file?: string;
  secrets?: string[];
  ports?: string[];
  volumes?: string[];
  environment?: Record<string, string>;
  dns?: string[];
}
const compose = parse(composeFile(SETTINGS)) as {
  services: Record<string, Service>;
  secrets: Record<string, { file: string }>;
};

describe("mailu.env", () => {
  it("names the tenant, the mail host first, and the networks that no guesser can block", () => {
    expect(env()).toMatchObject({
      DOMAIN: "acme.example",
      HOSTNAMES: "mail.acme.example,autoconfig.acme.example,autodiscover.acme.example,mta-sts.acme.example",
      TLS_FLAVOR: "cert",
      API: "true",
      WEB_API: "/api",
      AUTH_RATELIMIT_EXEMPTION: "198.51.100.0/24,203.0.113.7/32",
      PORTS: "25,80,443,465,993",
    });
  });

  it("has no initial admin, whose password would come back at every start, and no secret", () => {
    for (const [key, value] of Object.entries(env())) {
      expect(key).not.toMatch(/^INITIAL_ADMIN|PASSWORD|^SECRET_KEY$|^API_TOKEN$/);
      if (key.endsWith("_FILE")) expect(value).toMatch(/^\/run\/secrets\//);
    }
  });

  it("takes one line for each key", () => {
    const keys = mailuEnv(SETTINGS)
      .trim()
      .split("\n")
      .map((line) => line.split("=")[0]);
    expect(new Set(keys).size).toBe(keys.length);
  });
});

describe("docker-compose.yml", () => {
  it("runs Mailu's services in one pinned version", () => {
    expect(Object.keys(compose.services).sort()).toEqual(
      ["admin", "antispam", "front", "imap", "redis", "resolver", "smtp", "webmail"].sort(),
    );
    for (const [name, { image }] of Object.entries(compose.services)) {
      expect(image).toMatch(name === "redis" ? /^redis:7/ : /^ghcr\.io\/mailu\/[a-z]+:2024\.06$/);
    }
  });

  it("gives the API token to the admin container alone, from a file of the recovery", () => {
    expect(compose.secrets).toEqual({
      secret_key: { file: "/opt/mailu/secrets/secret_key" },
      api_token: { file: "/opt/mailu/secrets/api_token" },
    });
    const holders = Object.entries(compose.services).filter(([, service]) =>
      service.secrets?.includes("api_token"),
    );
    expect(holders.map(([name]) => name)).toEqual(["admin"]);
    expect(compose.services.admin?.environment).toEqual({ API_TOKEN_FILE: "/run/secrets/api_token" });
  });

  it("publishes the mail ports at the front and nothing elsewhere", () => {
    const published = Object.entries(compose.services).flatMap(([name, { ports }]) =>
      (ports ?? []).map((p) => [name, p]),
    );
    expect(published).toEqual(
      ["25:25", "80:80", "443:443", "465:465", "993:993"].map((port) => ["front", port]),
    );
  });

  it("keeps all data on the data volume", () => {
    for (const { volumes } of Object.values(compose.services)) {
      for (const volume of volumes ?? []) expect(volume).toMatch(/^\/mailu\/[a-z/]+:\/[a-z/]+(:ro)?$/);
    }
    expect(compose.services.admin?.volumes).toContain("/mailu/dkim:/dkim");
    expect(compose.services.front?.volumes).toContain("/mailu/certs:/certs");
  });

  it("has the admin container ask Mailu's own validating resolver", () => {
    expect(compose.services.admin?.dns).toEqual(["192.168.203.254"]);
  });

  it("is the same text at every run", () => {
    expect(composeFile({ ...SETTINGS })).toBe(composeFile(SETTINGS));
  });
});
