/** What the real API server says to good and bad objects: the sentences that a user reads after `kubectl apply`. */
import { installCrds, type RawApi, rawApi } from '@slm-operator/test/envtest/crds';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { verdictOf } from './testing/verdict.ts';

const digest = `sha256:${'a'.repeat(64)}`;
let api: RawApi;

beforeAll(async () => {
  await installCrds(inject('kubeconfig'));
  api = await rawApi(inject('kubeconfig'));
});
afterAll(() => api[Symbol.asyncDispose]());

const verdict = (kind: 'SLMModel' | 'SLMDeployment', spec: unknown, name?: string) => verdictOf(api, kind, spec, name);

const hf = { uri: 'hf://org/repo/model.gguf' };

describe('an SLMModel', () => {
  it.each<[sentence: string, spec: unknown, verdict: string | RegExp]>([
    ['from a hub repository', { source: hf }, 'accepted'],
    ['from a hub repository at a tag', { source: { uri: 'hf://org/repo@v1.0' } }, 'accepted'],
    ['from https with a digest', { source: { uri: 'https://h/m.gguf' }, integrity: { digest } }, 'accepted'],
    [
      'from https without a digest',
      { source: { uri: 'https://h/m.gguf' } },
      /an https:\/\/ source needs integrity.digest: sha256:HEX/,
    ],
    [
      'with a digest of the wrong form',
      { source: hf, integrity: { digest: 'sha256:abc' } },
      /spec.integrity.digest: .*should match/,
    ],
    ['for every namespace', { source: hf, allowedNamespaces: { from: 'All' } }, 'accepted'],
    [
      'for namespaces with labels',
      {
        source: hf,
        allowedNamespaces: {
          from: 'Selector',
          selector: { matchExpressions: [{ key: 'team', operator: 'In', values: ['a', 'b'] }] },
        },
      },
      'accepted',
    ],
    [
      'for namespaces with labels that it does not name',
      { source: hf, allowedNamespaces: { from: 'Selector' } },
      /allowedNamespaces.selector and from: Selector go together/,
    ],
    [
      'for every namespace with labels',
      { source: hf, allowedNamespaces: { from: 'All', selector: { matchLabels: { team: 'a' } } } },
      /allowedNamespaces.selector and from: Selector go together/,
    ],
    [
      'for namespaces of some kind else',
      { source: hf, allowedNamespaces: { from: 'Cluster' } },
      /supported values: "Same", "All", "Selector"/,
    ],
    [
      'for namespaces with a label among no values',
      {
        source: hf,
        allowedNamespaces: { from: 'Selector', selector: { matchExpressions: [{ key: 'team', operator: 'In' }] } },
      },
      /In and NotIn need values/,
    ],
    [
      'with a file for each kind of hardware',
      {
        source: hf,
        variants: [
          { name: 'fp16', accelerators: ['nvidia', 'amd'], uri: 'hf://org/repo/fp16.gguf' },
          { name: 'int4', accelerators: ['npu'], uri: 'hf://org/onnx', files: ['int4/**'], format: 'ONNX' },
          { name: 'q8', accelerators: ['gpu'], uri: 'https://h/q8.gguf', digest },
        ],
      },
      'accepted',
    ],
    [
      'with two variants for the same hardware',
      {
        source: hf,
        variants: [
          { name: 'a', accelerators: ['nvidia'], uri: 'hf://org/a' },
          { name: 'b', accelerators: ['gpu', 'nvidia'], uri: 'hf://org/b' },
        ],
      },
      /spec.variants: two variants name the same accelerator/,
    ],
    [
      'with two variants of one name',
      {
        source: hf,
        variants: [
          { name: 'a', accelerators: ['npu'], uri: 'hf://org/a' },
          { name: 'a', accelerators: ['gpu'], uri: 'hf://org/b' },
        ],
      },
      /spec.variants\[1\]: Duplicate value/,
    ],
    [
      'with a variant for nothing',
      { source: hf, variants: [{ name: 'a', accelerators: [], uri: 'hf://org/a' }] },
      /spec.variants\[0\].accelerators: .*should have at least 1/,
    ],
    [
      'with a variant from https without a digest',
      { source: hf, variants: [{ name: 'a', accelerators: ['gpu'], uri: 'https://h/m.gguf' }] },
      /an https:\/\/ uri of a variant needs its digest/,
    ],
    [
      'with a variant from http without a digest',
      { source: { ...hf, insecure: true }, variants: [{ name: 'a', accelerators: ['gpu'], uri: 'http://h/m.gguf' }] },
      /an https:\/\/ uri of a variant needs its digest/,
    ],
    [
      'with a variant from http that nobody allowed',
      { source: hf, variants: [{ name: 'a', accelerators: ['gpu'], uri: 'http://h/m.gguf', digest }] },
      /an http:\/\/ uri of a variant needs source.insecure: true/,
    ],
    [
      'with a variant that names a file twice',
      { source: hf, variants: [{ name: 'a', accelerators: ['gpu'], uri: 'hf://o/r/m.gguf', files: ['*.gguf'] }] },
      /give a variant either a file in its uri or globs in files/,
    ],
    [
      'with a variant that has globs for one file',
      { source: hf, variants: [{ name: 'a', accelerators: ['gpu'], uri: 'https://h/m.gguf', digest, files: ['*'] }] },
      /files of a variant is for hf:\/\/ repositories/,
    ],
    [
      'with a variant from nowhere',
      { source: hf, variants: [{ name: 'a', accelerators: ['gpu'], uri: 'ftp://h/m.gguf' }] },
      /spec.variants\[0\].uri: .*must start with hf:\/\/ or https:\/\//,
    ],
    [
      'with defaults of a Modelfile',
      {
        source: hf,
        parameters: { temperature: 0.7, top_p: 1, stop: ['<|im_end|>'], num_predict: -1, seed: 42 },
        system: 'Be brief.',
        template: '{{ .Prompt }}',
        messages: [{ role: 'user', content: 'hi' }],
        license: 'Apache-2.0',
      },
      'accepted',
    ],
    [
      'with a parameter out of bounds',
      { source: hf, parameters: { top_p: 2 } },
      /spec.parameters.top_p: .*less than or equal to 1/,
    ],
    ['that predicts nothing', { source: hf, parameters: { num_predict: 0 } }, /num_predict must be at least 1, or -1/],
    [
      'with a misspelt parameter',
      { source: hf, parameters: { temperatur: 1 } },
      /unknown field "spec.parameters.temperatur"/,
    ],
    ['with a context length', { source: hf, parameters: { num_ctx: 4096 } }, /unknown field "spec.parameters.num_ctx"/],
    [
      'with a message of nobody',
      { source: hf, messages: [{ role: 'tool', content: 'x' }] },
      /spec.messages\[0\].role: Unsupported value: "tool"/,
    ],
    ['from a scheme that is not there', { source: { uri: 'ftp://h/m.gguf' } }, /must start with hf:\/\/ or https:\/\//],
    ['from a hub name without a repository', { source: { uri: 'hf://orgonly' } }, /must be hf:\/\/ORG\/REPO/],
    [
      'from https that names a folder',
      { source: { uri: 'https://h/folder/' }, integrity: { digest } },
      /must name one file/,
    ],
    [
      'from https with a password in it',
      { source: { uri: 'https://u:p@h/m.gguf' }, integrity: { digest } },
      /credentials go into source.secretRef/,
    ],
    [
      'from http without saying so',
      { source: { uri: 'http://h/m.gguf' }, integrity: { digest } },
      /needs source.insecure: true/,
    ],
    ['from http, saying so', { source: { uri: 'http://h/m.gguf', insecure: true }, integrity: { digest } }, 'accepted'],
    [
      'with an http endpoint',
      { source: { ...hf, endpoint: 'http://mirror' } },
      /http:\/\/ endpoint needs source.insecure: true/,
    ],
    [
      'with an endpoint for https',
      { source: { uri: 'https://h/m.gguf', endpoint: 'https://e' }, integrity: { digest } },
      /endpoint is for hf:\/\/ sources/,
    ],
    [
      'with globs for https',
      { source: { uri: 'https://h/m.gguf', files: ['*'] }, integrity: { digest } },
      /files is for hf:\/\/ repositories/,
    ],
    ['with globs and a file', { source: { ...hf, files: ['*'] } }, /either a file in source.uri or globs/],
    ['with a glob that climbs out', { source: { uri: 'hf://org/repo', files: ['../x'] } }, /without \.\. or a leading/],
    [
      'with a node selector on demand',
      { source: hf, prePull: { nodeSelector: { a: 'b' } } },
      /nodeSelector needs prePull.policy: Nodes/,
    ],
    ['with a field that does not exist', { source: hf, hardware: 'npu' }, /unknown field "spec.hardware"/],
  ])('%s', async (_sentence, spec, expected) => {
    const said = await verdict('SLMModel', spec);
    expect(said).toEqual(typeof expected === 'string' ? expected : expect.stringMatching(expected));
  });
});

describe('an SLMDeployment', () => {
  const modelRef = { name: 'm' };
  it.each<[sentence: string, spec: unknown, verdict: string | RegExp, name?: string]>([
    ['of a model by name', { modelRef }, 'accepted'],
    [
      'of a pinned revision of a model of another namespace',
      { modelRef: { name: 'm', namespace: 'models', revision: '0123456789' } },
      'accepted',
    ],
    ['of a revision by its digest', { modelRef: { name: 'm', revision: digest } }, /spec.modelRef.revision/],
    ['of a model of no namespace', { modelRef: { name: 'm', namespace: 'Not/One' } }, /spec.modelRef.namespace/],
    ['of a model in place', { model: { uri: 'hf://org/repo/m.gguf' } }, 'accepted'],
    ['with both', { modelRef, model: { uri: 'hf://org/repo' } }, /exactly one of spec.modelRef .* and spec.model/],
    ['with neither', { replicas: 1 }, /exactly one of spec.modelRef .* and spec.model/],
    [
      'with memory for prompts, and guesses',
      { modelRef, engine: { promptCache: { maxSize: '256Mi' }, speculation: { type: 'NGram', maxDraft: 8 } } },
      'accepted',
    ],
    ['with no memory for prompts', { modelRef, engine: { promptCache: { maxSize: 0 } } }, 'accepted'],
    [
      'with memory in words',
      { modelRef, engine: { promptCache: { maxSize: '1 GB' } } },
      /spec.engine.promptCache.maxSize: .*should match/,
    ],
    [
      'with guesses of a kind that is not known',
      { modelRef, engine: { speculation: { type: 'Draft' } } },
      /spec.engine.speculation.type: .*"None", "NGram"/,
    ],
    [
      'of an https model in place without a digest',
      { model: { uri: 'https://h/m.gguf' } },
      /needs model.digest: sha256:HEX/,
    ],
    [
      'with no room to roll',
      { modelRef, strategy: { maxSurge: 0, maxUnavailable: 0 } },
      /no pod could ever be replaced: raise one/,
    ],
    ['with no room to roll, by default', { modelRef, strategy: { maxSurge: '0%' } }, /set maxUnavailable to 1 or more/],
    ['with room below', { modelRef, strategy: { maxSurge: 0, maxUnavailable: '50%' } }, 'accepted'],
    [
      'with labels of the operator',
      { modelRef, podTemplate: { metadata: { labels: { 'slm.dev/x': 'y' } } } },
      /belong to the operator/,
    ],
    [
      'with a key secret and no auth',
      { modelRef, auth: { type: 'None', secretRef: { name: 's' } } },
      /auth.secretRef is for auth.type: APIKey/,
    ],
    ['with tokens of ServiceAccounts', { modelRef, auth: { type: 'ServiceAccount' } }, 'accepted'],
    [
      'with tokens of some ServiceAccounts',
      { modelRef, auth: { type: 'ServiceAccount', allowedServiceAccounts: [{ namespace: 'team' }, { name: 'app' }] } },
      'accepted',
    ],
    [
      'with ServiceAccounts and keys',
      { modelRef, auth: { allowedServiceAccounts: [{ name: 'app' }] } },
      /auth.allowedServiceAccounts is for auth.type: ServiceAccount/,
    ],
    [
      'with a key secret and ServiceAccounts',
      { modelRef, auth: { type: 'ServiceAccount', secretRef: { name: 's' } } },
      /auth.secretRef is for auth.type: APIKey/,
    ],
    ['with TLS', { modelRef, tls: { secretRef: { name: 'cert' } } }, 'accepted'],
    ['with TLS from nowhere', { modelRef, tls: {} }, /spec.tls.secretRef: Required value/],
    ['with one API', { modelRef, api: { ollama: false } }, 'accepted'],
    ['with no API', { modelRef, api: { ollama: false, openai: false } }, /leave one on/],
    [
      'with traces that cannot leave',
      { modelRef, tracing: { endpoint: 'http://collector:4318' } },
      /set isolation.denyEgress: false/,
    ],
    [
      'with traces',
      {
        modelRef,
        tracing: { endpoint: 'http://collector:4318', samplingPercent: 10 },
        isolation: { denyEgress: false },
      },
      'accepted',
    ],
    ['with management', { modelRef, api: { management: true } }, 'accepted'],
    [
      'with management in several pods',
      { modelRef, api: { management: true }, replicas: 2 },
      /keeps models in one pod: set replicas to 1/,
    ],
    [
      'with management and without its API',
      { modelRef, api: { management: true, ollama: false } },
      /leave api.ollama on/,
    ],
    ['with limits', { modelRef, limits: { maxTokens: 512, requestTimeoutSeconds: 60 } }, 'accepted'],
    ['with answers of no token', { modelRef, limits: { maxTokens: 0 } }, /greater than or equal to 1/],
    ['with an audit log with content', { modelRef, audit: { enabled: true, content: true } }, 'accepted'],
    ['with content of no audit log', { modelRef, audit: { content: true } }, /audit.content needs audit.enabled: true/],
    ['with fewer than no replicas', { modelRef, replicas: -1 }, /greater than or equal to 0/],
    [
      'with a field of a later release',
      { modelRef, autoscaling: { maxReplicas: 3 } },
      /unknown field "spec.autoscaling"/,
    ],
    ['with a name that is too long', { modelRef }, /46 characters at most/, 'x'.repeat(47)],
    ['with a name that no Service can have', { modelRef }, /must begin with a letter/, '1chat'],
  ])('%s', async (_sentence, spec, expected, name) => {
    const said = await verdict('SLMDeployment', spec, name);
    expect(said).toEqual(typeof expected === 'string' ? expected : expect.stringMatching(expected));
  });

  it('scales through the scale subresource', async () => {
    const url = '/apis/slm.dev/v1alpha1/namespaces/default/slmdeployments';
    const object = {
      apiVersion: 'slm.dev/v1alpha1',
      kind: 'SLMDeployment',
      metadata: { name: 'scaled' },
      spec: { modelRef },
    };
    expect((await api.call('POST', url, object)).status).toBe(201);
    const scaled = await api.call(
      'PATCH',
      `${url}/scaled/scale`,
      { spec: { replicas: 3 } },
      'application/merge-patch+json',
    );
    expect(scaled.body['spec']).toEqual({ replicas: 3 });
    await api.call('DELETE', `${url}/scaled`);
  });
});
