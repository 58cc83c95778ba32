import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { makeApplier } from '../runtime/apply.ts';
import { makeEventRecorder } from '../runtime/events.ts';
import { ensureFinalizer, isBeingDeleted, removeFinalizer } from '../runtime/finalizers.ts';
import { silentLogger } from '../runtime/log.ts';
import { eventually } from '../runtime/testing/eventually.ts';
import type { KubeClient, RequestRecord } from './client.ts';
import { accessFrom, loadKubeConfig } from './config.ts';
import { isConflict, isForbidden, isInvalid, isNotFound, isUnauthorized } from './errors.ts';
import { makeKubeClient } from './http-client.ts';
import {
  ConfigMap,
  CustomResourceDefinition,
  controllerReference,
  defineResource,
  Event,
  type KubeObject,
  Namespace,
  Node,
  Pod,
  ReplicaSet,
  Secret,
  ServiceAccount,
} from './resource.ts';

const namespace = `client-${process.pid}`;
const records: RequestRecord[] = [];
let client: KubeClient;

beforeAll(async () => {
  const access = accessFrom(loadKubeConfig({ file: inject('kubeconfig') }));
  client = makeKubeClient({ access, userAgent: 'client-test/1', onRequest: (record) => records.push(record) });
  await client.create(Namespace, { metadata: { name: namespace } });
});

afterAll(async () => {
  await client.delete(Namespace, { name: namespace });
  await client.close();
});

const errorOf = (call: Promise<unknown>) =>
  call.then(
    () => undefined,
    (error: unknown) => error,
  );

interface WidgetObject extends KubeObject {
  readonly spec: { readonly size: number };
  readonly status?: { readonly phase?: string; readonly parts?: readonly string[] };
}

/** A custom resource of our own with a status subresource; stays until the control plane ends. */
async function installWidgets() {
  const group = 'client-test.example.com';
  const Widget = defineResource<WidgetObject>({
    group,
    version: 'v1',
    plural: 'widgets',
    kind: 'Widget',
    namespaced: true,
  });
  const status = {
    type: 'object',
    properties: { phase: { type: 'string' }, parts: { type: 'array', items: { type: 'string' } } },
  };
  const spec = { type: 'object', properties: { size: { type: 'integer' } } };
  await client.apply(CustomResourceDefinition, {
    metadata: { name: `widgets.${group}` },
    spec: {
      group,
      scope: 'Namespaced',
      names: { plural: 'widgets', kind: 'Widget' },
      versions: [
        {
          name: 'v1',
          served: true,
          storage: true,
          subresources: { status: {} },
          schema: { openAPIV3Schema: { type: 'object', properties: { spec, status } } },
        },
      ],
    },
  });
  await eventually(() =>
    client.list(Widget).then(
      () => true,
      () => false,
    ),
  );
  return Widget;
}

describe('the client against a real API server', () => {
  it('reads long lists in pages that belong together', async () => {
    const names = Array.from({ length: 25 }, (_value, index) => `page-${String(index).padStart(2, '0')}`);
    for (const name of names) await client.create(ConfigMap, { metadata: { name, namespace, labels: { a: 'pages' } } });
    const selector = { namespace, labelSelector: 'a=pages' };
    const first = await client.list(ConfigMap, { ...selector, limit: 10 });
    expect(first.continue).toBeDefined();
    // A change between pages must not show in the rest.
    await client.delete(ConfigMap, { name: 'page-24', namespace });
    const second = await client.list(ConfigMap, { ...selector, limit: 100, continue: first.continue });
    expect([...first.items, ...second.items].map((item) => item.metadata?.name)).toEqual(names);
    expect(second.resourceVersion).toBe(first.resourceVersion);
    const all = await client.listAll(ConfigMap, { ...selector, limit: 7 });
    expect(all.items).toHaveLength(24);
    expect(all.items[0]).toMatchObject({ apiVersion: 'v1', kind: 'ConfigMap' });
  });

  it('is told about fields that nobody knows, on create, update, patch and apply', async () => {
    const metadata = { name: 'strict', namespace };
    const wrong = { metadata, dta: { key: 'value' } } as never;
    const made = await client.create(ConfigMap, { metadata });
    const errors = [
      await errorOf(client.create(ConfigMap, wrong)),
      await errorOf(client.update(ConfigMap, { ...made, dta: {} } as never)),
      await errorOf(client.patch(ConfigMap, metadata, 'merge', { dta: {} })),
      await errorOf(client.apply(ConfigMap, wrong)),
    ];
    expect(errors.map((error) => isInvalid(error))).toEqual([true, true, true, true]);
    expect(String(errors[0])).toContain('unknown field "dta"');
    expect(String(errors[3])).toContain('.dta: field not declared in schema');
  });

  it('applies, sees a conflict with another manager, and takes the field by force', async () => {
    const object = (value: string) => ({ metadata: { name: 'owned', namespace }, data: { key: value } });
    await client.apply(ConfigMap, object('first'), { fieldManager: 'one' });
    const conflict = await errorOf(client.apply(ConfigMap, object('second'), { fieldManager: 'two' }));
    expect(isConflict(conflict)).toBe(true);
    expect(conflict).toMatchObject({ causes: [{ reason: 'FieldManagerConflict', field: '.data.key' }] });
    await client.apply(ConfigMap, object('second'), { fieldManager: 'two', force: true });
    // What a manager leaves out goes, when nobody else owns it.
    const rest = await client.apply(ConfigMap, { metadata: { name: 'owned', namespace } }, { fieldManager: 'two' });
    expect(rest.data).toBeUndefined();
  });

  it('writes nothing while nothing changed, although the server fills in defaults and spells quantities its way', async () => {
    const desired = {
      metadata: { name: 'idle', namespace, labels: {} },
      spec: {
        replicas: 0,
        selector: { matchLabels: { app: 'idle' } },
        template: {
          metadata: { labels: { app: 'idle' } },
          spec: {
            containers: [
              {
                name: 'server',
                image: 'example.com/image:1',
                resources: { requests: { cpu: '1000m', memory: '1024Mi' }, limits: { cpu: '0.5e1' } },
                ports: [{ containerPort: 8080 }, { containerPort: 11_434 }],
                env: [{ name: 'A', value: '' }],
              },
            ],
          },
        },
      },
    };
    const applier = makeApplier({ client, fieldManager: 'applier' });
    const { object } = await applier.apply(ReplicaSet, desired, undefined);
    const live = () => client.get(ReplicaSet, { name: 'idle', namespace });
    const before = records.length;
    for (let i = 0; i < 3; i++) {
      expect(await applier.apply(ReplicaSet, structuredClone(desired), await live())).toMatchObject({ written: false });
    }
    expect(records.slice(before).every((record) => record.verb === 'get')).toBe(true);
    // A new process has no memory: one apply, which changes nothing.
    const again = await makeApplier({ client, fieldManager: 'applier' }).apply(ReplicaSet, desired, await live());
    expect(again.object.metadata?.resourceVersion).toBe((await live()).metadata?.resourceVersion);
    expect(again.object.metadata?.generation).toBe(object.metadata?.generation);
    // Somebody scales by hand: noticed, and put right.
    await client.patch(ReplicaSet, { name: 'idle', namespace }, 'merge', { spec: { replicas: 3 } });
    const healed = await applier.apply(ReplicaSet, desired, await live());
    expect(healed).toMatchObject({ written: true, object: { spec: { replicas: 0 } } });
    await client.delete(ReplicaSet, { name: 'idle', namespace });
  });

  it('writes status only where it changed, and answers nothing about an object that merely has the same name', async () => {
    const Widget = await installWidgets();
    const ref = { name: 'a', namespace };
    const made = await client.create(Widget, { metadata: ref, spec: { size: 1 } });
    const applier = makeApplier({ client, fieldManager: 'applier' });
    const status = { phase: 'Working', parts: ['a', 'b'] };
    const first = await applier.writeStatusIfChanged(Widget, made, status);
    expect(first).toMatchObject({ written: true, object: { spec: { size: 1 }, status } });
    // The store has not caught up yet; then it has.
    expect(await applier.writeStatusIfChanged(Widget, made, status)).toMatchObject({ written: false });
    const live = await client.get(Widget, ref);
    expect(await applier.writeStatusIfChanged(Widget, live, { ...status })).toMatchObject({ written: false });
    const less = await applier.writeStatusIfChanged(Widget, live, { phase: 'Done' });
    expect(less?.object.status).toEqual({ phase: 'Done' });
    const unknown = await errorOf(applier.writeStatusIfChanged(Widget, live, { phse: 'Done' } as never));
    expect(isInvalid(unknown)).toBe(true);

    await client.delete(Widget, ref);
    expect(await applier.writeStatusIfChanged(Widget, live, status)).toBeUndefined();
    const twin = await client.create(Widget, { metadata: ref, spec: { size: 2 } });
    expect(await applier.writeStatusIfChanged(Widget, live, status)).toBeUndefined();
    const right = await applier.writeStatusIfChanged(Widget, twin, { phase: 'New' });
    expect(right?.object.status).toEqual({ phase: 'New' });

    // Built-in kinds refuse another uid in other words.
    const node = { name: `node-${process.pid}` };
    const old = await client.create(Node, { metadata: node });
    await client.delete(Node, node);
    await client.create(Node, { metadata: node });
    expect(await applier.writeStatusIfChanged(Node, old, { allocatable: { cpu: '1' } })).toBeUndefined();
    await client.delete(Node, node);
  });

  it('replaces only what it has read', async () => {
    const made = await client.create(ConfigMap, { metadata: { name: 'read', namespace } });
    await client.update(ConfigMap, { ...made, data: { a: '1' } });
    expect(isConflict(await errorOf(client.update(ConfigMap, { ...made, data: { a: '2' } })))).toBe(true);
    const preconditions = { uid: 'another' };
    expect(isConflict(await errorOf(client.delete(ConfigMap, { name: 'read', namespace }, { preconditions })))).toBe(
      true,
    );
  });

  it('keeps microseconds and unknown fields of what it read', async () => {
    const eventTime = '2030-01-01T00:00:00.123456Z';
    const event = await client.create(Event, {
      metadata: { name: 'precise', namespace },
      eventTime,
      reportingController: 'example.com/test',
      reportingInstance: 'test',
      action: 'Test',
      reason: 'Test',
      type: 'Normal',
      note: 'n',
      regarding: { kind: 'ConfigMap', name: 'a', namespace },
    });
    expect(event.eventTime).toBe(eventTime);
  });

  it('records events that the server accepts, and counts repetitions as a series', async () => {
    const about = await client.create(ConfigMap, { metadata: { name: 'eventful', namespace } });
    const recorder = makeEventRecorder({ client, log: silentLogger, controller: 'example.com/test' });
    for (let i = 0; i < 3; i++)
      recorder.record(ConfigMap, about, { type: 'Warning', reason: 'Odd', note: 'it is odd' });
    await recorder.flush();
    const events = await client.list(Event, { namespace, fieldSelector: 'regarding.name=eventful' });
    expect(events.items).toMatchObject([
      {
        reason: 'Odd',
        type: 'Warning',
        note: 'it is odd',
        reportingController: 'example.com/test',
        series: { count: 3 },
      },
    ]);
  });

  it('guards an object by a finalizer', async () => {
    const made = await client.create(ConfigMap, { metadata: { name: 'guarded', namespace } });
    const guarded = await ensureFinalizer(client, ConfigMap, made, 'example.com/guard');
    expect(guarded.metadata?.finalizers).toEqual(['example.com/guard']);
    expect(await ensureFinalizer(client, ConfigMap, guarded, 'example.com/guard')).toBe(guarded);
    expect(isConflict(await errorOf(ensureFinalizer(client, ConfigMap, made, 'example.com/other')))).toBe(true);
    await client.delete(ConfigMap, { name: 'guarded', namespace });
    const going = await client.get(ConfigMap, { name: 'guarded', namespace });
    expect(isBeingDeleted(going)).toBe(true);
    await removeFinalizer(client, ConfigMap, going, 'example.com/guard');
    expect(await client.find(ConfigMap, { name: 'guarded', namespace })).toBeUndefined();
    await removeFinalizer(client, ConfigMap, going, 'example.com/guard');
  });

  it('owns children that the garbage collector takes along', async () => {
    const owner = await client.create(ConfigMap, { metadata: { name: 'owner', namespace } });
    const reference = controllerReference(ConfigMap, owner);
    const child = await client.create(Secret, { metadata: { name: 'child', namespace, ownerReferences: [reference] } });
    expect(child.metadata?.ownerReferences).toEqual([reference]);
  });

  it('follows a watch with a selector', async () => {
    const { resourceVersion } = await client.list(ConfigMap, { namespace });
    const seen: string[] = [];
    const ending = new AbortController();
    const watching = (async () => {
      const options = { namespace, labelSelector: 'w=1', resourceVersion, signal: ending.signal };
      for await (const event of client.watch(ConfigMap, options)) {
        if (event.type !== 'BOOKMARK') seen.push(`${event.type} ${event.object.metadata?.name}`);
        if (event.type === 'DELETED') break;
      }
    })();
    const metadata = { name: 'watched', namespace, labels: { w: '1' } };
    await client.create(ConfigMap, { metadata });
    await client.patch(ConfigMap, metadata, 'merge', { data: { a: '1' } });
    // Leaves the selector: deleted, as far as this watch is concerned.
    await client.patch(ConfigMap, metadata, 'merge', { metadata: { labels: { w: '2' } } });
    await watching;
    expect(seen).toEqual(['ADDED watched', 'MODIFIED watched', 'DELETED watched']);
  });

  it('makes few connections for many calls', async () => {
    const before = records.length;
    await Promise.all(Array.from({ length: 50 }, () => client.get(Namespace, { name: namespace })));
    expect(records.slice(before).map((record) => record.code)).toEqual(Array.from({ length: 50 }, () => '200'));
  });

  it('asks whose token it is, and goes on with a new one when a token file is replaced', async () => {
    await client.create(ServiceAccount, { metadata: { name: 'reader', namespace } });
    const issue = async (audiences?: string[]) => {
      const request = await client.request<{ status: { token: string } }>({
        method: 'POST',
        path: `/api/v1/namespaces/${namespace}/serviceaccounts/reader/token`,
        body: {
          apiVersion: 'authentication.k8s.io/v1',
          kind: 'TokenRequest',
          spec: { expirationSeconds: 600, audiences },
        },
      });
      return request.status.token;
    };
    const own = await issue(['widgets']);
    const review = await client.reviewToken(own, ['widgets']);
    expect(review).toMatchObject({
      authenticated: true,
      audiences: ['widgets'],
      user: { username: `system:serviceaccount:${namespace}:reader` },
    });
    expect((await client.reviewToken(own, ['gadgets'])).authenticated ?? false).toBe(false);
    expect((await client.reviewToken('nonsense')).authenticated ?? false).toBe(false);

    const folder = await mkdtemp(path.join(tmpdir(), 'token-test-'));
    const file = path.join(folder, 'token');
    await writeFile(file, await issue());
    const config = loadKubeConfig({ file: inject('kubeconfig') });
    const cluster = config.getCurrentCluster();
    if (cluster === null) throw new Error('no cluster');
    config.loadFromClusterAndUser(cluster, {
      name: 'reader',
      authProvider: { name: 'tokenFile', config: { tokenFile: file } },
    });
    const calls: string[] = [];
    const reader = makeKubeClient({
      access: accessFrom(config),
      userAgent: 'reader/1',
      onRequest: (record) => calls.push(record.code),
    });
    try {
      const read = () => errorOf(reader.get(Pod, { name: 'a', namespace }));
      const denied = await read();
      expect(isForbidden(denied)).toBe(true);
      expect(String(denied)).toContain(`system:serviceaccount:${namespace}:reader`);
      await writeFile(file, 'broken');
      reader.refreshCredentials();
      expect(isUnauthorized(await read())).toBe(true);
      await writeFile(file, await issue());
      expect(isForbidden(await read())).toBe(true);
      expect(calls).toEqual(['403', '401', '401', '401', '403']);
    } finally {
      await reader.close();
      await rm(folder, { recursive: true });
    }
  });

  it('loads a context by name, and says which there are', () => {
    const file = inject('kubeconfig');
    const [context] = loadKubeConfig({ file }).getContexts();
    expect(loadKubeConfig({ file, context: context?.name ?? '' }).getCurrentContext()).toBe(context?.name);
    expect(() => loadKubeConfig({ file, context: 'none' })).toThrow(
      `the kubeconfig has no context none; it has: ${context?.name}`,
    );
  });

  it('is not found where the resource is not served', async () => {
    expect(isNotFound(await errorOf(client.request({ method: 'GET', path: '/apis/example.com/v1/widgets' })))).toBe(
      true,
    );
    expect(await client.request({ method: 'GET', path: '/healthz' })).toBe('ok');
  });
});
