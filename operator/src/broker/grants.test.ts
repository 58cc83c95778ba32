import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { SLMModel, SLMNodeCache } from '@slm-operator/crds';
import { type FileServer, startFileServer } from '@slm-operator/test/fixtures/file-server';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { SourceError } from '../sources/http-errors.ts';
import { basesFor, isRefusal, makeGrant, usableCredentials } from './grants.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;
const files = [{ path: 'tiny.gguf', size: 1, digest: DIGEST }];

function model(uri: string, source: object = {}): SLMModel {
  const revision = { name: 'a', digest: DIGEST, size: 1, resolvedAt: '', files };
  return {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMModel',
    metadata: { name: 'tiny', namespace: 'demo' },
    spec: { source: { uri, secretRef: { name: 's' } } },
    status: { revisions: [{ ...revision, sources: [{ url: 'https://host/tiny.gguf', needsGrant: true, ...source }] }] },
  };
}

const cache: SLMNodeCache = {
  apiVersion: 'slm.dev/v1alpha1',
  kind: 'SLMNodeCache',
  metadata: { name: 'n1' },
  spec: {
    wanted: [{ digest: DIGEST, size: 1, files, sources: [], models: ['demo/tiny'], namespaces: ['demo'] }],
  },
};

describe('a node gets', () => {
  const ask = (digest: string, of: SLMNodeCache | undefined, found: SLMModel | undefined) => {
    const bases = basesFor(digest, 'n1', of, (key) => (key === 'demo/tiny' ? found : undefined));
    return isRefusal(bases) ? `${bases.status} ${bases.reason}` : bases.map((basis) => basis.source.url).join();
  };
  test.each<[string, string, string]>([
    ['what it is to hold', ask(DIGEST, cache, model('https://host/tiny.gguf')), 'https://host/tiny.gguf'],
    ['nothing else', ask(`sha256:${'b'.repeat(64)}`, cache, model('https://host/tiny.gguf')), '403 PullFailed'],
    ['nothing before it is known', ask(DIGEST, undefined, model('https://host/tiny.gguf')), '403 PullFailed'],
    ['nothing of a model that is gone', ask(DIGEST, cache, undefined), '409 ModelNotFound'],
    [
      'nothing that needs no grant',
      ask(DIGEST, cache, model('https://host/tiny.gguf', { needsGrant: false })),
      '409 ModelNotFound',
    ],
  ])('%s', (_, got, expected) => {
    expect(got).toBe(expected);
  });
});

describe('the bytes of a variant', () => {
  const variantDigest = `sha256:${'c'.repeat(64)}`;
  const withVariant = (url: string): SLMModel => {
    const of = model('https://host/tiny.gguf');
    const variant = {
      name: 'fp16',
      accelerators: ['nvidia'],
      digest: variantDigest,
      size: 1,
      files,
      sources: [{ url, needsGrant: true }],
    };
    return {
      ...of,
      spec: { ...of.spec, variants: [{ name: 'fp16', accelerators: ['nvidia'], uri: url, digest: variantDigest }] },
      status: { revisions: (of.status?.revisions ?? []).map((one) => ({ ...one, variants: [variant] })) },
    };
  };
  const [wanted] = cache.spec?.wanted ?? [];
  const listing = { ...cache, spec: { wanted: [{ ...(wanted as object), digest: variantDigest }] } } as SLMNodeCache;
  const all = { headers: { authorization: 'Bearer x' }, caBundle: 'PEM' };
  const grantFor = (url: string) => {
    const bases = basesFor(variantDigest, 'n1', listing, () => withVariant(url));
    if (isRefusal(bases)) return bases.message;
    const [basis] = bases;
    return basis && usableCredentials(basis.model, basis.source, 'https://hub')?.(all);
  };

  test('are granted as those of the model are', () => {
    expect(grantFor('https://host/fp16.gguf')).toEqual(all);
  });

  test('are granted without the credential where they lie on another host', () => {
    expect(grantFor('https://elsewhere/fp16.gguf')).toEqual({ headers: {}, caBundle: 'PEM' });
  });
});

describe('a credential goes', () => {
  test.each<[string, SLMModel, string, boolean]>([
    ['to the host of the uri', model('https://host/other.gguf'), 'https://host/tiny.gguf', true],
    ['not to the host of an earlier uri', model('https://elsewhere/tiny.gguf'), 'https://host/tiny.gguf', false],
    ['to the endpoint of the Hub', model('hf://a/b'), 'https://hub/a/b/resolve/c/{path}', true],
    ['not to a host that the Hub is not', model('hf://a/b'), 'https://host/a/b/resolve/c/{path}', false],
    ['not to http:// of the same name', model('https://host/tiny.gguf'), 'http://host/tiny.gguf', false],
  ])('%s', (_, from, url, expected) => {
    expect(usableCredentials(from, { url, needsGrant: true }, 'https://hub') !== undefined).toBe(expected);
  });
});

describe('the grant', () => {
  let root: string;
  let server: FileServer;
  let store: FileServer;
  beforeAll(async () => {
    root = await mkdtemp(path.join(tmpdir(), 'slm-grants-'));
    await mkdir(path.join(root, 'files'));
    await writeFile(path.join(root, 'files/tiny.gguf'), 'x');
    server = await startFileServer({ root, token: 'secret' });
    store = await startFileServer({ root });
  });
  afterAll(async () => {
    await Promise.all([server.close(), store.close()]);
    await rm(root, { recursive: true, force: true });
  });
  beforeEach(() => server.setFault('/files/tiny.gguf', undefined));

  const credentials = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
  const grant = (token = 'secret') =>
    makeGrant(
      {
        model: model('https://host/tiny.gguf'),
        source: { url: `${server.url}/files/{path}`, needsGrant: true },
        entry: cache.spec?.wanted?.[0] as never,
      },
      credentials(token),
      { now: Date.parse('2026-01-01T00:00:00Z') },
    );

  test('carries the credential where the source itself gives the bytes', async () => {
    expect(await grant()).toEqual({
      files: [{ path: 'tiny.gguf', url: `${server.url}/files/tiny.gguf`, headers: { authorization: 'Bearer secret' } }],
      expiresAt: '2026-01-01T00:50:00.000Z',
    });
  });

  test('carries a signed address and no credential where the source redirects to one', async () => {
    server.setFault('/files/tiny.gguf', { redirect: `${store.url}/files/tiny.gguf?signature=abc` });
    expect((await grant()).files).toEqual([
      { path: 'tiny.gguf', url: `${store.url}/files/tiny.gguf?signature=abc`, headers: {} },
    ]);
    expect(store.requests).toEqual([]);
  });

  test('is refused with a sentence when the source refuses the credential', async () => {
    const error = await grant('wrong').catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(SourceError);
    expect((error as SourceError).failure).toMatchObject({ reason: 'Unauthorized' });
    expect((error as SourceError).message).not.toContain('wrong');
  });
});
