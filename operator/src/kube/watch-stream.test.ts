import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseWatch, TruncatedStreamError } from './watch-stream.ts';

async function* chunks(bytes: Uint8Array, cuts: readonly number[]): AsyncGenerator<Uint8Array> {
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((left, right) => left - right);
  let start = 0;
  for (const end of [...places, bytes.length]) {
    yield bytes.subarray(start, end);
    start = end;
  }
}

async function collect(bytes: Uint8Array, cuts: readonly number[] = []): Promise<unknown[]> {
  const events: unknown[] = [];
  for await (const event of parseWatch(chunks(bytes, cuts))) events.push(event);
  return events;
}

describe('watch stream', () => {
  it('gives the same events wherever the network cuts the bytes, inside characters too', async () => {
    const event = fc.record({ type: fc.constantFrom('ADDED', 'DELETED'), object: fc.jsonValue() });
    await fc.assert(
      fc.asyncProperty(fc.array(event), fc.array(fc.nat()), async (events, cuts) => {
        const sent = events.map((one) => JSON.parse(JSON.stringify(one)) as unknown);
        const bytes = Buffer.from(sent.map((one) => `${JSON.stringify(one)}\n`).join(''));
        expect(await collect(bytes, cuts)).toEqual(sent);
      }),
    );
  });

  it('takes a last event without a newline, and refuses half of one', async () => {
    expect(await collect(Buffer.from('{"type":"ADDED","object":1}'))).toEqual([{ type: 'ADDED', object: 1 }]);
    await expect(collect(Buffer.from('{"type":"ADDED","object":{}}\n{"type":"MODI'))).rejects.toThrow(
      TruncatedStreamError,
    );
  });

  it('refuses a line that is no JSON', async () => {
    await expect(collect(Buffer.from('<html>\n'))).rejects.toThrow(SyntaxError);
  });
});
