// Words for a POSIX shell.

/** `text` as one word that no shell interprets. */
export const shellQuote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
