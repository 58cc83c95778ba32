import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { revisionDigest } from '@slm-operator/crds';
import { type FileServer, startFileServer } from '@slm-operator/test/fixtures/file-server';
import { makeGguf, tinyLlama } from '@slm-operator/test/fixtures/gguf';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { makeAuthority, makeServingCertificate } from '../broker/certificates.ts';
import { SourceError } from './http-errors.ts';
import { parametersText, type Resolution, resolveSource } from './resolve.ts';
import type { SourceCredentials, SourceSpec } from './source.ts';

const tensors = [{ name: 'token_embd.weight', dimensions: [64, 16] }];
const model = makeGguf({ tensors });
const sha = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

let root: string;
let server: FileServer;
let tls: FileServer;
let ca: string;

beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'slm-sources-'));
  const put = async (file: string, bytes: Uint8Array | string) => {
    await mkdir(path.dirname(path.join(root, file)), { recursive: true });
    await writeFile(path.join(root, file), bytes);
  };
  await put('files/model.gguf', model);
  await put('files/page.gguf', '<!DOCTYPE html><html>please log in</html>');
  await put('files/short.gguf', model.subarray(0, model.byteLength - 100));
  await put('files/stub.gguf', model.subarray(0, 40));
  await put('files/empty.gguf', '');
  await put('hf/acme/one/model-q4.gguf', model);
  await put('hf/acme/one/README.md', '# One');
  await put('hf/acme/one/mmproj-f16.gguf', model);
  for (const quantization of ['q2', 'q3', 'q4', 'q5', 'q6', 'q8', 'f16', 'f32', 'bf16', 'x1']) {
    await put(`hf/acme/many/m-${quantization}.gguf`, model);
  }
  for (const folder of ['small', 'large']) await put(`hf/acme/folders/${folder}/m.gguf`, model);
  await put('hf/acme/none/model.safetensors', 'x');
  const part = (values: object) => makeGguf({ values: { ...tinyLlama, ...values }, tensors });
  await put('hf/acme/split/m-00001-of-00002.gguf', part({ 'split.count': 2, 'split.no': 0 }));
  await put('hf/acme/split/m-00002-of-00002.gguf', part({ 'split.count': 2, 'split.no': 1 }));
  server = await startFileServer({ root, pageSize: 3 });
  const authority = await makeAuthority(Date.now());
  ca = authority.cert;
  tls = await startFileServer({ root, tls: await makeServingCertificate(authority, ['127.0.0.1'], Date.now()) });
});

afterAll(async () => {
  await Promise.all([server.close(), tls.close()]);
  await rm(root, { recursive: true, force: true });
});

afterEach(() => {
  server.setToken(undefined);
  for (const file of ['/files/model.gguf', '/api/models/acme/one/tree/main']) server.setFault(file, undefined);
});

function resolve(
  spec: Partial<SourceSpec> & { uri: string },
  credentials: SourceCredentials = { headers: {} },
): Promise<Resolution> {
  return resolveSource({ hasSecretRef: false, hasCaBundleRef: false, insecure: true, ...spec }, credentials, {
    hfEndpoint: server.url,
    hfEndpointInsecure: true,
  });
}

const digest = `sha256:${sha(model)}`;
const file = (name = 'model.gguf', more: Partial<SourceSpec> = {}) =>
  resolve({ uri: `${server.url}/files/${name}`, digest, ...more });

async function failureOf(promise: Promise<unknown>) {
  try {
    await promise;
  } catch (error) {
    if (error instanceof SourceError)
      return `${error.failure.reason}: ${error.message.replaceAll(server.url, 'http://host')}`;
    throw error;
  }
  throw new Error('it was resolved, and should not have been');
}

describe('https://', () => {
  test('gives one file with the digest of the spec and what the header says', async () => {
    expect(await file()).toEqual({
      digest: revisionDigest([{ path: 'model.gguf', digest }]),
      size: model.byteLength,
      files: [{ path: 'model.gguf', size: model.byteLength, digest }],
      sources: [{ url: `${server.url}/files/model.gguf` }],
      metadata: {
        format: 'GGUF',
        architecture: 'llama',
        parameters: 1024,
        parametersText: '1K',
        quantization: 'F32',
        contextLength: 2048,
        layers: 2,
        license: 'apache-2.0',
        hasChatTemplate: true,
      },
      estimate: { weights: model.byteLength, kvCachePer1kTokens: 262_144 },
    });
  });

  test.each([
    ['a server that ignores Range', { ignoreRange: true }],
    ['a server that gives no length', { ignoreRange: true, noLength: true }],
    ['a redirect', { redirect: '/files/short.gguf/../model.gguf?x', times: 2 }],
  ])('%s makes no difference to the result', async (_, fault) => {
    server.setFault('/files/model.gguf', fault);
    const { size, metadata } = await file();
    expect([size, metadata.architecture]).toEqual([model.byteLength, 'llama']);
  });

  test('the size alone never costs a whole download', async () => {
    const large = path.join(root, 'files/large.gguf');
    await writeFile(large, Buffer.concat([model, Buffer.alloc(32 * 1024 * 1024)]));
    server.setFault('/files/large.gguf', { ignoreRange: true });
    const before = server.bytesSent;
    await file('large.gguf');
    // What the kernel's buffers swallow before the connection is cut; the file is read neither for size nor header.
    expect(server.bytesSent - before).toBeLessThan(24 * 1024 * 1024);
  });

  test.each<[string, () => Promise<string>, RegExp]>([
    ['404', () => failureOf(file('nothing.gguf')), /^NotFound: http:\/\/host\/files\/nothing\.gguf answers 404/],
    [
      '401 without a credential',
      () => {
        server.setToken('right');
        return failureOf(file());
      },
      /^Unauthorized: .* wants a credential\..*source\.secretRef/,
    ],
    [
      '500',
      () => (server.setFault('/files/model.gguf', { status: 500 }), failureOf(file())),
      /^SourceUnavailable: .*500/,
    ],
    [
      'a file that is no model',
      () => failureOf(file('page.gguf')),
      /^NotAModel: .*begins with "<!DOCTYPE html>.*web page/,
    ],
    [
      'a file that is cut off',
      () => failureOf(file('short.gguf')),
      /^Truncated: .*has \d+ bytes, and its header speaks of \d+/,
    ],
    [
      'a file that ends within its header',
      () => failureOf(file('stub.gguf')),
      /^Truncated: .*ends after 40 bytes, in the middle/,
    ],
    ['an empty file', () => failureOf(file('empty.gguf')), /^Truncated: .*ends after 0 bytes/],
    [
      'a missing digest',
      () => failureOf(file('model.gguf', { digest: undefined })),
      /^SourceInvalid: .*needs integrity\.digest/,
    ],
    [
      'http:// without insecure',
      () => failureOf(file('model.gguf', { insecure: false })),
      /^SourceInvalid: .*is http:\/\/: write https/,
    ],
    [
      'a connection that is cut half-way',
      () => (server.setFault('/files/model.gguf', { cutAfter: 10 }), failureOf(file())),
      /^ConnectionFailed: .*was cut/,
    ],
    [
      'redirects without end',
      () => (server.setFault('/files/model.gguf', { redirect: '/files/model.gguf' }), failureOf(file())),
      /^SourceInvalid: .*more than 5 redirects/,
    ],
  ])('%s ends in a sentence', async (_, run, expected) => {
    expect(await run()).toMatch(expected);
  });

  test('a credential is sent, and marks the source as one that needs a grant', async () => {
    server.setToken('right');
    const spec = { uri: `${server.url}/files/model.gguf`, digest, hasSecretRef: true };
    const resolved = await resolve(spec, { headers: { authorization: 'Bearer right' } });
    expect(resolved.sources).toEqual([{ url: `${server.url}/files/model.gguf`, needsGrant: true }]);
    expect(await failureOf(resolve(spec, { headers: { authorization: 'Bearer wrong' } }))).toMatch(
      /^Unauthorized: .*credential of source\.secretRef is not accepted/,
    );
  });

  test('a credential never follows a redirect to another host', async () => {
    const other = await startFileServer({ root });
    try {
      server.setFault('/files/model.gguf', { redirect: `${other.url}/files/model.gguf` });
      await resolve(
        { uri: `${server.url}/files/model.gguf`, digest, hasSecretRef: true },
        { headers: { authorization: 'Bearer right' } },
      );
      expect(other.requests.length).toBeGreaterThan(0);
      expect(other.requests.every(({ authorization }) => authorization === undefined)).toBe(true);
    } finally {
      await other.close();
    }
  });

  test.each([
    'http://169.254.169.254/latest/meta-data',
    'http://[fe80::1]/a.gguf',
    'http://[::ffff:169.254.169.254]/a',
  ])('what answers only to its own machine is no source: %s', async (uri) => {
    expect(await failureOf(resolve({ uri, digest }))).toMatch(/^SourceInvalid: .*link-local/);
    server.setFault('/files/model.gguf', { redirect: uri });
    expect(await failureOf(file())).toMatch(/^SourceInvalid: .*link-local/);
  });

  test('a private authority is refused with the remedy, and trusted once it is named', async () => {
    const spec = { uri: `${tls.url}/files/model.gguf`, digest };
    expect(await failureOf(resolve(spec))).toMatch(/^TLSUntrusted: .*source\.caBundleRef/);
    const trusted = await resolve({ ...spec, hasCaBundleRef: true }, { headers: {}, caBundle: ca });
    expect(trusted.sources[0]?.needsGrant).toBe(true);
  });

  test('an https:// source that redirects to http:// is refused', async () => {
    tls.setFault('/files/model.gguf', { redirect: `${server.url}/files/model.gguf` });
    const spec = { uri: `${tls.url}/files/model.gguf`, digest, insecure: false };
    expect(await failureOf(resolve(spec, { headers: {}, caBundle: ca }))).toMatch(
      /^SourceInvalid: .*redirects to http:\/\/host\/files\/model\.gguf, which is not encrypted/,
    );
    tls.setFault('/files/model.gguf', undefined);
  });
});

describe('hf://', () => {
  test('resolves main to a commit and takes the only model of the repository', async () => {
    const { sourceRevision, files, sources, metadata } = await resolve({ uri: 'hf://acme/one' });
    expect(sourceRevision).toMatch(/^[0-9a-f]{40}$/);
    expect(files).toEqual([{ path: 'model-q4.gguf', size: model.byteLength, digest }]);
    expect(sources).toEqual([{ url: `${server.url}/acme/one/resolve/${sourceRevision}/{path}` }]);
    expect(metadata.architecture).toBe('llama');
  });

  test('the same commit gives the same digest', async () => {
    const byBranch = await resolve({ uri: 'hf://acme/one' });
    const byCommit = await resolve({ uri: `hf://acme/one@${byBranch.sourceRevision}` });
    expect(byCommit.digest).toBe(byBranch.digest);
  });

  test('globs take small files along, hashed here', async () => {
    const { files } = await resolve({ uri: 'hf://acme/one', files: ['model*.gguf', '*.md'] });
    expect(files.map((entry) => entry.path)).toEqual(['README.md', 'model-q4.gguf']);
    expect(files[0]?.digest).toBe(`sha256:${sha(Buffer.from('# One'))}`);
  });

  test('a split model comes whole, and its weights are added up', async () => {
    const { files, metadata } = await resolve({ uri: 'hf://acme/split/m-00001-of-00002.gguf' });
    expect(files.map((entry) => entry.path)).toEqual(['m-00001-of-00002.gguf', 'm-00002-of-00002.gguf']);
    expect(metadata.parameters).toBe(2048);
  });

  test('an address may name the folder of the model', async () => {
    const { files } = await resolve({ uri: 'hf://acme/folders/small' });
    expect(files.map((entry) => entry.path)).toEqual(['small/m.gguf']);
  });

  test('a long list of files comes page by page', async () => {
    const { files } = await resolve({ uri: 'hf://acme/many/m-x1.gguf' });
    expect(files.map((entry) => entry.path)).toEqual(['m-x1.gguf']);
    const pages = server.requests.filter((request) => request.path.includes('/acme/many/tree/'));
    expect(pages.map(({ query }) => query).slice(-2)).toEqual([
      '?recursive=true&limit=3&cursor=6',
      '?recursive=true&limit=3&cursor=9',
    ]);
  });

  test.each<[string, Partial<SourceSpec> & { uri: string }, RegExp]>([
    ['no such repository', { uri: 'hf://acme/missing' }, /^NotFound: .*no such repository, or it is private/],
    ['no such revision', { uri: 'hf://acme/one@v9' }, /^NotFound: .*no such branch, tag or commit/],
    [
      'no such file',
      { uri: 'hf://acme/one/other.gguf' },
      /^NotFound: acme\/one@main holds no file other\.gguf; it holds model-q4\.gguf/,
    ],
    [
      'several models',
      { uri: 'hf://acme/many' },
      /^AmbiguousFiles: acme\/many@main holds 10 models: m-bf16\.gguf(, [\w.-]+){7} and 2 more\. Put one of them/,
    ],
    [
      'several models by glob',
      { uri: 'hf://acme/many', files: ['*q4*', '*q5*'] },
      /^AmbiguousFiles: source\.files chooses 2 models/,
    ],
    [
      'globs that match nothing',
      { uri: 'hf://acme/one', files: ['*.onnx'] },
      /^NotFound: .*no file that source\.files/,
    ],
    ['globs that match no model', { uri: 'hf://acme/one', files: ['*.md'] }, /^NotAModel: .*chooses no \.gguf/],
    [
      'no model in the repository',
      { uri: 'hf://acme/none' },
      /^NotAModel: .*no \.gguf or \.onnx file, only model\.safetensors/,
    ],
    [
      'a later part of a split model',
      { uri: 'hf://acme/split/m-00002-of-00002.gguf' },
      /^SourceInvalid: .*name the first, m-00001-of-00002\.gguf/,
    ],
    [
      'another digest than asked for',
      { uri: 'hf://acme/one', digest: `sha256:${'0'.repeat(64)}` },
      /^DigestMismatch: integrity\.digest is sha256:0{64}, but the file model-q4\.gguf has sha256:[0-9a-f]{64}/,
    ],
  ])('%s ends in a sentence', async (_, spec, expected) => {
    expect(await failureOf(resolve(spec))).toMatch(expected);
  });

  test('a host that is no Hub is told apart', async () => {
    server.setFault('/api/models/acme/one/revision/main', { redirect: '/files/page.gguf' });
    expect(await failureOf(resolve({ uri: 'hf://acme/one' }))).toMatch(
      /^SourceInvalid: .*not with JSON.*source\.endpoint/,
    );
    server.setFault('/api/models/acme/one/revision/main', undefined);
  });

  test('a digest of the file, or of the whole revision, is accepted', async () => {
    const { digest: whole } = await resolve({ uri: 'hf://acme/one', digest });
    expect((await resolve({ uri: 'hf://acme/one', digest: whole })).digest).toBe(whole);
  });
});

test('a source that never ends is given up, with a sentence', async () => {
  server.setFault('/files/model.gguf', { hangAfter: 1 });
  const spec = {
    uri: `${server.url}/files/model.gguf`,
    digest,
    insecure: true,
    hasSecretRef: false,
    hasCaBundleRef: false,
  };
  expect(await failureOf(resolveSource(spec, { headers: {} }, { hfEndpoint: server.url, timeoutMs: 100 }))).toMatch(
    /^ConnectionFailed: .*within 0\.1 s/,
  );
});

test.each([
  [134_515_008, '135M'],
  [1_543_714_304, '1.5B'],
  [999_999_999, '1B'],
  [14_700_000_000, '15B'],
  [1024, '1K'],
  [12, '12'],
])('%d parameters are written as %s', (parameters, expected) => {
  expect(parametersText(parameters)).toBe(expected);
});
