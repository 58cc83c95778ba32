import type { ModelRevision, SLMDeployment, SLMModel } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import { choiceFor, inputFor, nodeOf, useOf } from './testing/objects.ts';
import { wantedFor } from './wanted.ts';

const OLD = `sha256:${'a'.repeat(64)}`;
const NEW = `sha256:${'b'.repeat(64)}`;
const names = new Map([
  [OLD, 'old'],
  [NEW, 'new'],
]);

const revision = (digest: string): ModelRevision => ({
  name: digest.slice(7, 17),
  digest,
  size: 10,
  resolvedAt: '2026-11-23T12:00:00Z',
  files: [{ path: 'model.gguf', size: 10, digest }],
  sources: [{ url: 'https://host/model.gguf' }],
});
const model: SLMModel = {
  apiVersion: 'slm.dev/v1alpha1',
  kind: 'SLMModel',
  metadata: { name: 'm', namespace: 'demo' },
  spec: { source: { uri: 'hf://a/b' } },
  status: { latestRevision: revision(NEW), revisions: [revision(NEW), revision(OLD)] },
};
/** On nodes of its own name. */
const deployment = (name: string): SLMDeployment => ({
  apiVersion: 'slm.dev/v1alpha1',
  kind: 'SLMDeployment',
  metadata: { name, namespace: 'demo' },
  spec: { modelRef: { name: 'm' }, podTemplate: { spec: { nodeSelector: { for: name } } } },
});

/** What the nodes of chat are to hold, while those of `later` may not pull what is new. */
function held(serves: readonly string[], later: readonly string[]): string[] {
  const node = nodeOf({ labels: { for: 'chat' } });
  const uses = serves.map((digest) => useOf(digest, { nodeSelector: { for: 'chat' } }));
  const choice = {
    ...choiceFor([node]),
    mayPull: ({ metadata }: SLMDeployment) => !later.includes(metadata.name),
  };
  const world = { models: [model], deployments: [deployment('chat'), deployment('other')], uses };
  const wanted = wantedFor({ node, cache: undefined, pods: [], ...inputFor(world, choice) });
  return wanted.map(({ digest }) => names.get(digest) ?? digest);
}

describe('nodes of a deployment whose wave is far off hold', () => {
  const rows: [string, readonly string[], readonly string[], string[]][] = [
    ['old and new bytes when they may pull ahead', [OLD], [], ['old', 'new']],
    ['the old bytes alone when they may not', [OLD], ['chat'], ['old']],
    ['the new ones when others may not', [OLD], ['other'], ['old', 'new']],
    ['the new ones once something serves them', [OLD, NEW], ['chat'], ['old', 'new']],
    ['the new ones where nothing is served yet: a first revision waits for nobody', [], ['chat'], ['new']],
  ];
  it.each(rows)('%s', (_, serves, later, expected) => {
    expect(held(serves, later)).toEqual(expected);
  });
});
