/**
 * Splits the body of a watch into events. Owns framing only: an event is delivered whole or not at all.
 */

/** One line of a watch as it came. */
export interface RawWatchEvent {
  readonly type: string;
  readonly object: unknown;
}

/** The stream ended inside an event: the connection was cut, whatever the transport thinks. */
export class TruncatedStreamError extends Error {
  override readonly name: string = 'TruncatedStreamError';
}

const NEWLINE = 0x0a;

/**
 * Parses newline-delimited JSON. Throws `TruncatedStreamError` when the last line is incomplete, `SyntaxError` when a
 * whole line is no JSON.
 */
export async function* parseWatch(body: AsyncIterable<Uint8Array>): AsyncGenerator<RawWatchEvent, void, undefined> {
  let pending: Uint8Array[] = [];
  for await (const chunk of body) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE, start); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      pending.push(chunk.subarray(start, end));
      start = end + 1;
      const line = takeText(pending);
      pending = [];
      if (line.trim() !== '') yield JSON.parse(line) as RawWatchEvent;
    }
    if (start < chunk.length) pending.push(chunk.subarray(start));
  }
  const rest = takeText(pending).trim();
  if (rest === '') return;
  let event: RawWatchEvent;
  try {
    event = JSON.parse(rest) as RawWatchEvent;
  } catch {
    throw new TruncatedStreamError(`the watch ended in the middle of an event (${rest.length} characters of it came)`);
  }
  yield event;
}

function takeText(parts: readonly Uint8Array[]): string {
  const [only] = parts;
  if (only === undefined) return '';
  const bytes = parts.length === 1 ? only : Buffer.concat(parts);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}
