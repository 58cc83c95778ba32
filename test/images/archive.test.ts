import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { zstdDecompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ImageConfig, packLayer, pruneCache, splitReference, writeArchive } from './archive.ts';
import { complete, contentKey, type Entry, file, folder, layOut, link, text, tree } from './entries.ts';

const run = promisify(execFile);
const config: ImageConfig = { entrypoint: ['/app/program'], user: '65532:65532', env: { A: '1' }, ports: [8080] };
let work: string;

beforeEach(async () => {
  work = await mkdtemp(path.join(tmpdir(), 'slm-images-'));
});
afterEach(() => rm(work, { recursive: true, force: true }));

const deep = `very/${'long-'.repeat(30)}/name`;
async function entries(): Promise<Entry[]> {
  await writeFile(path.join(work, 'program'), 'x'.repeat(1000));
  return [
    text('etc/greeting', 'hello, wörld\n'),
    file('app/program', path.join(work, 'program'), 0o755),
    link('bin', 'usr/bin'),
    folder('tmp', 0o1777),
    text(deep, 'deep'),
  ];
}

describe('a layer', () => {
  it('is a tar that tar itself reads: folders, modes, links, long names, no times and no owners', async () => {
    const layer = await packLayer('test', await entries(), path.join(work, 'cache'), { compress: false });
    const { stdout } = await run('tar', ['--list', '--verbose', '--numeric-owner', '--file', layer.file], {
      env: { ...process.env, TZ: 'UTC' },
    });
    expect(stdout.trim().split('\n')).toEqual([
      'drwxr-xr-x 0/0               0 1970-01-01 00:00 app/',
      '-rwxr-xr-x 0/0            1000 1970-01-01 00:00 app/program',
      'lrwxrwxrwx 0/0               0 1970-01-01 00:00 bin -> usr/bin',
      'drwxr-xr-x 0/0               0 1970-01-01 00:00 etc/',
      '-rw-r--r-- 0/0              14 1970-01-01 00:00 etc/greeting',
      'drwxrwxrwt 0/0               0 1970-01-01 00:00 tmp/',
      'drwxr-xr-x 0/0               0 1970-01-01 00:00 very/',
      `drwxr-xr-x 0/0               0 1970-01-01 00:00 ${path.dirname(deep)}/`,
      `-rw-r--r-- 0/0               4 1970-01-01 00:00 ${deep}`,
    ]);
  });

  it('has the same digest whatever the order of its entries, the folder and the clock', async () => {
    const first = await packLayer('test', await entries(), path.join(work, 'one'));
    const second = (await entries()).toReversed();
    await utimes(path.join(work, 'program'), 1, 1);
    const again = await packLayer('test', second, path.join(work, 'two'));
    expect([again.digest, again.diffId]).toEqual([first.digest, first.diffId]);
  });

  it('has another digest when a byte or a mode is another', async () => {
    const all = [
      await contentKey([text('a', 'x')]),
      await contentKey([text('a', 'y')]),
      await contentKey([text('b', 'x')]),
      await contentKey([{ ...text('a', 'x'), mode: 0o600 }]),
      await contentKey([link('a', 'x')]),
    ];
    expect(new Set(all).size).toBe(all.length);
  });

  it('is packed once, and taken from the cache afterwards', async () => {
    let packed = 0;
    const pack = async () => packLayer('test', await entries(), work, { onPack: () => packed++ });
    const first = await pack();
    expect(await pack()).toEqual(first);
    expect(packed).toBe(1);
  });

  it('is compressed so that its digests are true', async () => {
    const layer = await packLayer('test', await entries(), work);
    const blob = await readFile(layer.file);
    const sha256 = (bytes: Buffer) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    expect([layer.digest, layer.size]).toEqual([sha256(blob), blob.length]);
    const inner = zstdDecompressSync(blob);
    expect([layer.diffId, layer.unpackedSize]).toEqual([sha256(inner), inner.length]);
  });
});

describe('an archive', () => {
  const build = async (out: string) => {
    const layers = [
      await packLayer('base', await entries(), work),
      await packLayer('app', [text('app/x', 'x')], work, { compress: false }),
    ];
    return writeArchive('registry.example:5000/team/thing:1.2', config, layers, path.join(work, out));
  };

  it('is the same file byte for byte when it is built again', async () => {
    const [first, second] = [await build('one'), await build('two')];
    expect(first.digest).toBe(second.digest);
    expect((await readFile(first.archive)).equals(await readFile(second.archive))).toBe(true);
  });

  it('is an OCI layout whose every reference leads to a blob of that digest and size', async () => {
    const { archive, digest } = await build('out');
    const layout = path.join(work, 'layout');
    await mkdir(layout);
    await run('tar', ['-xf', archive, '-C', layout]);
    const blob = (of: string) => path.join(layout, 'blobs', ...of.split(':'));
    const json = async (at: string) => JSON.parse(await readFile(at, 'utf8')) as Record<string, never>;
    const index = (await json(path.join(layout, 'index.json'))) as unknown as { manifests: Descriptor[] };
    interface Descriptor {
      digest: string;
      size: number;
      annotations?: Record<string, string>;
    }
    expect(index.manifests.map((manifest) => manifest.digest)).toEqual([digest]);
    expect(index.manifests[0]?.annotations?.['io.containerd.image.name']).toBe('registry.example:5000/team/thing:1.2');
    const manifest = (await json(blob(digest))) as unknown as { config: Descriptor; layers: Descriptor[] };
    for (const { digest: of, size } of [...index.manifests, manifest.config, ...manifest.layers]) {
      const bytes = await readFile(blob(of));
      expect([`sha256:${createHash('sha256').update(bytes).digest('hex')}`, bytes.length]).toEqual([of, size]);
    }
    expect(await json(blob(manifest.config.digest))).toMatchObject({
      os: 'linux',
      config: {
        User: '65532:65532',
        Entrypoint: ['/app/program'],
        Env: ['PATH=/usr/local/bin:/usr/bin', 'A=1'],
        ExposedPorts: { '8080/tcp': {} },
      },
    });
    const docker = (await json(path.join(layout, 'manifest.json'))) as unknown as {
      Config: string;
      Layers: string[];
    }[];
    for (const at of [docker[0]?.Config ?? '', ...(docker[0]?.Layers ?? [])])
      expect((await stat(path.join(layout, at))).isFile()).toBe(true);
  });
});

it('pruning a cache takes what no build has used for days, and nothing else', async () => {
  const layer = await packLayer('test', await entries(), work);
  const names = ['old', 'young'].map((name) => path.join(work, name));
  for (const name of names) await writeFile(name, '');
  const longAgo = (Date.now() - 3 * 86_400_000) / 1000;
  for (const name of [names[0] ?? '', layer.file]) await utimes(name, longAgo, longAgo);
  await packLayer('test', await entries(), work, { onPack: () => expect.unreachable('it is in the cache') });
  await pruneCache(work, 48);
  const there = await Promise.all([...names, layer.file].map((name) => stat(name).then(Boolean, () => false)));
  expect(there).toEqual([false, true, true]);
});

describe('entries', () => {
  it('get their parent folders, and a later one wins', () => {
    expect(complete([text('a/b/c', '1'), folder('a', 0o700), text('a/b/c', '2')])).toEqual([
      folder('a', 0o700),
      folder('a/b'),
      text('a/b/c', '2'),
    ]);
  });

  it('of a folder keep links and the executable bit, and leave out what is not wanted', async () => {
    const source = path.join(work, 'source');
    await mkdir(path.join(source, 'bin'), { recursive: true });
    await mkdir(path.join(source, 'docs'));
    await writeFile(path.join(source, 'bin/run'), '');
    await chmod(path.join(source, 'bin/run'), 0o775);
    await symlink('run', path.join(source, 'bin/alias'));
    await writeFile(path.join(source, 'docs/page'), '');
    const found = await tree('opt', source, (name) => !name.startsWith('docs'));
    expect(complete(found)).toEqual([
      folder('opt'),
      folder('opt/bin'),
      link('opt/bin/alias', 'run'),
      file('opt/bin/run', path.join(source, 'bin/run'), 0o755),
    ]);
  });

  it('are laid out as files for a Dockerfile', async () => {
    const root = path.join(work, 'root');
    await mkdir(root);
    await layOut(await entries(), root);
    expect(await readFile(path.join(root, 'etc/greeting'), 'utf8')).toBe('hello, wörld\n');
    expect((await stat(path.join(root, 'app/program'))).mode & 0o777).toBe(0o755);
    expect((await stat(path.join(root, 'tmp'))).mode & 0o7777).toBe(0o1777);
  });
});

it.each([
  ['slm.dev/operator:0.1.0', ['slm.dev/operator', '0.1.0']],
  ['host:5000/name', ['host:5000/name', 'latest']],
])('splits %s', (reference, parts) => expect(splitReference(reference)).toEqual(parts));
