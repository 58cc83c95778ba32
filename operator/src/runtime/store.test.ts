import { describe, expect, it } from 'vitest';
import type { KubeObject } from '../kube/resource.ts';
import { deepFreeze, makeStore } from './store.ts';
import { makeMirror } from './testing/mirror.ts';

interface Thing extends KubeObject {
  readonly tags?: readonly string[];
}

let version = 0;
function makeThing(name: string, tags: readonly string[] = [], uid = `uid-${name}`): Thing {
  return { metadata: { name, namespace: name.slice(0, 1), uid, resourceVersion: String(++version) }, tags };
}

function names(objects: readonly Thing[]): string[] {
  return objects.map((object) => object.metadata?.name ?? '').sort();
}

describe('store', () => {
  it('finds objects by key, namespace and index, and forgets old index values', () => {
    const store = makeStore<Thing>(() => undefined);
    store.addIndex('tag', (thing) => thing.tags);
    store.replace([makeThing('a1', ['x', 'y']), makeThing('a2', ['x']), makeThing('b1')]);
    expect(names(store.byIndex('tag', 'x'))).toEqual(['a1', 'a2']);
    expect(names(store.inNamespace('a'))).toEqual(['a1', 'a2']);
    store.put(makeThing('a1', ['z']));
    expect(names(store.byIndex('tag', 'x'))).toEqual(['a2']);
    expect(names(store.byIndex('tag', 'z'))).toEqual(['a1']);
    store.remove(makeThing('a1'));
    expect(store.byIndex('tag', 'z')).toEqual([]);
    expect(store.get('a/a1')).toBeUndefined();
  });

  it('builds an index that comes late from what is there', () => {
    const store = makeStore<Thing>(() => undefined);
    store.replace([makeThing('a1', ['x'])]);
    store.addIndex('tag', (thing) => thing.tags);
    expect(names(store.byIndex('tag', 'x'))).toEqual(['a1']);
    expect(() => store.addIndex('tag', () => 'other')).toThrow('the store already has another index tag');
    expect(() => store.byIndex('none', 'x')).toThrow('the store has no index none: add it with addIndex');
  });

  it('keeps an object that its index function cannot read', () => {
    const errors: unknown[] = [];
    const store = makeStore<Thing>((error) => errors.push(error));
    store.addIndex('bad', () => {
      throw new Error('cannot read');
    });
    store.replace([makeThing('a1')]);
    expect(store.size).toBe(1);
    expect(errors).toHaveLength(1);
  });

  it('tells a new handler what is there already, then what changes, and stops on request', () => {
    const store = makeStore<Thing>(() => undefined);
    store.replace([makeThing('a1')]);
    const seen: string[] = [];
    const end = store.subscribe((event) => seen.push(`${event.type} ${event.key}`));
    store.put(makeThing('a2'));
    end();
    store.put(makeThing('a3'));
    expect(seen).toEqual(['add a/a1', 'add a/a2']);
  });

  it('is silent about an object that has not changed', () => {
    const store = makeStore<Thing>(() => undefined);
    const thing = makeThing('a1');
    store.replace([thing]);
    const mirror = makeMirror(store);
    store.put({ ...thing });
    store.replace([thing]);
    expect(mirror.events).toEqual(['add a/a1']);
  });

  it('is synced after the first complete list, even an empty one', async () => {
    const store = makeStore<Thing>(() => undefined);
    expect(store.synced).toBe(false);
    const synced = store.whenSynced();
    store.replace([]);
    await synced;
    expect(store.synced).toBe(true);
    const reason = new Error('enough');
    await expect(makeStore<Thing>(() => undefined).whenSynced(AbortSignal.abort(reason))).rejects.toBe(reason);
  });

  it('freezes at any depth', () => {
    const object = deepFreeze({ a: [{ b: 1 }] });
    expect(() => Object.assign(object.a[0] ?? {}, { b: 2 })).toThrow(TypeError);
  });
});
