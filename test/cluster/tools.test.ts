import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { BINARIES, KUBERNETES_VERSION, RECIPES, type Recipe } from './tool-recipes.ts';
import { contentName, isOlder } from './tools.ts';

const recipe: Recipe = {
  name: 'etcd',
  folder: 'etcd',
  language: 'go',
  compilations: [{ source: '.', output: 'etcd' }],
  cost: 1,
};
const files = [
  { name: 'go.mod', content: 'module a' },
  { name: 'main.go', content: 'package main' },
];

describe('contentName', () => {
  const name = contentName(recipe, files, 'linux-x64');

  it('is the same for the same inputs, in whatever order they are read', () => {
    expect(name).toMatch(/^etcd-[0-9a-f]{12}$/);
    expect(contentName(recipe, files.toReversed(), 'linux-x64')).toBe(name);
    expect(contentName({ ...recipe, cost: 99 }, files, 'linux-x64')).toBe(name);
  });

  it('changes with a source, a flag and the platform', () => {
    const changed = [{ name: 'go.mod', content: 'module b' }, ...files.slice(1)];
    const tagged = { ...recipe, compilations: [{ source: '.', output: 'etcd', tags: 'netgo' }] };
    const others = [
      contentName(recipe, changed, 'linux-x64'),
      contentName(tagged, files, 'linux-x64'),
      contentName(recipe, files, 'linux-arm64'),
    ];
    expect(new Set([name, ...others]).size).toBe(4);
  });
});

describe('the recipes', () => {
  const sources = path.join(import.meta.dirname, 'tools');

  it('make every program that can be asked for', () => {
    for (const { name, compilations, links = [] } of RECIPES)
      expect([...compilations.map(({ output }) => output), ...links]).toEqual(
        expect.arrayContaining([...BINARIES[name]]),
      );
    expect(RECIPES.map(({ name }) => name).sort()).toEqual(Object.keys(BINARIES).sort());
  });

  it('have a folder of sources each, and no folder is without a recipe', () => {
    expect([...new Set(RECIPES.map(({ folder }) => folder))].sort()).toEqual(readdirSync(sources).sort());
  });

  it('pin every module with its checksums', () => {
    for (const { folder, language } of RECIPES) {
      if (language !== 'go') continue;
      const requires = readFileSync(path.join(sources, folder, 'go.mod'), 'utf8').includes('require');
      expect(readdirSync(path.join(sources, folder)).includes('go.sum')).toBe(requires);
    }
  });

  it('name the Kubernetes version that go.mod pins', () => {
    const mod = readFileSync(path.join(sources, 'hyperkube', 'go.mod'), 'utf8');
    expect(mod).toContain(`k8s.io/kubernetes ${KUBERNETES_VERSION}\n`);
  });
});

it.each([
  ['1.21', '1.26.8', true],
  ['1.26.8', '1.26.8', false],
  ['1.26.10', '1.26.8', false],
  ['1.26rc1', '1.26.8', true],
  ['2.0', '1.26.8', false],
  ['', '1.26.8', true],
])('isOlder(%j, %j) is %j', (a, b, expected) => {
  expect(isOlder(a, b)).toBe(expected);
});
