// Which certificate a mail host is believed by: one that a public CA vouches for, or exactly the one that we
// know (from Vault, or read from the host over ssh). Right after a rebuild, and before DNS moves, only the
// second can be had.
import { X509Certificate } from "node:crypto";
import { createSecureContext, type PeerCertificate, type SecureContext } from "node:tls";

/** What a client that connects by address needs in order to check the server. Passed to `tls.connect`. */
export interface TlsTrust {
  readonly servername: string;
  /** One for all connections: to make one takes as long as a handshake. */
  readonly secureContext: SecureContext;
  readonly checkServerIdentity: (host: string, peer: PeerCertificate) => Error | undefined;
}

/**
 * Trusts the known certificate whatever issued it, and otherwise only what the public roots and the name say (also the
 * roots that NODE_EXTRA_CA_CERTS adds).
 * @param name the mail host's name (`mail.acme.example`), sent as SNI.
 * @param known PEM chain whose first certificate is the host's; undefined: public roots alone.
 */
export function tlsTrust(name: string, known: string | undefined): TlsTrust {
  const leaf = known === undefined ? undefined : new X509Certificate(known);
  return {
    servername: name,
    secureContext: contextWith(leaf),
    checkServerIdentity: (_host, peer) => {
      if (leaf !== undefined && peer.fingerprint256 === leaf.fingerprint256) return undefined;
      return new X509Certificate(peer.raw).checkHost(name) === undefined
        ? new Error(`the certificate shown is for ${peer.subjectaltname ?? "another name"}, not for ${name}`)
        : undefined;
    },
  };
}

/** Node's own roots are parsed once in a process; passed in `ca` they would be parsed, and kept, for each connection. */
function contextWith(leaf: X509Certificate | undefined): SecureContext {
  // Lets a leaf that no root of ours signed end the chain: this is the pin.
  const made = createSecureContext({ allowPartialTrustChain: true });
  if (leaf !== undefined) (made.context as { addCACert(pem: string): void }).addCACert(leaf.toString());
  return made;
}

/** When the first certificate of a PEM chain ends, as an ISO time. */
export const notAfter = (certificate: string): string =>
  new Date(new X509Certificate(certificate).validTo).toISOString();
