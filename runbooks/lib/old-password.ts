// Whether the passwords that a rotation replaced are dead. The server is asked, since nothing else knows; the
// plaintext comes from the older version in Vault, as long as the key still opens it.
import type { Account } from "./account.ts";
import { messageOf } from "./errors.ts";
import { proveRefused } from "./prove.ts";
import { Admin, type OldProof, type Rotation } from "./records.ts";
import { fingerprint, type Vault } from "./vault.ts";

export interface Proof {
  readonly proof: OldProof;
  /** The server's words, or why it could not be asked. */
  readonly said: string;
}

/** The worst of what is found out about the versions that the rotation replaced. */
export async function proveOldDead(vault: Vault, account: Account, record: Rotation): Promise<Proof> {
  const versions = record.old_versions.length > 0 ? record.old_versions : [record.base_version];
  const proofs = await Promise.all(versions.map((version) => tryVersion(vault, account, record, version)));
  const worst = WORST_FIRST.find((proof) => proofs.some((one) => one.proof === proof));
  return (
    proofs.find(({ proof }) => proof === worst) ?? { proof: "unavailable", said: "there is no old version" }
  );
}

const WORST_FIRST = ["accepted", "inconclusive", "unavailable", "refused"] as const;

async function tryVersion(vault: Vault, account: Account, record: Rotation, version: number): Promise<Proof> {
  const { admin, tenant, decrypt, login } = account;
  const stored = admin.version === version ? admin : await vault.record(tenant, "admin", Admin, version);
  const ciphertext = stored?.data.password;
  // A restored Vault uses numbers again: the fingerprint says whether it is still the same version.
  const another = version === record.base_version && fingerprint(ciphertext ?? "") !== record.base_sha256;
  if (ciphertext === undefined || another)
    return { proof: "unavailable", said: `Vault no longer has version ${version}` };
  try {
    return await proveRefused({ ...login, password: await decrypt(ciphertext) });
  } catch (error) {
    return { proof: "unavailable", said: messageOf(error) };
  }
}
