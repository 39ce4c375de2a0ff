// Who is logged in over IMAP and SMTP right now: what doveadm on a mail host lists and ends.

/** A connection after its login; it lives on whatever becomes of the password. */
export interface Connection {
  /** The user's address in lower case. */
  readonly user: string;
  readonly protocol: "imap" | "submission";
  /** The client's address. */
  readonly ip: string;
  /** Cuts the connection. */
  end(): void;
}

export class Connections {
  readonly #open = new Set<Connection>();

  /** Notes a connection that has logged in; call what is returned once it has ended. */
  add(connection: Connection): () => void {
    this.#open.add(connection);
    return () => void this.#open.delete(connection);
  }

  /** Those that `wanted` picks, in the order of their logins. */
  open(wanted: (connection: Connection) => boolean = () => true): Connection[] {
    return [...this.#open].filter(wanted);
  }

  /** Ends those that `wanted` picks, and returns them. They are gone from the list at once. */
  end(wanted: (connection: Connection) => boolean): Connection[] {
    const ended = this.open(wanted);
    for (const connection of ended) {
      this.#open.delete(connection);
      connection.end();
    }
    return ended;
  }
}
