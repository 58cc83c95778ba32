import type { ModelRevision, SLMModel } from '@slm-operator/crds';
import { describe, expect, it, test } from 'vitest';
import { modelStateOf } from './model-state.ts';
import { modelKeyOf, modelTextOf } from './names.ts';
import { ago, deployment, digest, model } from './testing/objects.ts';

const older: ModelRevision = {
  name: 'ffffffffff',
  digest: `sha256:${'f'.repeat(64)}`,
  size: 5,
  resolvedAt: ago(1000),
  files: [],
  sources: [],
  estimate: { weights: 5 },
};
const withOlder = model({ revisions: [...(model().status?.revisions ?? []), older] });
const shared: SLMModel = { ...withOlder, metadata: { ...withOlder.metadata, namespace: 'models' } };
const pinned = (revision: string) => deployment({ modelRef: { name: 'smollm2', revision } });
const elsewhere = deployment({ modelRef: { name: 'smollm2', namespace: 'models' } });

test('a model is found by the namespace that the reference names, else by that of the deployment', () => {
  const own = deployment({ modelRef: { name: 'smollm2', namespace: 'demo' } });
  expect([deployment(), own, elsewhere].map(modelKeyOf)).toEqual(['demo/smollm2', 'demo/smollm2', 'models/smollm2']);
  expect([deployment(), own, elsewhere].map(modelTextOf)).toEqual(['smollm2', 'smollm2', 'models/smollm2']);
});

describe('a deployment', () => {
  it('serves the latest revision', () => {
    expect(modelStateOf(deployment(), withOlder)).toMatchObject({ usable: true, revision: { digest } });
  });

  it('serves a revision that it pins, with what is known of that one', () => {
    const state = modelStateOf(pinned('ffffffffff'), withOlder);
    expect(state).toMatchObject({
      usable: true,
      revision: { name: 'ffffffffff' },
      model: { status: { estimate: { weights: 5 } } },
    });
  });

  it('with a pin does not wait for a changed source', () => {
    const changed = { ...withOlder, metadata: { ...withOlder.metadata, generation: 2 } };
    expect(modelStateOf(deployment(), changed)).toMatchObject({ usable: true, settling: true });
    expect(modelStateOf(pinned('ffffffffff'), changed)).toMatchObject({ usable: true, settling: false });
  });

  it('with a pin that no revision has waits for a changed source, which may bring it', () => {
    const changed = { ...withOlder, metadata: { ...withOlder.metadata, generation: 2 } };
    expect(modelStateOf(pinned('eeeeeeeeee'), changed)).toMatchObject({ reason: 'ModelNotReady', stalled: false });
  });

  it.each<[string, ReturnType<typeof modelStateOf>, string, string, boolean]>([
    [
      'that pins what the model does not have is told what there is',
      modelStateOf(pinned('eeeeeeeeee'), withOlder),
      'ModelRevisionNotFound',
      'model smollm2 has no revision eeeeeeeeee to pin; it has a1b2c3d4e5 (latest), ffffffffff: correct spec.modelRef.revision, or remove it to follow the latest',
      true,
    ],
    [
      'that may not use the model is told by whom it may be used',
      modelStateOf(elsewhere, shared, 'refused'),
      'ModelNotAllowed',
      'SLMModel models/smollm2 may be used from namespace models only; its owner can let namespace demo in with spec.allowedNamespaces',
      true,
    ],
    [
      'whose namespace nobody has seen yet waits',
      modelStateOf(elsewhere, shared, 'unknown'),
      'ModelNotReady',
      'model models/smollm2: the labels of namespace demo are being looked up',
      false,
    ],
    [
      'that names a model that is not there is told where it was looked for',
      modelStateOf(elsewhere, undefined),
      'ModelNotFound',
      'there is no SLMModel smollm2 in namespace models; create it, or correct spec.modelRef',
      false,
    ],
    [
      'is told of its own namespace when that has no such model',
      modelStateOf(deployment(), undefined),
      'ModelNotFound',
      'there is no SLMModel smollm2 in namespace demo; create it, or correct spec.modelRef.name',
      false,
    ],
  ])('%s', (_, state, reason, message, stalled) => {
    expect(state).toEqual({ usable: false, reason, message, stalled });
  });
});
