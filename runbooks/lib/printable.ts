// Text by people and by servers, before it is shown or sent: what could forge a line, move a cursor or turn a text
// around on a screen is taken out of it.

/** On one line, for a subject, a header or a message of ours; blanks in a row become one. */
export const oneLine = (text: string): string => text.replace(FORGING, " ").replace(/\s+/g, " ").trim();

/** Keeps its lines and tabs. */
export const printable = (text: string): string =>
  text.replace(/\r\n?/g, "\n").replace(FORGING, (found) => (found === "\n" || found === "\t" ? found : " "));

const FORGING = /[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu;
