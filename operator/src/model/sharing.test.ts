import type { SLMModel } from '@slm-operator/crds';
import { describe, expect, it, test } from 'vitest';
import { type NamespaceLabels, refusalOf, sharingOf } from './sharing.ts';

type Allowed = SLMModel['spec']['allowedNamespaces'];

const modelWith = (allowedNamespaces: Allowed): SLMModel => ({
  apiVersion: 'slm.dev/v1alpha1',
  kind: 'SLMModel',
  metadata: { name: 'phi', namespace: 'models' },
  spec: { source: { uri: 'hf://a/b' }, ...(allowedNamespaces === undefined ? {} : { allowedNamespaces }) },
});
const labelsOf: NamespaceLabels = (name) => ({ apps: { team: 'a' }, others: { team: 'b' }, plain: {} })[name];
const teamA: Allowed = { from: 'Selector', selector: { matchLabels: { team: 'a' } } };
const notB: Allowed = {
  from: 'Selector',
  selector: { matchExpressions: [{ key: 'team', operator: 'NotIn', values: ['b'] }] },
};

describe('a model', () => {
  it.each<[string, Allowed, string, ReturnType<typeof sharingOf>]>([
    ['is for its own namespace when it says nothing', undefined, 'models', 'allowed'],
    ['is for no other one when it says nothing', undefined, 'apps', 'refused'],
    ['from: Same is for its own namespace', { from: 'Same' }, 'models', 'allowed'],
    ['from: Same is for no other one', { from: 'Same' }, 'apps', 'refused'],
    ['with an empty allowedNamespaces is for its own namespace alone', {}, 'apps', 'refused'],
    ['from: All is for every namespace, seen or not', { from: 'All' }, 'nobody-saw-it', 'allowed'],
    ['from: Selector is for a namespace with the labels', teamA, 'apps', 'allowed'],
    ['from: Selector is not for one with others', teamA, 'others', 'refused'],
    ['from: Selector is not for one without labels', teamA, 'plain', 'refused'],
    ['from: Selector is for its own namespace, whatever labels that has', teamA, 'models', 'allowed'],
    ['from: Selector lets nobody in while the labels are not known', teamA, 'nobody-saw-it', 'unknown'],
    ['with a negative selector lets nobody in while the labels are not known', notB, 'nobody-saw-it', 'unknown'],
    ['with a negative selector is for a namespace without the label', notB, 'plain', 'allowed'],
  ])('%s', (_, allowedNamespaces, namespace, expected) => {
    expect(sharingOf(modelWith(allowedNamespaces), namespace, labelsOf)).toBe(expected);
  });
});

test('who is refused reads who is let in, and who can change that', () => {
  expect([undefined, teamA].map((allowed) => refusalOf(modelWith(allowed), 'others'))).toMatchInlineSnapshot(`
    [
      "SLMModel models/phi may be used from namespace models only; its owner can let namespace others in with spec.allowedNamespaces",
      "SLMModel models/phi may be used from namespace models and namespaces with the labels team=a only, and namespace others does not have them: label it, or have the model’s owner change spec.allowedNamespaces",
    ]
  `);
});
