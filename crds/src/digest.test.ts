import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { digestsOf, fileUrl, revisionDigest, revisionName } from './digest.ts';

const digestOf = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`;

describe('revisionDigest', () => {
  it('is what sha256sum prints for the sorted list of files', () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'slm-digest-'));
    try {
      const names = ['model.gguf', 'Config.json', 'tokenizer.json'];
      for (const name of names) writeFileSync(path.join(folder, name), name);
      const shell = execFileSync('sh', ['-c', 'sha256sum * | LC_ALL=C sort -k2 | sha256sum'], {
        cwd: folder,
        encoding: 'utf8',
      });
      expect(revisionDigest(names.map((name) => ({ path: name, digest: digestOf(name) })))).toBe(
        `sha256:${shell.slice(0, 64)}`,
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('does not depend on the order in which files are given', () => {
    const a = { path: 'a', digest: digestOf('a') };
    const b = { path: 'b', digest: digestOf('b') };
    expect(revisionDigest([a, b])).toBe(revisionDigest([b, a]));
  });

  it('names a revision by its first ten digits', () => {
    expect(revisionName('sha256:b179c9523d0e6a0f')).toBe('b179c9523d');
    expect(revisionName('sha256:b179c9523d0e6a0f', [])).toBe('b179c9523d');
  });

  describe('with variants, by what all of them are and are for', () => {
    const base = 'sha256:aa';
    const fp16 = { digest: 'sha256:bb', accelerators: ['nvidia', 'amd'] };
    const int4 = { digest: 'sha256:cc', accelerators: ['npu'] };
    const name = revisionName(base, [fp16, int4]);

    it('says nothing of their order', () => {
      expect(name).toMatch(/^[0-9a-f]{10}$/);
      expect(revisionName(base, [int4, { ...fp16, accelerators: ['amd', 'nvidia'] }])).toBe(name);
    });

    it.each([
      ['one goes', [fp16]],
      ['one has other bytes', [fp16, { ...int4, digest: 'sha256:dd' }]],
      [
        'two swap their hardware',
        [
          { ...fp16, accelerators: int4.accelerators },
          { ...int4, accelerators: fp16.accelerators },
        ],
      ],
    ])('changes when %s', (_, variants) => {
      expect(revisionName(base, variants)).not.toBe(name);
    });

    it('lists each digest once', () => {
      expect(digestsOf({ digest: base, variants: [fp16, int4, { digest: base }] })).toEqual([
        base,
        fp16.digest,
        int4.digest,
      ]);
    });
  });
});

describe('fileUrl', () => {
  it('puts the path where the template says, encoded part by part', () => {
    expect(fileUrl('https://h/r/resolve/c/{path}', 'onnx/model 1.onnx')).toBe(
      'https://h/r/resolve/c/onnx/model%201.onnx',
    );
  });
  it('leaves an address without {path} alone', () => {
    expect(fileUrl('https://h/model.gguf?x=1', 'model.gguf')).toBe('https://h/model.gguf?x=1');
  });
});
