/**
 * One model behind a credential, served by a deployment of another namespace: who is let in and out by labels, what stays in the model's
 * namespace, and going back to a revision whose bytes no node holds any more.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { lab, makeDeployment, makeModel, nodes, openHub, type TestHub } from './context.ts';
import { condition, holds, type TestNamespace, until } from './harness.ts';

const TOKEN = 'let-me-in-too';

interface Pod {
  readonly metadata: { readonly name: string; readonly uid: string; readonly deletionTimestamp?: string };
}

let hub: TestHub;
let owner: TestNamespace;
let team: TestNamespace;
let sha256 = '';

const deployment = () => lab.deployment(team.name, 'chat');
const label = (value: string) =>
  lab.kubectl('label', '--overwrite', 'namespace', team.name, `example.com/models${value}`);
const pods = async () =>
  (await lab.list<Pod>('pods', '-n', team.name, '-l', 'slm.dev/deployment=chat')).filter(
    ({ metadata }) => metadata.deletionTimestamp === undefined,
  );
const isServed = (count: number) =>
  until(
    `${count} pods are ready`,
    deployment,
    (one) => holds(one, 'Ready') && one?.status?.readyReplicas === count && one.status.replicas === count,
    { timeoutMs: 240_000 },
  );

async function applyModel(file: string): Promise<void> {
  const object = makeModel(owner.name, 'lm', hub, file, sha256);
  Object.assign(object.spec.source, { secretRef: { name: 'token' } });
  Object.assign(object.spec, {
    allowedNamespaces: { from: 'Selector', selector: { matchLabels: { 'example.com/models': 'shared' } } },
  });
  await lab.apply(object);
}

/** Answered by the Service of the deployment, whichever pod it is. */
async function answers(): Promise<number> {
  await using forward = await lab.forward(team.name, 'chat');
  const response = await fetch(`${forward.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'chat', max_tokens: 4, messages: [{ role: 'user', content: 'Hello' }] }),
  });
  await response.text();
  return response.status;
}

/** Nodes that are to hold, and those that hold, the latest revision of before. */
async function holding(digest: string): Promise<{ wanted: number; namespaces: string[]; ready: number }> {
  const caches = await lab.nodeCaches();
  const wanted = caches.flatMap(({ spec }) => spec?.wanted?.filter((entry) => entry.digest === digest) ?? []);
  const ready = caches.filter(({ status }) =>
    status?.entries?.some((entry) => entry.digest === digest && entry.state === 'Ready'),
  );
  return {
    wanted: wanted.length,
    namespaces: [...new Set(wanted.flatMap((entry) => entry.namespaces))].sort(),
    ready: ready.length,
  };
}

beforeAll(async () => {
  hub = await openHub({ token: TOKEN });
  [owner, team] = await Promise.all([lab.namespace('models'), lab.namespace('team')]);
  ({ sha256 } = await hub.addModel('one.gguf'));
  await hub.addModel('two.gguf');
  await lab.apply({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { namespace: owner.name, name: 'token' },
    stringData: { bearer: TOKEN },
  });
  await applyModel('one.gguf');
  await lab.apply(
    makeDeployment(team.name, 'chat', 'lm', {
      modelRef: { name: 'lm', namespace: owner.name },
      replicas: 2,
      auth: { type: 'None' },
    }),
  );
});
afterAll(async () => {
  await Promise.all([owner?.[Symbol.asyncDispose](), team?.[Symbol.asyncDispose]()]);
  await hub?.[Symbol.asyncDispose]();
});

it('is refused where the owner lets nobody in, and no node pulls for it', async () => {
  const one = await until(
    'it says who may',
    deployment,
    (it) => condition(it, 'Stalled')?.reason === 'ModelNotAllowed',
  );
  expect(condition(one, 'Ready')?.message).toContain(
    `SLMModel ${owner.name}/lm may be used from namespace ${owner.name} and namespaces with the labels example.com/models=shared only`,
  );
  await until(
    'the model is resolved',
    () => lab.model(owner.name, 'lm'),
    (model) => condition(model, 'Resolved')?.status === 'True',
  );
  const digest = (await lab.model(owner.name, 'lm'))?.status?.latestRevision?.digest ?? '';
  expect(await holding(digest)).toMatchObject({ wanted: 0 });
});

it('is served with a label, and nothing of the credential comes along', async () => {
  await label('=shared');
  await isServed(2);
  expect(await answers()).toBe(200);
  const model = await lab.model(owner.name, 'lm');
  const digest = model?.status?.latestRevision?.digest ?? '';
  expect(await holding(digest)).toEqual({
    wanted: nodes.length,
    namespaces: [owner.name, team.name].sort(),
    ready: nodes.length,
  });
  await until(
    'the model says who serves it',
    () => lab.model(owner.name, 'lm'),
    (it) => it?.status?.revisions?.[0]?.usedBy?.join() === `${team.name}/chat`,
  );
  const there = await lab.kubectl('get', 'secrets,configmaps,pods,replicasets', '-n', team.name, '-o', 'json');
  expect(there).not.toContain(TOKEN);
  expect(there).not.toContain(Buffer.from(TOKEN).toString('base64'));
  const seen = await lab.kubectl('get', 'slmmodels,slmdeployments,slmnodecaches', '-A', '-o', 'json');
  expect(seen).not.toContain(TOKEN);
});

it('without the label its pods serve on, a new one is refused by its node with the reason, and comes when the label is back', async () => {
  const [first, second] = await pods();
  await label('-');
  await until('it says so', deployment, (one) => condition(one, 'Stalled')?.reason === 'ModelNotAllowed');
  expect(condition(await deployment(), 'Available')?.status).toBe('True');
  await until(
    'nodes let its namespace in no more',
    async () =>
      (await lab.nodeCaches()).flatMap(({ spec }) => spec?.wanted?.flatMap((entry) => entry.namespaces) ?? []),
    (namespaces) => !namespaces.includes(team.name),
  );
  await lab.kubectl('-n', team.name, 'delete', 'pod', first?.metadata.name ?? '', '--wait=false');
  const events = await until(
    'the mount of the new pod is refused with the reason',
    () =>
      lab.list<{ reason: string; message: string }>(
        'events',
        '-n',
        team.name,
        '--field-selector',
        'reason=FailedMount',
      ),
    (list) => list.some(({ message }) => message.includes('may not mount model')),
    { timeoutMs: 180_000 },
  );
  expect(events.find(({ message }) => message.includes('may not mount'))?.message).toContain('spec.allowedNamespaces');
  expect((await pods()).map(({ metadata }) => metadata.uid)).toContain(second?.metadata.uid);
  expect(await answers()).toBe(200);
  await label('=shared');
  await isServed(2);
});

it('goes back to a revision that no node holds any more: it is pulled again, and users are served meanwhile', async () => {
  const before = (await isServed(2))?.status?.currentRevision ?? '';
  const old = (await lab.model(owner.name, 'lm'))?.status?.latestRevision;
  // The same bytes under another path are another revision, since the list of files differs.
  await applyModel('two.gguf');
  const moved = await until(
    'the new revision is complete',
    deployment,
    (one) => holds(one, 'Ready') && one?.status?.currentRevision !== before && one?.status?.replicas === 2,
    { timeoutMs: 240_000 },
  );
  expect((await lab.model(owner.name, 'lm'))?.status?.revisions?.map(({ name }) => name)).toContain(old?.name);
  await until(
    'nodes drop what nobody serves',
    () => holding(old?.digest ?? ''),
    ({ wanted, ready }) => wanted === 0 && ready === 0,
  );

  const back = JSON.stringify({ spec: { rollbackTo: { revision: before } } });
  await lab.kubectl('-n', team.name, 'patch', 'slmd/chat', '--type=merge', '-p', back);
  const available: (string | undefined)[] = [];
  const done = await until(
    'the revision of before serves again',
    async () => {
      const one = await deployment();
      available.push(condition(one, 'Available')?.status);
      return one;
    },
    (one) => holds(one, 'Ready') && one?.status?.currentRevision === before && one.status.replicas === 2,
    { timeoutMs: 240_000 },
  );
  expect([...new Set(available)]).toEqual(['True']);
  expect(done?.status?.currentRevision).not.toBe(moved?.status?.currentRevision);
  expect(await answers()).toBe(200);
  expect((await holding(old?.digest ?? '')).wanted).toBeGreaterThan(0);
});
