import { describe, expect, it } from 'vitest';
import { parseLdd } from './base.ts';
import { sizeTable } from './main.ts';

describe('what ldd prints', () => {
  it('gives the libraries and the loader, not what the kernel provides', () => {
    const output = `\tlinux-vdso.so.1 (0x00007fff0)
\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f1)
\tlibgone.so => not found
\t/lib64/ld-linux-x86-64.so.2 (0x00007f2)\n`;
    expect(parseLdd(output)).toEqual(['/lib/x86_64-linux-gnu/libm.so.6', '/lib64/ld-linux-x86-64.so.2']);
  });
});

it('the table of sizes has a line for each layer and their sum', () => {
  const layer = (title: string, size: number, unpackedSize: number) => ({
    title,
    size,
    unpackedSize,
    mediaType: '',
    digest: '',
    diffId: '',
    file: '',
  });
  const layers = [layer('base', 2_000_000, 5_500_000), layer('node', 35_000_000, 116_000_000)];
  expect(sizeTable([{ reference: 'a/b:1', archive: '', digest: '', layers }])).toMatchInlineSnapshot(`
    "IMAGE  LAYER  COMPRESSED  UNPACKED
    a/b:1  (all)     37.0 MB  121.5 MB
           base       2.0 MB    5.5 MB
           node      35.0 MB  116.0 MB"
  `);
});
