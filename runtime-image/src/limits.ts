/**
 * How much one client may ask of the server, and for how long it may keep it busy. Owns the numbers and the check of nesting;
 * those who read requests and write answers apply them.
 */

export interface Limits {
  /** Bytes of a request body. */
  readonly maxBodyBytes: number;
  /** Tokens of one answer; undefined: as many as the context holds. */
  readonly maxTokens: number | undefined;
  /** Seconds from a request to the end of its answer; undefined: as long as it takes. */
  readonly requestTimeoutSeconds: number | undefined;
  /** Seconds in which a request, headers and body, must have arrived. */
  readonly receiveTimeoutSeconds: number;
  /** Seconds without progress after which a client that does not read its answer is dropped. */
  readonly sendTimeoutSeconds: number;
  /** Connections on each port; more are closed as they come. */
  readonly maxConnections: number;
}

export const DEFAULT_LIMITS: Limits = {
  // A context of 128 Ki tokens is about half a megabyte of text.
  maxBodyBytes: 4 * 1024 * 1024,
  maxTokens: undefined,
  requestTimeoutSeconds: undefined,
  receiveTimeoutSeconds: 60,
  sendTimeoutSeconds: 60,
  maxConnections: 1024,
};

/** Levels of objects and arrays in a body: schemas and conversations need a few dozen, recursive code bears some thousand. */
const MAX_DEPTH = 200;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Whether a JSON text nests deeper than any honest request; looks at brackets alone, so it is cheap and cannot overflow. */
export function isTooDeep(json: string): boolean {
  let depth = 0;
  for (let at = 0; at < json.length; at++) {
    const code = json.charCodeAt(at);
    if (code === QUOTE) {
      // A backslash hides the character after it, quotes included.
      for (at++; at < json.length && json.charCodeAt(at) !== QUOTE; at++) if (json.charCodeAt(at) === BACKSLASH) at++;
    } else if (code === 0x7b || code === 0x5b) {
      if (++depth > MAX_DEPTH) return true;
    } else if (code === 0x7d || code === 0x5d) depth--;
  }
  return false;
}
