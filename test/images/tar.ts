/**
 * Owns the bytes of a tar stream: sorted names, no time, no owner, so that equal entries give equal bytes on any machine.
 * Never reads more than one chunk of a file at a time.
 */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { complete, type Entry, modeOf } from './entries.ts';

const BLOCK = 512;

/** The tar stream of the entries, parent folders included. */
export async function* tarStream(entries: readonly Entry[]): AsyncGenerator<Buffer> {
  for (const entry of complete(entries)) {
    const { content } = entry;
    if ('folder' in content) {
      yield tarHeader({ path: `${entry.path}/`, type: '5', mode: modeOf(entry), size: 0 });
    } else if ('linkTo' in content) {
      yield tarHeader({ path: entry.path, type: '2', mode: modeOf(entry), size: 0, linkTo: content.linkTo });
    } else if ('text' in content) {
      yield* tarFile(entry.path, Buffer.from(content.text), modeOf(entry));
    } else {
      const { size } = await stat(content.file);
      yield tarHeader({ path: entry.path, type: '0', mode: modeOf(entry), size });
      let read = 0;
      for await (const chunk of createReadStream(content.file, { highWaterMark: 1 << 20 })) {
        read += (chunk as Buffer).length;
        yield chunk as Buffer;
      }
      if (read !== size) throw new Error(`${content.file} changed while it was packed; run the command again`);
      yield padding(size);
    }
  }
  yield tarEnd();
}

/** One file with its header and padding. */
export function* tarFile(path: string, bytes: Buffer, mode = 0o644): Generator<Buffer> {
  yield tarHeader({ path, type: '0', mode, size: bytes.length });
  yield bytes;
  yield padding(bytes.length);
}

/** What ends a tar stream. */
export function tarEnd(): Buffer {
  return Buffer.alloc(2 * BLOCK);
}

/** Fills up to the next block. */
export function padding(size: number): Buffer {
  return Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK);
}

export interface TarHeader {
  readonly path: string;
  /** 0 file, 2 symbolic link, 5 folder. */
  readonly type: '0' | '2' | '5' | 'x';
  readonly mode: number;
  readonly size: number;
  readonly linkTo?: string;
}

/** The header of an entry; with a pax header before it where a name or a size does not fit into the classic fields. */
export function tarHeader(header: TarHeader): Buffer {
  const long: [string, string][] = [];
  if (Buffer.byteLength(header.path) > 100) long.push(['path', header.path]);
  if (header.linkTo && Buffer.byteLength(header.linkTo) > 100) long.push(['linkpath', header.linkTo]);
  if (header.size >= 8 ** 11) long.push(['size', String(header.size)]);
  const plain = ustar(header);
  if (long.length === 0) return plain;
  const body = Buffer.from(long.map(([key, value]) => paxRecord(key, value)).join(''));
  return Buffer.concat([
    ustar({ path: 'PaxHeaders/long', type: 'x', mode: 0o644, size: body.length }),
    body,
    padding(body.length),
    plain,
  ]);
}

function ustar({ path, type, mode, size, linkTo = '' }: TarHeader): Buffer {
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, at: number, length: number) =>
    block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
  Buffer.from(path).copy(block, 0, 0, 100);
  octal(mode, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(Math.min(size, 8 ** 11 - 1), 124, 12);
  octal(0, 136, 12);
  block.write('        ', 148, 'latin1');
  block.write(type, 156, 'latin1');
  Buffer.from(linkTo).copy(block, 157, 0, 100);
  block.write('ustar\u000000', 257, 'latin1');
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

/** `LENGTH KEY=VALUE\n`, where LENGTH counts itself. */
function paxRecord(key: string, value: string): string {
  const rest = Buffer.byteLength(` ${key}=${value}\n`);
  let length = rest + String(rest).length;
  if (String(length).length + rest !== length) length += 1;
  return `${length} ${key}=${value}\n`;
}
